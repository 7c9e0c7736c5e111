"""Timers that are due, that wait, and that cannot be fired; and what a worker remembers of those that wait."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from floxide_amqp import Hold, Next, RunStatus, Workflow, WorkflowCtx, node
from floxide_amqp.core.context import NoContext
from floxide_amqp.core.ids import RunId, Slot, slot_of
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.ports.key_value import Batch, Enter, Put, Read
from floxide_amqp.runtime.due_timers import PAGE, DueTimers
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.runtime.side_by_side import AT_ONCE
from floxide_amqp.stores import keys
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]

IS_LARGE = bool(os.environ.get("FLOXIDE_LARGE_TESTS"))
"""Set for the sizes that are promised; a fraction of them otherwise, so that the tests stay quick."""


def napping(seconds: float) -> Any:
    """A workflow that is held for a while."""
    woken: set[str] = set()

    @node
    async def nap(ctx: WorkflowCtx[NoContext], n: int) -> Next[int] | Hold:
        if ctx.run_id in woken:
            return Next(n)
        woken.add(ctx.run_id)
        return Hold(for_=timedelta(seconds=seconds))

    class Napping(Workflow[int, int]):
        start = nap
        edges = ()

    return Napping


async def put_unreadable_timers(here: Cluster, count: int) -> None:
    due = here.client().services.now_ms() - 1000
    entries = [Enter(keys.TIMERS, f"{due:014d}:item-{n}:1:gone", b"\xc1") for n in range(count)]
    await here.store.commit([Batch(slot=Slot(3), writes=tuple(entries))])


async def test_timers_that_cannot_be_fired_do_not_keep_those_behind_them_from_firing(cluster: MakeCluster) -> None:
    workflow = napping(150)
    here = cluster(workflow)
    await here.start_worker()
    await put_unreadable_timers(here, PAGE + 200)
    handle = await here.client().start(workflow, 3, run_id="run")
    assert await handle.result(160) == 3
    services = here.client().services
    assert await services.indexes.due_timers(services.now_ms()) == []


async def test_a_timer_that_cannot_be_fired_is_set_aside_with_its_reason_and_tried_ever_more_rarely(
    cluster: MakeCluster,
) -> None:
    here = cluster(napping(1))
    await here.start_worker()
    await put_unreadable_timers(here, 1)
    indexes = here.client().services.indexes
    await asyncio.sleep(100)
    (early,) = await indexes.timers_set_aside()
    assert "CodecError" in early.reason
    assert 5 <= early.failures <= 8
    await asyncio.sleep(3 * 3600)
    (late,) = await indexes.timers_set_aside()
    assert early.failures + 4 <= late.failures <= early.failures + 9  # at last one try an hour


async def test_a_timer_set_aside_fires_once_what_kept_it_from_firing_is_gone(cluster: MakeCluster) -> None:
    workflow = napping(150)
    here = cluster(workflow)
    await here.start_worker()
    handle = await here.client().start(workflow, 3, run_id="run")
    await asyncio.sleep(10)
    header, slot = keys.header(RunId("run")), slot_of(RunId("run"))
    intact = (await here.store.read([Read(slot=slot, cells=(header,))])).snapshots[0].cells[0].value
    await here.store.commit([Batch(slot=slot, writes=(Put(header, b"\xc1"),))])
    await asyncio.sleep(200)
    indexes = here.client().services.indexes
    assert len(await indexes.timers_set_aside()) == 1
    await here.store.commit([Batch(slot=slot, writes=(Put(header, intact),))])
    assert await handle.result(200) == 3
    assert await indexes.timers_set_aside() == []
    await here.check_completed("run")


async def test_runs_that_wait_for_long_hold_no_memory_of_their_worker_and_cost_its_rounds_nothing(
    cluster: MakeCluster,
) -> None:
    workflow, count = napping(3600), 100_000 if IS_LARGE else 1_000
    here = cluster(workflow, limits=Limits(concurrency=100, cached_runs=50))
    member = await here.start_worker()
    client = here.client()
    for first in range(0, count, 500):
        await asyncio.gather(*(client.start(workflow, n, run_id=f"run-{n}") for n in range(first, first + 500)))
    await asyncio.sleep(30)
    assert len(await here.store.entries(keys.TIMERS)) == min(count, 100_000)
    assert member.worker._timers._heap == []
    assert len(member.services.cache._runs) <= 50
    assert len(member.services.inflight) == 0
    read = 0
    scan = member.store.scan

    async def counting(index_range: Any) -> Any:
        nonlocal read
        found = await scan(index_range)
        read += len(found)
        return found

    member.store.scan = counting  # type: ignore[method-assign]
    await asyncio.sleep(100)
    assert read <= 2 * 100  # the worker's own entry, and next to nothing besides: not one per run that waits
    await asyncio.sleep(3700)
    assert await client.status("run-0") is RunStatus.COMPLETED
    assert await here.settle(600) == {}


@pytest.mark.fault(53)
async def test_a_storm_of_retries_is_spread_and_published_in_bounded_bursts(cluster: MakeCluster) -> None:
    count = 10_000 if IS_LARGE else 1_000
    failed: set[str] = set()
    again_at: list[float] = []

    @node(retry=RetryPolicy(max_attempts=3, initial_backoff=timedelta(seconds=20)))
    async def flaky(ctx: WorkflowCtx[NoContext], n: int) -> int:
        if ctx.run_id not in failed:
            failed.add(ctx.run_id)
            raise RuntimeError("everything is down")
        again_at.append(asyncio.get_running_loop().time())
        return n

    class Storm(Workflow[int, int]):
        start = flaky
        edges = ()

    here = cluster(Storm, limits=Limits(concurrency=50))
    member = await here.start_worker()
    under_way = most = 0
    publish = member.queue.publish

    async def counted(messages: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        try:
            return await publish(messages)
        finally:
            under_way -= 1

    member.queue.publish = counted  # type: ignore[method-assign]
    client = here.client()
    for first in range(0, count, 500):
        await asyncio.gather(*(client.start(Storm, n, run_id=f"run-{n}") for n in range(first, first + 500)))
    await asyncio.sleep(120)
    assert len(again_at) == count
    assert max(again_at) - min(again_at) > 3  # the backoff's jitter spreads them
    assert most <= 2 * AT_ONCE  # the worker's own timers, and those that maintenance fires
    assert await here.settle() == {}


async def test_a_timer_that_a_process_is_firing_is_not_fired_by_its_maintenance_as_well(cluster: MakeCluster) -> None:
    workflow = napping(10)
    here = cluster(workflow)
    worker = await here.start_worker()
    handle = await here.client().start(workflow, 3, run_id="run")
    while not here.store.leftovers("timers"):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    await worker.kill()
    await asyncio.sleep(20)
    services = here.client().services
    (due,) = await services.indexes.due_timers(services.now_ms())
    with services.own_timers.firing(due.timer()) as may_fire:
        assert may_fire
        await DueTimers(services).fire()
        assert services.figures.timers_fired == 0
    await DueTimers(services).fire()
    assert services.figures.timers_fired == 1
    await here.start_worker()
    assert await handle.result(60) == 3
