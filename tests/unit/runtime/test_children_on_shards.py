"""A parent and its child on different servers of a store, one of which is down for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from floxide_amqp import ChildWorkflow, RunStatus, Workflow, WorkflowCtx, node
from floxide_amqp.core.ids import RunId, derive_item_id, slot_of
from floxide_amqp.core.kin import derive_child_id
from floxide_amqp.drivers.sharded import ShardedKeyValueStore
from tests.unit.runtime.test_shards import ShardedCluster, status_of


@node
async def working(ctx: WorkflowCtx[Any], x: int) -> int:
    await ctx.sleep(5)
    return x + 1


class Inner(Workflow[int, int]):
    start = working
    edges = (working,)


class Outer(Workflow[int, int]):
    start = ChildWorkflow(Inner)
    edges = (start,)


def child_of(parent: str) -> RunId:
    """The run that the first item of a parent starts at its first try."""
    run_id = RunId(parent)
    return derive_child_id(run_id, derive_item_id(run_id, "", "start"), 1)


def parents(here: ShardedCluster, shard: str, childs: str, count: int) -> list[str]:
    """Ids of parents on one server whose children are on another."""
    store = ShardedKeyValueStore(here.disks)
    found = [run_id for run_id in here.ids_on(shard, 200) if store.shard_of(slot_of(child_of(run_id))) == childs]
    return found[:count]


@pytest_asyncio.fixture
async def here() -> AsyncIterator[ShardedCluster]:
    cluster = ShardedCluster(Outer)
    yield cluster
    for server in cluster.servers.values():
        server.heal()
    await cluster.close()
    assert [disk.violations for disk in cluster.disks.values()] == [[], [], []]


async def until_status(here: ShardedCluster, run_id: str, status: RunStatus) -> None:
    while await status_of(here, run_id) is not status:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.5)


@pytest.mark.asyncio
async def test_a_parent_waits_until_its_childs_server_is_back_and_others_do_not(here: ShardedCluster) -> None:
    (parent,), (other,) = parents(here, "anna", "bert", 1), parents(here, "anna", "cleo", 1)
    client = here.client()
    await client.start(Outer, 1, run_id=parent)
    await client.start(Outer, 2, run_id=other)
    here.servers["bert"].cut()
    await here.start_worker()
    await until_status(here, other, RunStatus.COMPLETED)
    assert await status_of(here, parent) is RunStatus.RUNNING
    here.servers["bert"].heal()
    await until_status(here, parent, RunStatus.COMPLETED)
    assert await status_of(here, child_of(parent)) is RunStatus.COMPLETED
    assert await here.settle() == {}


@pytest.mark.asyncio
async def test_a_child_ends_while_its_parents_server_is_down_and_the_parent_hears_of_it(here: ShardedCluster) -> None:
    (parent,) = parents(here, "anna", "bert", 1)
    await here.client().start(Outer, 1, run_id=parent)
    member = await here.start_worker()
    while await member.services.runs.find(child_of(parent)) is None:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    here.servers["anna"].cut()
    await until_status(here, child_of(parent), RunStatus.COMPLETED)
    await asyncio.sleep(60)
    assert here.disks["bert"].leftovers("letters")
    here.servers["anna"].heal()
    await until_status(here, parent, RunStatus.COMPLETED)
    assert not here.disks["bert"].leftovers("letters")


@pytest.mark.asyncio
async def test_cancelling_reaches_a_child_when_its_server_is_back(here: ShardedCluster) -> None:
    (parent,) = parents(here, "anna", "bert", 1)
    client = here.client()
    await client.start(Outer, 1, run_id=parent)
    member = await here.start_worker()
    while await member.services.runs.find(child_of(parent)) is None:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    here.servers["bert"].cut()
    assert await client.cancel(parent)
    await asyncio.sleep(30)
    here.servers["bert"].heal()
    while not (await status_of(here, child_of(parent))).is_terminal:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.5)
    while any(disk.leftovers("letters") for disk in here.disks.values()):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.5)
    assert await status_of(here, parent) is RunStatus.CANCELLED
