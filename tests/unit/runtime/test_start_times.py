"""Runs that begin later, and runs with a timeout of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from floxide_amqp import (
    DefinitionError,
    Hold,
    RunStatus,
    RunTimeoutError,
    Start,
    Workflow,
    WorkflowCtx,
    WorkItemStatus,
    node,
)
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]


@node
async def tell(ctx: WorkflowCtx[Any], x: int) -> float:
    return asyncio.get_running_loop().time()


class Telling(Workflow[int, float]):
    start = tell


@node
async def wait_long(ctx: WorkflowCtx[Any], x: int) -> int | Hold:
    return Hold(for_=timedelta(hours=5))


class Long(Workflow[int, int], timeout=timedelta(minutes=3)):
    start = wait_long


async def test_a_run_that_is_delayed_is_there_at_once_waits_and_begins_when_it_is_due(cluster: MakeCluster) -> None:
    here = cluster(Telling)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Telling, 1, run_id="run", delay=timedelta(minutes=1))
    info = await client.run_info("run")
    (wait,) = info.waits
    assert (info.status, wait.status, wait.what) == (RunStatus.WAITING, WorkItemStatus.HELD, "its start")
    assert wait.until == info.created_at + timedelta(minutes=1)
    assert await handle.result(100) == pytest.approx(60, abs=5)
    await here.check_completed("run")


async def test_a_run_begins_at_the_time_that_was_said_and_at_once_if_that_is_over(cluster: MakeCluster) -> None:
    here = cluster(Telling)
    await here.start_worker()
    client = here.client()
    now = datetime.fromtimestamp(client.services.now_ms() / 1000, UTC)
    later = await client.start(Telling, 1, run_id="later", start_at=now + timedelta(seconds=45))
    past = await client.start(Telling, 1, run_id="past", start_at=now - timedelta(seconds=45))
    assert await past.result(20) < 5
    assert await later.result(100) == pytest.approx(45, abs=5)
    for run_id in ("later", "past"):
        await here.check_completed(run_id)


async def test_a_delayed_run_is_started_once_however_often_and_can_be_cancelled_before(cluster: MakeCluster) -> None:
    here = cluster(Telling)
    await here.start_worker()
    client = here.client()
    for _ in range(2):
        await client.start(Telling, 1, run_id="run", delay=60)
    assert [run.run_id for run in (await client.list_runs()).runs] == ["run"]
    assert (await here.counts("run")).live == 1
    assert await client.cancel("run")
    assert await client.wait("run", 10) is RunStatus.CANCELLED
    assert await here.settle(200) == {}


async def test_a_run_has_its_own_timeout_from_its_start_on(cluster: MakeCluster) -> None:
    here = cluster(Long)
    await here.start_worker()
    client = here.client()
    starts = [Start(1, run_id="own", timeout=60), Start(1, run_id="later", timeout=60, delay=50), Start(1)]
    own, later, usual = await client.start_many(Long, starts)
    with pytest.raises(RunTimeoutError, match="60"):
        await own.result(100)
    assert asyncio.get_running_loop().time() == pytest.approx(60, abs=5)
    with pytest.raises(RunTimeoutError, match="60"):
        await later.result(100)
    assert asyncio.get_running_loop().time() == pytest.approx(110, abs=5)
    with pytest.raises(RunTimeoutError, match="180"):
        await usual.result(100)


async def test_a_run_that_failed_by_its_own_timeout_has_it_again_when_it_is_resumed(cluster: MakeCluster) -> None:
    here = cluster(Long)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Long, 1, run_id="run", timeout=60, delay=10)
    assert await handle.wait(1000) is RunStatus.FAILED
    began = asyncio.get_running_loop().time()
    await handle.resume()
    assert await handle.wait(1000) is RunStatus.FAILED
    assert asyncio.get_running_loop().time() - began == pytest.approx(60, abs=5)


async def test_times_that_cannot_be_are_refused(cluster: MakeCluster) -> None:
    client = cluster(Telling).client()
    with pytest.raises(DefinitionError, match="not both"):
        await client.start(Telling, 1, delay=1, start_at=datetime.now(UTC))
    with pytest.raises(DefinitionError, match="delay=-1"):
        await client.start(Telling, 1, delay=-1)
    with pytest.raises(DefinitionError, match="time zone"):
        await client.start(Telling, 1, start_at=datetime(2030, 1, 1))  # noqa: DTZ001 - that is the point
    with pytest.raises(DefinitionError, match="timeout=0"):
        await client.start(Telling, 1, timeout=0)
    assert (await client.list_runs()).runs == []
