"""Parked items: found by the workers that have their node, passed over by all others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from floxide_amqp import RunStatus, Workflow, WorkItemStatus, node
from floxide_amqp.runtime.settings import Limits
from tests.unit.runtime.cluster import Cluster, Member

MakeCluster = Callable[..., Cluster]


@node
async def first_step(x: int) -> int:
    return x


@node
async def second_step(x: int) -> int:
    return x + 1


def shop(*, with_second: bool) -> Any:
    """Two releases of the same workflow and version: the older one lacks a node."""

    class Shop(Workflow[int, int]):
        start = first_step
        edges = (first_step >> second_step,) if with_second else ()

    return Shop


class Plain(Workflow[int, int]):
    start = first_step.named("plain")
    edges = ()


class Other(Workflow[int, int]):
    start = first_step.named("other")
    edges = ()


def count_reads(member: Member) -> list[str]:
    """Which runs the worker reads from now on."""
    read: list[str] = []
    find = member.services.runs.find_with_item

    async def noting(run_id: Any, item_id: Any) -> Any:
        read.append(run_id)
        return await find(run_id, item_id)

    member.services.runs.find_with_item = noting  # type: ignore[method-assign]
    return read


async def test_items_that_nobody_can_run_are_not_read_round_after_round(cluster: MakeCluster) -> None:
    here = cluster(Plain, Other)
    member = await here.start_worker(workflows=[Other], queues=["default"])
    client = here.client()
    await asyncio.gather(*(client.start(Plain, n, run_id=f"run-{n}") for n in range(600)))
    await asyncio.sleep(20)
    assert len(await client.services.indexes.parked("default", limit=1000)) == 600
    read = count_reads(member)
    await asyncio.sleep(60)
    assert read == []
    await here.start_worker(workflows=[Plain], queues=["default"])
    assert await here.settle(400) == {}
    assert await client.status("run-599") is RunStatus.COMPLETED


async def test_an_item_whose_node_alone_is_missing_waits_without_being_read_and_is_run_by_who_has_it(
    cluster: MakeCluster,
) -> None:
    new, old = shop(with_second=True), shop(with_second=False)
    here = cluster(new, limits=Limits(chain_steps=1))
    client = here.client()
    await client.start(new, 1, run_id="run")
    newer, *_ = here.worker_of(queues=["default"])
    assert await newer.run_once()
    member = await here.start_worker(workflows=[old], queues=["default"])
    await asyncio.sleep(30)
    (item,) = await client.pending_work("run")
    assert (item.status, item.node) == (WorkItemStatus.PARKED, "second_step")
    read = count_reads(member)
    await asyncio.sleep(60)
    assert read == []
    await here.start_worker(workflows=[new], queues=["default"])
    assert await client.handle(new, "run").result(200) == 2
    await here.check_completed("run")


async def test_an_item_behind_many_that_nobody_has_is_found_at_once(cluster: MakeCluster) -> None:
    here = cluster(Plain, Other)
    nobody = await here.start_worker(workflows=[shop(with_second=True)], queues=["default"])
    client = here.client()
    await asyncio.gather(*(client.start(Plain, n, run_id=f"run-{n}") for n in range(600)))
    handle = await client.start(Other, 7, run_id="z-behind")
    await asyncio.sleep(20)
    assert len(await client.services.indexes.parked("default", limit=1000)) == 601
    await nobody.stop()
    await here.start_worker(workflows=[Other], queues=["default"])
    assert await handle.result(5) == 7
