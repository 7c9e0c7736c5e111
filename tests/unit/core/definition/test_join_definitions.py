"""Joins over edges and gathers that close early, as they are written: what is refused, and what the graph knows."""

# What type checkers refuse is written here on purpose: what they cannot see must be refused as well.
# mypy: disable-error-code="operator, arg-type, call-overload"
# pyright: reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from typing import Any

import pytest

from floxide_amqp import (
    DefinitionError,
    FailureInfo,
    GraphBuilder,
    NextAll,
    Path,
    ReduceNode,
    Workflow,
    all_of,
    all_of_each,
    any_of,
    fan_out,
    first,
    gather,
    n_of,
    node,
    repeat,
)
from floxide_amqp.core.joins import EdgeJoin


@node
async def begin(x: int) -> int:
    return x


@node
async def left(x: int) -> int:
    return x


@node
async def right(x: int) -> str:
    return str(x)


@node
async def both(pair: tuple[int, str]) -> str:
    return str(pair)


@node
async def either(x: int | str) -> str:
    return str(x)


@node
async def every(xs: list[int | str]) -> str:
    return str(xs)


@node
async def every_number(xs: list[int]) -> int:
    return sum(xs)


@node
async def split(x: int) -> NextAll[int]:
    return NextAll(range(x))


@node
async def collected(xs: list[int | FailureInfo]) -> str:
    return str(xs)


def made(*paths: Path[Any, Any], start: Any = begin, output: Any = str) -> type[Workflow[Any, Any, Any]]:
    builder = GraphBuilder(start, output=output, name="Joined")
    builder.add(*paths)
    return builder.build()


def join_of(workflow: type[Workflow[Any, Any, Any]], name: str) -> EdgeJoin:
    join = workflow.graph.nodes[name].join
    assert join is not None
    return join


def test_a_join_knows_its_sources_and_a_run_that_ends_at_it_has_one_output() -> None:
    workflow = made(begin >> (left, right), all_of(left, right) >> both)
    join = join_of(workflow, "both")
    assert (join.sources, join.need, join.missing) == (("left", "right"), 2, "fail")
    assert not workflow.graph.many_outputs


def test_a_join_stands_where_the_fan_out_stood_whose_branches_meet_in_it() -> None:
    workflow = made(split >> begin >> (left, right), all_of(left, right) >> both >> gather(every), start=split)
    join = join_of(workflow, "both")
    assert join.place == ()
    assert join.per_element


def test_a_join_of_some_branches_stands_at_the_first_of_them() -> None:
    branches = [left.named(f"left {number}") for number in range(4)]
    workflow = made(
        begin >> fan_out(branches),
        all_of_each(branches[1:3]) >> every_number,
        branches[0] >> gather(total := every_number.named("total")),
        every_number >> gather(total),
        branches[3] >> gather(total),
        output=int,
    )
    assert join_of(workflow, "every_number").place == (1,)


def test_the_levels_of_joins_rise_along_the_ways_between_them() -> None:
    second, third = every_number.named("second"), every_number.named("third")
    workflow = made(
        begin >> left,
        all_of_each([begin, left]) >> every_number,
        all_of_each([left, every_number]) >> second,
        all_of_each([every_number, second, begin]) >> third,
        output=int,
    )
    levels = [join_of(workflow, name).level for name in ("every_number", "second", "third")]
    assert levels == sorted(set(levels))


def test_a_join_in_a_loop_has_an_instance_for_each_iteration() -> None:
    @node
    async def again(pair: tuple[int, str]) -> int:
        return pair[0]

    workflow = made(
        begin >> (left, right),
        all_of(left, right) >> again,
        again.when(lambda x: x < 3) >> repeat(begin, max_iterations=5),
        again.otherwise >> either,
    )
    assert join_of(workflow, "again").loops == ("again>begin",)


def test_the_fingerprint_tells_joins_apart() -> None:
    def fingerprint(join: Path[Any, Any]) -> str:
        return made(begin >> (left, right), join >> every).graph.fingerprint

    kinds = [n_of(1, left, right), n_of(2, left, right), n_of(2, left, right, missing="skip")]
    assert len({fingerprint(join) for join in kinds}) == len(kinds)


