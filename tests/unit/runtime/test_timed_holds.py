"""A node that was held for a time knows, when it runs again, that the time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from floxide_amqp import Hold, NextAll, RetryPolicy, Workflow, WorkflowCtx, gather, node
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]

MINUTE = 60.0


@node
async def each(numbers: list[int]) -> NextAll[int]:
    return NextAll(numbers)


@node
async def rest(ctx: WorkflowCtx[Any], minutes: int) -> int | Hold:
    return minutes if ctx.timed_out else Hold(for_=timedelta(minutes=minutes))


@node
async def listed(minutes: list[int]) -> list[int]:
    return minutes


class Resting(Workflow[list[int], list[int]]):
    start = each
    edges = (each >> rest >> gather(listed),)


class Alone(Workflow[int, int]):
    start = rest


async def test_each_item_that_is_held_for_a_time_goes_on_once_when_its_own_is_over(cluster: MakeCluster) -> None:
    here = cluster(Resting)
    await here.start_worker()
    run = await here.client().start(Resting, [3, 1, 2], run_id="run")
    assert await run.result(4 * MINUTE) == [3, 1, 2]
    assert asyncio.get_running_loop().time() == pytest.approx(3 * MINUTE, abs=30)
    await here.check_completed("run")


async def test_a_time_that_is_over_already_counts_as_over(cluster: MakeCluster) -> None:
    @node
    async def late(ctx: WorkflowCtx[Any], x: int) -> int | Hold:
        return x if ctx.timed_out else Hold(until_time=datetime(2001, 1, 1, tzinfo=UTC))

    class Late(Workflow[int, int]):
        start = late

    here = cluster(Late)
    await here.start_worker()
    assert await (await here.client().start(Late, 5)).result(60) == 5


async def test_the_timeout_edge_of_a_node_that_always_holds_is_a_pause(cluster: MakeCluster) -> None:
    @node
    async def pause(x: int) -> Hold:
        return Hold(for_=MINUTE)

    @node
    async def go_on(x: int) -> int:
        return x + 1

    class Pausing(Workflow[int, int]):
        start = pause
        edges = (pause.on_timeout >> go_on,)

    here = cluster(Pausing)
    await here.start_worker()
    assert await (await here.client().start(Pausing, 5)).result(2 * MINUTE) == 6
    assert asyncio.get_running_loop().time() == pytest.approx(MINUTE, abs=30)


async def test_a_start_that_is_put_off_is_no_hold_of_its_node(cluster: MakeCluster) -> None:
    here = cluster(Alone)
    await here.start_worker()
    run = await here.client().start(Alone, 1, delay=MINUTE)
    assert await run.result(3 * MINUTE) == 1
    assert asyncio.get_running_loop().time() == pytest.approx(2 * MINUTE, abs=30)


async def test_a_try_that_fails_after_the_time_is_over_is_not_followed_by_another_hold(cluster: MakeCluster) -> None:
    holds: list[int] = []

    @node(retry=RetryPolicy(max_attempts=3, initial_backoff=1))
    async def shaky(ctx: WorkflowCtx[Any], x: int) -> int | Hold:
        if not ctx.timed_out:
            holds.append(ctx.attempt)
            return Hold(for_=MINUTE)
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return x

    class Shaky(Workflow[int, int]):
        start = shaky

    here = cluster(Shaky)
    await here.start_worker()
    assert await (await here.client().start(Shaky, 5)).result(4 * MINUTE) == 5
    assert holds == [1]


async def test_branches_that_wait_each_for_a_time_of_their_own_all_end_the_run_with_an_output(
    cluster: MakeCluster,
) -> None:
    @node
    async def begin(minutes: int) -> int:
        return minutes

    class Branches(Workflow[int, list[int]]):
        start = begin
        edges = (begin >> (rest.named("left"), rest.named("right")),)

    here = cluster(Branches)
    await here.start_worker()
    assert await (await here.client().start(Branches, 1, run_id="run")).result(2 * MINUTE) == [1, 1]
    await here.check_completed("run")
