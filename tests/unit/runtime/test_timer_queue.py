"""The timers that a process fires itself: those that are due first, where there are too many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from floxide_amqp import Hold, Next, RunTimeoutError, Workflow, WorkflowCtx, node
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.timers import Timer
from floxide_amqp.runtime import timers
from tests.unit.runtime.cluster import QUICK, Cluster

MakeCluster = Callable[..., Cluster]


@node
async def hold_for_ever(ctx: WorkflowCtx, seconds: float) -> Next[float] | Hold:
    return Hold(for_=timedelta(days=300))


class Holding(Workflow[float, float], timeout=timedelta(hours=10, minutes=5)):
    start = hold_for_ever


async def test_of_too_many_timers_those_due_first_are_kept(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "MAX_LOCAL", 2)
    fired: list[int] = []

    async def note(services: object, timer: Timer) -> bool:
        fired.append(timer.due_ms - began)
        return True

    monkeypatch.setattr(timers, "fire", note)
    services = cluster(Holding).client().services
    queue, began = timers.TimerQueue(services), services.now_ms()
    for seconds in (90, 60, 30, 80):
        queue.add(Timer(due_ms=began + seconds * 1000, run_id=RunId("r")))
    running = asyncio.create_task(queue.run())
    await asyncio.sleep(100)
    running.cancel()
    assert fired == [30_000, 60_000]


async def test_a_timer_whose_servers_clock_goes_far_back_is_left_to_maintenance_and_forgotten(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = cluster(Holding).client().services
    queue, here_ms, there_ms = timers.TimerQueue(services), services.now_ms, [0]
    monkeypatch.setattr(services, "now_ms", lambda run_id=None: here_ms() + (0 if run_id is None else there_ms[0]))
    timer = Timer(due_ms=here_ms() + 60_000, run_id=RunId("r"))
    queue.add(timer)
    assert services.own_timers.is_waiting(timer)
    there_ms[0] = -600_000
    running = asyncio.create_task(queue.run())
    await asyncio.sleep(61)
    running.cancel()
    assert not services.own_timers.is_waiting(timer)


async def test_rounds_of_maintenance_that_are_far_apart_do_not_come_late_for_a_timer(cluster: MakeCluster) -> None:
    """Of a run that a client without a worker started, only maintenance knows when its time is up."""
    here = cluster(Holding, timeouts=QUICK.with_polls_at_least(1800))
    await here.start_worker()
    await asyncio.sleep(5)
    client = here.client()
    client.services.timeouts = replace(QUICK, result_backstop=5.0)
    handle = await client.start(Holding, 1.0)
    with pytest.raises(RunTimeoutError):
        await handle.result()
    assert asyncio.get_running_loop().time() == pytest.approx(5 + 10 * 3600 + 300, abs=10)