REFUSED: dict[str, tuple[Any, str]] = {
    "a node that takes no tuple": (lambda: made(begin >> (left, right), all_of(left, right) >> either), "a tuple of 2"),
    "a node that takes another tuple": (
        lambda: made(begin >> (left, right), all_of(right, left) >> both),
        "'right' returns str, but 'both' joins int",
    ),
    "a node that takes no list": (
        lambda: made(begin >> (left, right), n_of(2, left, right) >> either),
        "needs a node that takes a list",
    ),
    "no None for what may be missing": (
        lambda: made(begin >> (left, right), all_of(left, right, missing="skip") >> both),
        "gets None for what does not come",
    ),
    "one source": (lambda: all_of(left), r"all_of\(...\) joins several sources, and this has one"),
    "the same source twice": (lambda: any_of(left, left), "left is given twice"),
    "a source with two ways out": (lambda: any_of(begin >> (left, right), left), "must have one way out"),
    "a source that leads back": (lambda: any_of(left >> repeat(begin, max_iterations=1), left), "it leads back"),
    "a join as a source": (lambda: any_of(any_of(left, right), left), r"any_of\(...\). Lead its ends"),
    "too many of too few": (lambda: n_of(3, left, right), r"n_of\(3, ...\).*\(2\)"),
    "an unknown policy": (lambda: all_of_each([left], missing="wait"), '"fail" or "skip"'),
    "a way into a join": (lambda: begin >> all_of(left, right), "Nothing leads into"),
    "a join side by side": (lambda: begin >> (all_of(left, right), left), "Nothing leads into"),
    "a join into a gather": (lambda: all_of(left, right) >> gather(every), "cannot be entered by another"),
    "a join into a loop": (lambda: any_of(left, right) >> repeat(begin, max_iterations=1), "cannot be entered"),
    "a condition on a join": (lambda: any_of(left, right).when(int), "test what that returns"),
    "a gather of a join": (lambda: gather(all_of(left, right)), "takes one node"),
    "a loop back to a join": (lambda: repeat(all_of(left, right), max_iterations=1), "takes one node"),
    "a join that leads nowhere": (lambda: made(begin >> (left, right), any_of(left, right)), "leads nowhere"),
    "the start": (lambda: made(begin >> left, left >> right, any_of(left, right) >> begin), "its start 'begin'"),
    "another way into it": (
        lambda: made(begin >> (left, right, either), any_of(left, right) >> either),
        "enters a node that any_of",
    ),
    "two joins in one node": (
        lambda: made(begin >> (left, right), any_of(left, right) >> either, any_of(begin, right) >> either),
        "Name all its sources in one",
    ),
    "a source that runs for each element": (
        lambda: made(split >> (left, right), all_of(left, right) >> both, start=split, output=list[str]),
        "'split' returns NextAll and nothing gathers",
    ),
    "a source where two ways meet": (
        lambda: made(begin >> (left, right), begin >> left.named("m") >> left, all_of(left, right) >> both),
        "several ways from 'begin' meet in 'left'",
    ),
    "a source outside the loop of its join": (
        lambda: made(
            begin >> (left, right),
            left >> (a := left.named("a")),
            all_of_each([a, begin]) >> every_number,
            every_number.when(lambda x: x < 3) >> repeat(left, max_iterations=5),
            every_number.otherwise,
            output=list[int | str],
        ),
        "is part of the loop",
    ),
    "an output beside it": (
        lambda: made(begin >> (left, right, left.named("m")), all_of(left, right) >> both),
        "before it ends at 'm'",
    ),
    "two joins that both end": (
        lambda: made(
            begin >> (left, right, m := left.named("m")), all_of(left, right) >> both, any_of(left, m) >> either
        ),
        "several items may be alive",
    ),
    "a failure that the list does not allow": (
        lambda: made(split >> left >> gather(every_number, errors="collect"), start=split, output=int),
        r"list\[int \| FailureInfo\]",
    ),
    "another way to gather": (
        lambda: made(
            split.when(lambda x: x > 1) >> left >> gather(every_number),
            split.otherwise >> gather(every_number, at_most=1),
            start=split,
            output=int,
        ),
        "in different ways",
    ),
    "a bound that is none": (lambda: gather(every_number, at_most=0), "1 or more"),
    "an unknown way with errors": (lambda: gather(every_number, errors="drop"), '"fail" or "collect"'),
    "first of a node that takes a list of them": (
        lambda: made(split >> left >> first(every_number), start=split, output=int),
        "'left' returns int, but 'every_number' gathers",
    ),
    "a reduce of one argument": (lambda: ReduceNode(abs, 0), "must take two values"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_is_refused(what: str) -> None:
    make, sentence = REFUSED[what]
    with pytest.raises(DefinitionError, match=sentence):
        make()


def test_a_gather_that_collects_may_be_given_what_its_fan_out_gives() -> None:
    workflow = made(split >> left >> gather(collected, errors="collect"), start=split)
    assert workflow.graph.nodes["left"].collected_by == "collected"
    assert workflow.graph.nodes["collected"].collected_by is None
