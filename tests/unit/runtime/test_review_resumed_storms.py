"""Runs that fail again and again under faults and deaths, and are resumed each time, end as if nothing had happened."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

import pytest

from floxide_amqp import Context, Hold, NextAll, RunStatus, Sum, Workflow, WorkflowCtx, gather, node
from floxide_amqp.exceptions import InvalidRunStateError
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.testing.faults import StoreFaults
from floxide_amqp.testing.queue_faults import QueueFaults
from floxide_amqp.testing.virtual_time import run
from tests.unit.runtime.cluster import QUICK, Cluster

WIDTH = 12
SEEDS = range(int(os.environ.get("FLOXIDE_SEEDS_FROM", "0")), int(os.environ.get("FLOXIDE_SEEDS_TO", "8")))


class Steps(Context):
    steps: Annotated[int, Sum()] = 0


def failing(chance: random.Random) -> Any:
    """A fan-out of two steps each; a share of the attempts raises, sleeps, or holds for a moment."""
    held: set[int] = set()

    async def trouble(x: int) -> None:
        await asyncio.sleep(chance.choice([0.0, 0.0, 0.1, 1.0]))
        if chance.random() < 0.1:
            raise ValueError(f"trouble with {x}")

    @node
    async def split(ctx: WorkflowCtx[Steps], x: int) -> NextAll[int]:
        ctx.state.steps += 1
        return NextAll(list(range(WIDTH)))

    @node
    async def first(ctx: WorkflowCtx[Steps], x: int) -> int | Hold:
        await trouble(x)
        if x % 4 == 0 and x not in held:
            held.add(x)
            return Hold(for_=timedelta(seconds=chance.choice([0.1, 5.0])))
        ctx.state.steps += 1
        return x

    @node
    async def second(ctx: WorkflowCtx[Steps], x: int) -> int:
        await trouble(x)
        ctx.state.steps += 1
        return x

    @node
    async def joined(ctx: WorkflowCtx[Steps], xs: list[int]) -> int:
        await trouble(-1)
        ctx.state.steps += 1
        return sum(xs)

    class Failing(Workflow[int, int, Steps]):
        start = split
        edges = (split >> first >> second >> gather(joined),)

    return Failing


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_that_is_resumed_after_each_failure_ends_as_if_nothing_had_happened(seed: int) -> None:
    run(_play(seed))


async def _play(seed: int) -> None:
    chance = random.Random(seed)
    workflow = failing(chance)
    here = Cluster(
        workflow,
        seed=seed,
        limits=Limits(concurrency=chance.choice([2, 8]), chain_steps=chance.choice([1, 1_000]), deaths=1_000),
        timeouts=replace(QUICK, early_acknowledge=chance.choice([0.01, 5.0])),
        store_faults=StoreFaults(lost_reply=chance.choice([0, 0.05]), delayed=chance.choice([0, 0.3])),
        queue_faults=QueueFaults(dropped=chance.choice([0, 0.05]), duplicated=chance.choice([0, 0.3])),
    )
    members = [await here.start_worker() for _ in range(3)]
    handle = await here.client().start(workflow, 1, run_id="run")
    for turn in range(200):
        status = await _end_or(handle, chance.choice([0.1, 1.0, 40.0]))
        if status is RunStatus.COMPLETED:
            break
        if status is RunStatus.RUNNING and chance.random() < 0.3:
            with contextlib.suppress(InvalidRunStateError):
                await handle.pause()
        if turn % 5 == 0 and turn < 30:
            await members.pop(0).kill()
            members.append(await here.start_worker())
        await asyncio.gather(*(handle.resume() for _ in range(chance.choice([1, 1, 2]))))
        if turn == 40:
            here.end_faults()
    assert await handle.result(300) == sum(range(WIDTH))
    assert (await here.client().context(workflow, "run")).steps == 2 + 2 * WIDTH
    await here.check_completed("run")
    await here.close()


async def _end_or(handle: Any, seconds: float) -> RunStatus:
    with contextlib.suppress(Exception):
        return RunStatus(await handle.wait(seconds))
    return RunStatus(await handle.status())
