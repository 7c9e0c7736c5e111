from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from floxide_amqp import (
    Context,
    RunFailedError,
    RunStatus,
    RunTimeoutError,
    Workflow,
    WorkflowCtx,
    node,
    repeat,
)
from tests.unit.runtime.cluster import Cluster


@node
async def linger(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@node
async def time_left(ctx: WorkflowCtx[Context], seconds: float) -> float:
    await asyncio.sleep(seconds)
    return (ctx.time_left or timedelta(days=1)).total_seconds()


class Late(Workflow[float, float], timeout=10):
    start = linger
    edges = (linger >> time_left,)


async def test_a_resumed_run_has_its_whole_timeout_again(cluster: Callable[..., Cluster]) -> None:
    here = cluster(Late)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Late, 8.0, run_id="late")
    with pytest.raises(RunTimeoutError, match="timeout of 10 s"):
        await handle.result(60)
    assert (await client.run_info("late")).deadline_at is None
    await asyncio.sleep(100)
    await client.resume("late")
    assert (await client.run_info("late")).deadline_at is not None
    assert await handle.result(60) == pytest.approx(2, abs=0.5)  # 10 s again, 8 of them spent in the node that was left
    await here.check_completed("late")


class Endless(Workflow[float, float], timeout=10):
    start = linger


async def test_a_resumed_run_that_takes_too_long_again_fails_again(cluster: Callable[..., Cluster]) -> None:
    here = cluster(Endless)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Endless, 1_000.0, run_id="endless")
    for _ in range(2):
        with pytest.raises(RunTimeoutError):
            await handle.result(60)
        await asyncio.sleep(100)
        await client.resume("endless")
    assert await handle.wait(60) is RunStatus.FAILED


@node
async def stubborn(tries: int) -> int:
    raise ValueError(f"no, after {tries}")


class Stubborn(Workflow[int, int]):
    start = stubborn
    edges = (stubborn.on_failure >> repeat(stubborn, max_iterations=3),)


async def test_a_failure_edge_that_leads_back_is_bounded(cluster: Callable[..., Cluster]) -> None:
    here = cluster(Stubborn)
    await here.start_worker()
    handle = await here.client().start(Stubborn, 1, run_id="loop")
    with pytest.raises(RunFailedError, match="no, after 1"):
        await handle.result(60)
    assert len(await here.client().errors("loop")) == 4
