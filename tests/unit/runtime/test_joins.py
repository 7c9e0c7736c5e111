"""Joins over edges, fan-outs that are closed early, failures that are collected, and folds, on workers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from floxide_amqp import (
    FailureInfo,
    GraphBuilder,
    Hold,
    JoinIncompleteError,
    NextAll,
    NoContext,
    Path,
    ReduceNode,
    RetryPolicy,
    RunFailedError,
    Workflow,
    WorkflowCtx,
    WorkItemStatus,
    all_of,
    all_of_each,
    any_of,
    first,
    gather,
    n_of,
    node,
)
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.records import InputKind
from floxide_amqp.runtime import folds
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]


@node
async def begin(x: int) -> int:
    return x


@node
async def left(x: int) -> int:
    return x + 1


@node
async def right(x: int) -> str:
    return str(x)


@node
async def both(pair: tuple[int, str]) -> str:
    return str(pair)


@node
async def perhaps(parts: tuple[int | None, str | None, float | None]) -> str:
    return str(parts)


@node
async def half(x: int) -> float:
    return x / 2


@node
async def some(xs: list[int | str | float]) -> str:
    return str(xs)


@node
async def texts(xs: list[str]) -> str:
    return " ".join(xs)


@node
async def total(xs: list[int]) -> int:
    return sum(xs)


@node
async def one(x: int | str | float) -> str:  # noqa: PYI041 - for a payload the two differ
    return str(x)


@node
async def split(x: int) -> NextAll[int]:
    return NextAll(range(x))


def made(*paths: Path[Any, Any], start: Any = begin, output: Any = str) -> Any:
    builder = GraphBuilder(start, output=output, name="Joined")
    builder.add(*paths)
    return builder.build()


async def run(cluster: MakeCluster, workflow: type[Workflow[Any, Any, Any]], value: int) -> Any:
    """Run a workflow and make sure that nothing is left of it."""
    world = cluster(workflow)
    await world.start_worker()
    handle = await world.client().start(workflow, value, run_id="run")
    result = await handle.result(timeout=600)
    await world.settle()
    await world.check_completed("run")
    return result


SOME_OF_THREE = (begin >> left, begin.when(lambda x: x > 5) >> right, begin.otherwise >> half)


@pytest.mark.parametrize(
    ("join", "small", "large"),
    [
        (all_of(left, right, half, missing="skip") >> perhaps, "(4, None, 1.5)", "(9, '8', None)"),
        (all_of_each([left, right, half], missing="skip") >> some, "[4, 1.5]", "[9, '8']"),
        (n_of(2, left, right, half) >> some, "[4, 1.5]", "[9, '8']"),
        (n_of(3, left, right, half, missing="skip") >> some, "[4, 1.5]", "[9, '8']"),
    ],
)
async def test_a_join_goes_on_without_what_cannot_come(
    cluster: MakeCluster, join: Path[Any, Any], small: str, large: str
) -> None:
    workflow = made(*SOME_OF_THREE, join)
    assert await run(cluster, workflow, 3) == small
    assert await run(cluster, workflow, 8) == large


async def test_any_of_goes_on_with_the_first_value_alone(cluster: MakeCluster) -> None:
    assert await run(cluster, made(*SOME_OF_THREE, any_of(left, right, half) >> one), 3) in ("4", "1.5")


async def test_a_join_that_lacks_a_value_fails_and_says_which(cluster: MakeCluster) -> None:
    workflow = made(*SOME_OF_THREE, all_of_each([left, right, half]) >> some)
    with pytest.raises(RunFailedError, match=r"Node 'some' joins 3 values, and 2 came.*could bring one of right"):
        await run(cluster, workflow, 3)


async def test_a_join_that_lacks_a_value_has_a_fallback_that_knows_what_came(cluster: MakeCluster) -> None:
    @node
    async def triple(parts: tuple[int, str, float]) -> str:
        return str(parts)

    workflow = made(
        *SOME_OF_THREE, all_of(left, right, half) >> triple, triple.on_failure(JoinIncompleteError) >> perhaps
    )
    assert await run(cluster, workflow, 3) == "(4, None, 1.5)"


async def test_joins_that_depend_on_each_other_are_resolved_one_after_the_other(cluster: MakeCluster) -> None:
    @node
    async def inner(xs: list[int | str]) -> str:
        return f"<{xs}>"

    workflow = made(
        *SOME_OF_THREE,
        all_of_each([left, right], missing="skip") >> inner,
        all_of_each([inner, half], missing="skip") >> some,
    )
    assert await run(cluster, workflow, 3) == "['<[4]>', 1.5]"


async def test_each_element_of_a_fan_out_has_its_own_join(cluster: MakeCluster) -> None:
    workflow = made(split >> (left, right), all_of(left, right) >> both >> gather(texts), start=split)
    assert await run(cluster, workflow, 3) == "(1, '0') (2, '1') (3, '2')"


async def test_what_opens_a_fan_out_may_be_a_source_itself(cluster: MakeCluster) -> None:
    @node
    async def pair(parts: tuple[int, int]) -> str:
        return str(parts)

    workflow = made(split >> left, all_of(split, left) >> pair >> gather(texts), start=split)
    assert await run(cluster, workflow, 2) == "(0, 1) (1, 2)"


async def test_a_generated_graph_runs_each_node_once_behind_its_parents(cluster: MakeCluster) -> None:
    chance, ended = random.Random(5), list[str]()

    @node
    async def task(ctx: WorkflowCtx[NoContext], above: list[str]) -> str:
        assert set(above) <= set(ended)
        ended.append(ctx.node)
        return ctx.node

    @node
    async def root(x: int) -> str:
        return f"root {x}"

    tasks = [task.named(f"task {number}") for number in range(50)]
    paths = [all_of_each([root]) >> tasks[0]]
    for number in range(1, len(tasks)):
        above = chance.sample(tasks[:number], min(number, chance.randint(1, 4)))
        paths.append(all_of_each(above) >> tasks[number])
    ended.append("root 1")
    workflow = made(*paths, all_of_each(tasks) >> texts.named("last"), start=root)
    await run(cluster, workflow, 1)
    assert sorted(ended[1:]) == sorted(each.name for each in tasks)


# --- fan-outs that are closed early


async def test_the_first_value_closes_a_fan_out_and_the_others_are_cancelled(cluster: MakeCluster) -> None:
    interrupted: list[int] = []

    @node
    async def wait(ctx: WorkflowCtx[NoContext], x: int) -> int:
        try:
            await ctx.sleep(0.1 if x == 3 else 1000.0)
        except asyncio.CancelledError:
            interrupted.append(x)
            raise
        return x

    workflow = made(split >> wait >> first(one), start=split)
    world = cluster(workflow)
    await world.start_worker()
    await world.start_worker()
    handle = await world.client().start(workflow, 6, run_id="run")
    assert await handle.result(timeout=30) == "3"
    assert sorted(interrupted) == [0, 1, 2, 4, 5]
    await world.settle()
    await world.check_completed("run")
    statuses = [entry.status for entry in await world.history("run") if entry.node == "wait"]
    assert sorted(statuses) == [WorkItemStatus.CANCELLED] * 5 + [WorkItemStatus.COMPLETED]


async def test_what_waits_in_a_fan_out_that_is_closed_is_cancelled_too(cluster: MakeCluster) -> None:
    @node(retry=RetryPolicy(max_attempts=9, initial_backoff=3000))
    async def trouble(x: int) -> int | Hold:
        if x == 1:
            raise ValueError("later")
        return Hold(for_=5000.0) if x == 2 else Hold() if x == 4 else x

    @node
    async def slow(ctx: WorkflowCtx[NoContext], x: int) -> int:
        await ctx.sleep(1.0 if x == 3 else 6000.0)
        return x

    workflow = made(split >> trouble >> slow >> first(one), start=split)
    assert await run(cluster, workflow, 5) == "3"


async def test_fan_outs_inside_one_that_is_closed_are_closed_with_it(cluster: MakeCluster) -> None:
    @node
    async def parts(x: int) -> NextAll[int]:
        return NextAll([10 * x + number for number in range(3)])

    @node
    async def slow(ctx: WorkflowCtx[NoContext], x: int) -> int:
        await ctx.sleep(0.1 if x < 10 else 1000.0)
        return x

    workflow = made(split >> parts >> slow >> gather(total) >> first(one), start=split)
    assert await run(cluster, workflow, 4) == "3"


@pytest.mark.parametrize(("number", "expected"), [(0, 0), (2, 1), (3, 3), (5, 3), (1100, 3)])
async def test_a_gather_takes_no_more_than_it_is_told(cluster: MakeCluster, number: int, expected: int) -> None:
    workflow = made(split >> gather(total, at_most=3), start=split, output=int)
    assert await run(cluster, workflow, number) == expected


async def test_a_large_fan_out_is_closed_while_its_pages_become_items(cluster: MakeCluster) -> None:
    @node
    async def only(ctx: WorkflowCtx[NoContext], x: int) -> int:
        await ctx.sleep(0.0 if x == 0 else 1000.0)
        return x

    workflow = made(split >> only >> first(one), start=split)
    assert await run(cluster, workflow, 1100) == "0"


async def test_the_first_of_nothing_fails(cluster: MakeCluster) -> None:
    with pytest.raises(RunFailedError, match="Node 'one' joins 1 values, and 0 came"):
        await run(cluster, made(split >> left >> first(one), start=split), 0)


# --- failures that are collected, and folds


async def test_failures_arrive_at_a_gather_that_collects_them(cluster: MakeCluster) -> None:
    @node(retry=RetryPolicy(max_attempts=2, initial_backoff=0.1))
    async def odd(x: int) -> int:
        if x % 2 == 0:
            raise ValueError(f"{x} is even")
        return x

    @node
    async def tell(xs: list[int | FailureInfo]) -> str:
        return " ".join(f"{x.node}: {x.message} ({x.attempts})" if isinstance(x, FailureInfo) else str(x) for x in xs)

    workflow = made(split >> odd >> gather(tell, errors="collect"), start=split)
    assert await run(cluster, workflow, 3) == "odd: 0 is even (2) 1 odd: 2 is even (2)"


def in_order(so_far: list[int], number: int) -> list[int]:
    return [*so_far, number]


async def test_a_fold_goes_through_its_fan_out_in_order_page_by_page(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds, "PAGE", 3)
    workflow = made(split >> left >> gather(ReduceNode(in_order, [])), start=split, output=list[int])
    for number in (0, 2, 3, 7):
        assert await run(cluster, workflow, number) == list(range(1, number + 1))


async def test_a_fold_that_fails_tries_the_same_page_again(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds, "PAGE", 2)
    tried: list[int] = []

    def fragile(so_far: int, number: int) -> int:
        tried.append(number)
        if tried.count(4) == 1 and number == 4:
            raise ValueError("once")
        return so_far * 10 + number

    again = RetryPolicy(max_attempts=2, initial_backoff=0.1)
    fold = ReduceNode(fragile, 0).with_options(retry=again)
    workflow = made(split >> left >> gather(fold), start=split, output=int)
    assert await run(cluster, workflow, 5) == 12345
    assert tried == [1, 2, 3, 4, 3, 4, 5]


async def test_a_fallback_of_a_fold_gets_everything_that_arrived(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds, "PAGE", 2)

    def never(so_far: int, number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return so_far + number

    fold = ReduceNode(never, 0)
    workflow = made(split >> left >> gather(fold), fold.on_failure >> total, start=split, output=int)
    assert await run(cluster, workflow, 4) == 10


async def test_the_items_of_a_fold_carry_their_state_and_no_list(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds, "PAGE", 10)
    workflow = made(split >> left >> gather(ReduceNode(larger, 0)), start=split, output=int)
    world = cluster(workflow)
    await world.start_worker()
    handle = await world.client().start(workflow, 35, run_id="run")
    assert await handle.result(timeout=30) == 35
    ended = [entry.item_id for entry in await world.history("run")]
    found = await world.client().services.items.find(RunId("run"), ended)
    numbers = [one.item.input.number for one in found if one is not None and one.item.input.kind is InputKind.FOLD]
    assert numbers == [10, 20, 30]


def larger(so_far: int, number: int) -> int:
    return max(so_far, number)
