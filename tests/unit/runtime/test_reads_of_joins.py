"""What the engine reads for joins and sweeps grows with what a run does, not with its square."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from floxide_amqp import Compensation, Next, NextAll, RunStatus, Workflow, all_of, first, gather, node, repeat
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.runtime.settings import Limits
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]


def count_reads(here: Cluster, *readers: str) -> list[int]:
    """Note how many items these functions read at a time."""
    reads: list[int] = []
    for member in here.members:
        find = member.services.items.find

        async def counting(run_id: RunId, ids: Sequence[WorkItemId], find: Any = find) -> Any:
            if sys._getframe(1).f_code.co_name in readers:
                reads.append(len(ids))
            return await find(run_id, ids)

        member.services.items.find = counting  # type: ignore[method-assign]
    return reads


async def reads_of(cluster: MakeCluster, workflow: Any, value: int, *readers: str, concurrency: int = 8) -> int:
    here = cluster(workflow, limits=Limits(concurrency=concurrency))
    await here.start_worker()
    reads = count_reads(here, *readers)
    handle = await here.client().start(workflow, value, run_id="run")
    assert await handle.wait(3600) is RunStatus.COMPLETED
    await here.check_completed("run")
    await here.close()
    return sum(reads)


@node
async def split(n: int) -> NextAll[int]:
    return NextAll(range(n))


@node
async def pair(x: int) -> NextAll[int]:
    return NextAll([0, 1])


@node
async def race(x: int) -> int:
    if x:
        await asyncio.sleep(500)
    return x


@node
async def go_on(x: int) -> int:
    await asyncio.sleep(100)
    return x


@node
async def count(xs: list[int]) -> int:
    return len(xs)


class Races(Workflow[int, int]):
    """Each element opens a fan-out of its own, which is closed early while all the others are at work."""

    start = split
    edges = (split >> pair >> race >> first(go_on) >> gather(count),)


async def test_sweeps_of_many_small_fan_outs_read_each_its_own(cluster: MakeCluster) -> None:
    few, many = [
        await reads_of(cluster, Races, number, "_followed", "_passed", concurrency=1000) for number in (20, 80)
    ]
    assert 0 < few <= 20 * 10
    assert many <= 80 * 10


async def test_a_sweep_of_a_deep_branch_reads_the_run_s_live_items_and_not_each_step_of_it(
    cluster: MakeCluster,
) -> None:
    deep, go, end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @node
    async def pick(x: int) -> Next[str | int]:
        return Next("quick") if x == 0 else Next(x)

    @node
    async def quick(text: str) -> int:
        await go.wait()
        return 0

    @node
    async def again(x: int) -> int:
        return x + 1

    @node
    async def undo(of: Compensation[int, int]) -> None: ...

    @node(compensation=undo)
    async def last(x: int) -> int:
        deep.set()
        while not end.is_set():
            with suppress(asyncio.CancelledError):
                await end.wait()
        return x

    @node
    async def winner(x: int) -> int:
        return x

    closed = first(winner)

    class Deep(Workflow[int, int]):
        start = split
        edges = (
            split >> pick,
            pick.when(str) >> quick >> closed,
            pick.when(int) >> again,
            again.when(lambda x: x < 100) >> repeat(again, max_iterations=1000),
            again.otherwise >> last >> closed,
        )

    here = cluster(Deep)
    await here.start_worker()
    reads = count_reads(here, "_followed", "_passed")
    handle = await here.client().start(Deep, 2, run_id="run")
    await deep.wait()
    go.set()
    await asyncio.sleep(0.9)
    end.set()
    assert await handle.result(60) == 0
    assert 0 < len(reads) <= 100, "it is looked again seven times, each branch has a hundred steps"


async def test_a_sweep_of_a_large_fan_out_passes_over_a_runs_items_once(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("floxide_amqp.runtime.left_items", "floxide_amqp.stores.items"):
        monkeypatch.setattr(f"{module}.PAGE", 10)

    @node
    async def late(x: int) -> int:
        if x:
            await asyncio.sleep(500)
        return x

    @node
    async def end(x: int) -> int:
        return x

    class Late(Workflow[int, int]):
        start = split
        edges = (split >> late >> first(end),)

    few, many = [
        await reads_of(cluster, Late, number, "_followed", "_passed", concurrency=1000) for number in (50, 200)
    ]
    assert few > 0
    assert many <= 4 * few + 100


STEPS = 3
"""Items that one iteration brings to an end besides its join."""


def looping(times: int) -> Any:
    """A loop in each iteration of which a join goes on without one of its values."""

    @node
    async def begin(x: int) -> int:
        return x

    @node
    async def left(x: int) -> int:
        return x

    @node
    async def right(x: int) -> Next[str | float]:
        return Next(1.5)

    @node
    async def other(x: float) -> None:
        return None

    @node
    async def both(parts: tuple[int | None, str | None]) -> Next[int | str]:
        return Next("end") if parts[0] is None or parts[0] >= times else Next(parts[0] + 1)

    @node
    async def begin_again(x: int) -> int:
        return x

    @node
    async def end(x: str) -> None:
        return None

    class Looping(Workflow[int, list[None]]):
        start = begin
        edges = (
            begin >> (left, right),
            right.when(float) >> other,
            all_of(left, right.when(str), missing="skip") >> both,
            both.when(int) >> begin_again,
            begin_again >> repeat(begin, max_iterations=10_000),
            both.when(str) >> end,
        )

    return Looping


async def test_resolvers_in_a_loop_do_not_read_the_joins_of_the_iterations_before(cluster: MakeCluster) -> None:
    few = await reads_of(cluster, looping(60), 0, "_unresolved")
    many = await reads_of(cluster, looping(240), 0, "_unresolved")
    assert few > 0
    assert many <= 5 * few
