"""What reviewers of suspects and deferred publishes found: doors that stayed shut, and copies that multiplied."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from floxide_amqp import RunStatus, Workflow, node
from floxide_amqp.core import moves
from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.exceptions import StoreFullError
from floxide_amqp.ports.key_value import Batch
from floxide_amqp.ports.work_queue import Message, PublishOutcome
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.testing.queue_faults import FaultyWorkQueue
from tests.unit.runtime.cluster import QUICK, Cluster

MakeCluster = Callable[..., Cluster]
SHORT = replace(QUICK, company=4.0)


@node
async def sleep_for(x: int) -> int:
    await asyncio.sleep(x)
    return x


class Sleeping(Workflow[int, int]):
    start = sleep_for
    edges = ()


async def item_of(here: Cluster, run_id: str) -> Any:
    items = here.client().services.items
    return (await items.find(RunId(run_id), await items.live_ids(RunId(run_id))))[0]


async def suspect(here: Cluster, run_id: str) -> None:
    """What two deaths leave behind."""
    found = await item_of(here, run_id)
    key, slot = keys.item(RunId(run_id), found.item.item_id), slot_of(RunId(run_id))
    cells = here.store._slots[slot].cells
    cells[key] = cells[key]._replace(value=codec.encode_item(replace(found.item, deaths=2, lost=2)))


async def test_a_second_suspect_begins_when_the_first_has_company(cluster: MakeCluster) -> None:
    here = cluster(Sleeping, timeouts=SHORT)
    client = here.client()
    first = await client.start(Sleeping, 20_000, run_id="first")
    second = await client.start(Sleeping, 1, run_id="second")
    for run_id in ("first", "second"):
        await suspect(here, run_id)
    await here.start_worker()
    assert await second.wait(200) is RunStatus.COMPLETED
    assert await first.status() is not RunStatus.COMPLETED


async def test_the_door_opens_when_others_took_the_suspect_away(cluster: MakeCluster) -> None:
    here = cluster(Sleeping, timeouts=SHORT)
    client = here.client()
    await client.start(Sleeping, 5_000, run_id="away")
    await suspect(here, "away")
    await here.start_worker()
    await asyncio.sleep(QUICK.early_acknowledge + 2)
    services = client.services
    run, found = await services.runs.find_with_item(RunId("away"), (await item_of(here, "away")).item.item_id)
    assert run is not None
    assert found is not None
    assert not found.item.spared
    decision = moves.give_back(
        found.item, found.turn, run.state, run.epoch, services.now_ms(), services.name, died=True
    )
    await services.commit(run.writer, decision)
    neighbour = await client.start(Sleeping, 1, run_id="neighbour")
    assert await neighbour.wait(60) is RunStatus.COMPLETED


@pytest.mark.fault(30)
async def test_a_full_store_does_not_cancel_what_is_at_work(cluster: MakeCluster) -> None:
    began: list[int] = []

    @node
    async def work(x: int) -> int:
        began.append(x)
        await asyncio.sleep(200)
        return x

    class Working(Workflow[int, int]):
        start = work
        edges = ()

    here = cluster(Working)
    run = await here.client().start(Working, 1, run_id="run")
    member = await here.start_worker()
    await asyncio.sleep(2)

    async def full(batches: Sequence[Batch]) -> None:
        raise StoreFullError(store="faulty", reason="injected")

    before, member.store.before_commit = member.store.before_commit, full
    await asyncio.sleep(120)
    member.store.before_commit = before
    assert await run.wait(1_000) is RunStatus.COMPLETED
    assert began == [1]


async def test_copies_of_a_message_that_nothing_confirms_become_one_and_do_not_multiply(cluster: MakeCluster) -> None:
    here = cluster(Sleeping)
    members = [await here.start_worker() for _ in range(3)]
    client = here.client()
    queues: list[Any] = [client.services.queue, *(member.queue for member in members)]
    for queue in queues:
        queue.publish = functools.partial(_unknown, queue)
    for n in range(4):
        await client.start(Sleeping, 1, run_id=f"run-{n}")
    published: list[int] = []
    for _ in range(3):
        await asyncio.sleep(1_000)
        published.append(sum(len(member.queue.published) for member in members))
    assert published[2] - published[1] <= 1.5 * (published[1] - published[0])
    left = here.store.leftovers("timers", "messages")
    assert {len(entries) for entries in left.values()} == {4}, left


async def _unknown(queue: FaultyWorkQueue, messages: Sequence[Message]) -> Sequence[PublishOutcome]:
    """A broker that is out of reach."""
    queue.published += messages
    return [PublishOutcome.UNKNOWN] * len(messages)
