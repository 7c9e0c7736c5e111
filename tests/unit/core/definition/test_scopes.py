"""Which gather closes which fan-out, what may be between the two, and when a run has many outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.core.entering import fan_out, gather, repeat
from floxide_amqp.core.function_node import node
from floxide_amqp.core.graph import FanOut
from floxide_amqp.core.path import Path
from floxide_amqp.core.transition import Hold, Next, NextAll
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.exceptions import DefinitionError


@node
async def step(value: int) -> int:
    return value


@node
async def each(value: int) -> NextAll[int]:
    return NextAll([value])


@node
async def join(values: list[int]) -> int:
    return sum(values)


@node
async def join_each(values: list[int]) -> NextAll[int]:
    return NextAll(values)


@node
async def drop(value: int) -> None:
    return None


@node
async def merge(value: int) -> Next[int] | Hold:
    return Hold()


@node
async def either(value: int) -> int | str:
    return value


a, b, c, d, e, f = (step.named(name) for name in "abcdef")
j1, j2, j3 = (join.named(name) for name in ("j1", "j2", "j3"))


def make(start: Any, *paths: Path[Any, Any], returns: Any = int) -> Any:
    class W(WorkflowDefinition[int, returns]):  # type: ignore[valid-type]
        pass

    W.start = start
    W.edges = paths

    class Made(W, name="W"):
        pass

    return Made.graph


def joins(graph: Any) -> dict[str, str | None]:
    return {name: held.fan_out.join for name, held in graph.nodes.items() if held.fan_out is not None}


def refused(sentence: str, build: Callable[[], object]) -> None:
    with pytest.raises(DefinitionError) as caught:
        build()
    assert sentence in str(caught.value)


# --- what closes what


def test_a_gather_closes_the_node_that_returns_next_all() -> None:
    assert joins(make(each, each >> a >> gather(join))) == {"each": "join"}


def test_a_gather_may_follow_its_fan_out_at_once() -> None:
    assert joins(make(each, each >> gather(join))) == {"each": "join"}


def test_a_gather_closes_a_tuple() -> None:
    assert joins(make(a, a >> (b, c >> d) >> gather(join))) == {"a": "join"}


def test_a_gather_closes_conditions_that_may_hold_at_once() -> None:
    graph = make(a, a.when(lambda v: v > 1) >> b >> gather(join), a.when(lambda v: v > 2) >> gather(join), a.otherwise)
    assert joins(graph) == {"a": "join"}


def test_conditions_that_exclude_each_other_are_no_fan_out() -> None:
    graph = make(either, either.when(int) >> a, either.when(str), returns=int | str)
    assert joins(graph) == {}


def test_the_nearest_of_two_fan_outs_is_closed_first() -> None:
    outer, inner = each.named("outer"), each.named("inner")
    graph = make(outer, outer >> inner >> a >> gather(j1) >> b >> gather(j2))
    assert joins(graph) == {"outer": "j2", "inner": "j1"}


def test_three_levels_close_in_turn() -> None:
    x, y, z = (each.named(name) for name in "xyz")
    graph = make(x, x >> y >> z >> gather(j1) >> gather(j2) >> gather(j3))
    assert joins(graph) == {"x": "j3", "y": "j2", "z": "j1"}


def test_one_after_the_other_and_a_gather_that_fans_out_itself() -> None:
    graph = make(each, each >> gather(join_each) >> a >> gather(join) >> (b, c) >> gather(j1))
    assert joins(graph) == {"each": "join_each", "join_each": "join", "join": "j1"}


def test_a_gather_behind_a_closed_one_closes_what_is_around_both() -> None:
    outer, first, second = (each.named(name) for name in ("outer", "first", "second"))
    graph = make(outer, outer >> first >> gather(join_each) >> second >> gather(j1) >> gather(j2) >> gather(j3))
    assert joins(graph) == {"outer": "j3", "first": "join_each", "join_each": "j2", "second": "j1"}


def test_an_inner_fan_out_without_a_gather_goes_into_the_outer_one() -> None:
    graph = make(each, each >> a, a.when(lambda v: v > 1) >> b >> (c, d) >> gather(join), a.otherwise >> gather(join))
    assert joins(graph) == {"each": "join", "b": None}
    assert not graph.many_outputs


def test_what_next_all_and_a_tuple_give_together_is_one_fan_out() -> None:
    assert joins(make(each, each >> (a, b) >> gather(join))) == {"each": "join"}


def test_branches_of_any_length_skipped_ones_and_fallbacks_lead_to_the_gather() -> None:
    graph = make(
        each,
        each >> a,
        a.when(lambda v: v > 1) >> b >> c >> gather(join),
        a.otherwise,
        b.on_failure >> d >> gather(join),
        c.on_failure >> drop,
    )
    assert joins(graph) == {"each": "join"}
    assert not graph.many_outputs


def test_a_loop_may_lie_inside_a_fan_out_and_around_one() -> None:
    inside = make(each, each >> a, a.when(lambda v: v > 1) >> repeat(a, max_iterations=3), a.otherwise >> gather(join))
    around = make(
        each, each >> a >> gather(join), join.when(lambda v: v > 1) >> repeat(each, max_iterations=3), join.otherwise
    )
    assert joins(inside) == {"each": "join"}
    assert joins(around) == {"each": "join"}
    assert not around.many_outputs


def test_failure_edges_of_a_fan_out_are_no_part_of_it() -> None:
    graph = make(each, each >> a >> gather(join) >> c, each.on_failure >> b >> c)
    assert joins(graph) == {"each": "join"}
    assert not graph.many_outputs


def test_a_fan_out_that_nothing_gathers_has_no_join() -> None:
    graph = make(each, each >> a, returns=list[int])
    assert graph.nodes["each"].fan_out == FanOut()
    assert graph.many_outputs


# --- what is refused


def test_a_gather_without_a_fan_out() -> None:
    refused(
        "Workflow 'W': gather(join) closes no fan-out: no node on every way to 'join' goes on more than once. Return "
        "NextAll from a node before it, branch with a tuple, or connect 'join' with a plain >>.",
        lambda: make(a, a >> b >> gather(join)),
    )


def test_a_gather_that_the_fan_out_does_not_dominate() -> None:
    refused(
        "gather(join) closes no fan-out",
        lambda: make(a, a.when(lambda v: v > 1) >> each >> gather(join), a.otherwise >> b >> gather(join)),
    )


def test_a_gather_reached_only_when_the_fan_out_failed() -> None:
    refused(
        "'join' is reached from 'b', which is outside the fan-out of 'each' that gather(join) closes.",
        lambda: make(each, each.on_failure >> b >> gather(join), each >> drop, returns=int | None),
    )


def test_a_fan_out_whose_failure_leads_to_its_own_gather() -> None:
    refused(
        "Workflow 'W': each.on_failure leads to gather(join), but the fan-out it closes was never opened then. Lead "
        "the failure to a node behind it.",
        lambda: make(each, each >> gather(join), each.on_failure >> gather(join)),
    )


def test_two_gathers_of_one_fan_out() -> None:
    refused(
        "Workflow 'W': gather(j1) and gather(j2) both close the fan-out of 'a'. Lead all its branches to one of "
        "them, or put a fan-out of its own before the other.",
        lambda: make(a, a >> (b >> gather(j1), c >> gather(j2)), returns=list[int]),
    )


def test_a_branch_entered_from_outside_its_fan_out() -> None:
    refused(
        "Workflow 'W': 'b' is reached from 'c', which is outside the fan-out of 'each' that gather(join) closes. Lead "
        "only its branches there, or use a second copy outside: b.named('second_b').",
        lambda: make(each, each >> b >> gather(join), each.on_failure >> c >> b),
    )


def test_a_branch_entered_from_behind_its_gather() -> None:
    refused(
        "'b' is reached from 'c', which is outside the fan-out of 'each'",
        lambda: make(
            each, each >> b >> gather(join) >> c, c.when(lambda v: v > 1) >> repeat(b, max_iterations=2), c.otherwise
        ),
    )


def test_a_way_back_to_the_fan_out_that_avoids_the_gather() -> None:
    refused(
        "Workflow 'W': a path leads from 'each' back to it without passing gather(join), which closes its fan-out. "
        "Lead back from behind gather(join), or loop over a node inside; or let a fan-out before it have another way "
        "to gather(join), which then closes that one.",
        lambda: make(
            each, each >> b, b.when(lambda v: v > 1) >> repeat(each, max_iterations=2), b.otherwise >> gather(join)
        ),
    )


def test_a_value_that_would_be_lost_between_fan_out_and_gather() -> None:
    refused(
        "Workflow 'W': node 'c' ends a branch between 'a' and gather(join), so the int it returns would be lost. "
        "Lead it to gather(join), let it return None, or list c.when(int) alone.",
        lambda: make(a, a >> (b >> gather(join), c)),
    )


def test_a_value_may_be_dropped_if_the_workflow_says_so() -> None:
    graph = make(a, a >> (b >> gather(join), c), c.when(int))
    assert joins(graph) == {"a": "join"}
    assert graph.output.annotation is int


# --- many outputs


def test_a_chain_and_a_choice_end_once() -> None:
    assert not make(a, a >> b).many_outputs
    assert not make(a, a.when(lambda v: v > 1) >> b, a.otherwise >> c).many_outputs


def test_a_tuple_without_a_gather_ends_more_than_once() -> None:
    graph = make(a, a >> (b, c), returns=list[int])
    assert graph.many_outputs
    assert graph.output.annotation is int


def test_a_fan_out_that_ends_by_itself_has_many_outputs() -> None:
    assert make(each, returns=list[int]).many_outputs


def test_a_node_that_may_hold_merges_many_into_one() -> None:
    assert not make(each, each >> a >> merge).many_outputs
    assert not make(each, each >> a >> merge >> b).many_outputs


def test_branches_that_may_hold_have_many_outputs_where_a_list_of_them_is_declared() -> None:
    ask, wait = merge.named("ask"), merge.named("wait")
    assert make(a, a >> (ask, wait), returns=list[int]).many_outputs  # each holds for a signal of its own
    assert make(a, a >> (ask >> b, wait >> c), returns=list[int]).many_outputs
    assert make(each, each >> merge, returns=list[int]).many_outputs
    assert not make(a, a >> (ask, wait)).many_outputs
    assert not make(a, a >> merge).many_outputs
    refused(
        "it is declared to return list[int], but it may end at 'merge' with int.",
        lambda: make(a, a >> merge, returns=list[int]),  # nothing fans out
    )
    refused(
        "it is declared to return list[str], but it may end at 'merge' with int.",
        lambda: make(each, each >> merge, returns=list[str]),
    )


def test_a_merge_that_makes_a_list_returns_one() -> None:
    @node
    async def listed(value: int) -> list[int] | Hold:
        return [value]

    assert not make(each, each >> listed, returns=list[int]).many_outputs


def test_what_follows_a_merge_may_fan_out_again() -> None:
    assert make(each, each >> merge >> (b, c), returns=list[int]).many_outputs


def test_a_closed_fan_out_behind_an_open_one_still_ends_many_times() -> None:
    inner = each.named("inner")
    assert make(each, each >> a >> inner >> gather(join), returns=list[int]).many_outputs is True


def test_two_failure_edges_for_one_error_end_more_than_once() -> None:
    refused(
        "Workflow 'W': several items may be alive after a failure of 'a', which may take a.on_failure(KeyError) and "
        "a.on_failure(KeyError), and nothing gathers them before it ends at 'b', so its result is a list; it is "
        "declared to return int.",
        lambda: make(a, a.on_failure(KeyError) >> b, a.on_failure(KeyError) >> c),
    )
    assert not make(a, a.on_failure(KeyError) >> b, a.on_failure(LookupError) >> c).many_outputs
    assert not make(a, a.on_failure(KeyError) >> b, a.on_failure(ValueError) >> c).many_outputs
    assert not make(a, a.on_failure(KeyError) >> b, a.on_failure >> c).many_outputs
    assert make(a, a.on_failure >> (b, c), returns=list[int]).many_outputs


def test_many_outputs_need_a_declared_list() -> None:
    refused(
        "Workflow 'W': several items may be alive after 'a', and nothing gathers them before it ends at 'b', so its "
        "result is a list; it is declared to return int. Declare list[int], or close the fan-out with gather(...). "
        "Conditions that exclude each other need .otherwise for the last one.",
        lambda: make(a, a >> (b, c)),
    )
    refused(
        "it is declared to return list[str], but it may end at 'b' with int. Declare list[str | int]",
        lambda: make(a, a >> (b, c), returns=list[str]),
    )


def test_one_output_may_be_a_list() -> None:
    @node
    async def listed(value: int) -> list[int]:
        return [value]

    graph = make(listed, returns=list[int])
    assert not graph.many_outputs
    assert graph.output.annotation == list[int]


# --- properties


class Block:
    """A random well-nested graph: its path, and what each of its fan-outs must be closed by."""

    def __init__(self) -> None:
        self.count = 0
        self.expected: dict[str, str] = {}

    def name(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def build(self, shape: Any) -> Path[Any, Any]:
        kind, parts = shape
        if kind == "step":
            return step.named(self.name("s"))
        if kind == "chain":
            path = self.build(parts[0])
            for part in parts[1:]:
                path = path >> self.build(part)
            return path
        opener = (each if kind == "each" else step).named(self.name("o"))
        branches = [self.build(part) for part in (parts if kind == "tuple" else parts[:1])]
        if kind == "tuple" and len(branches) == 1:
            branches.append(step.named(self.name("s")))
        closer = join.named(self.name("j"))
        self.expected[opener.name] = closer.name
        return opener >> fan_out(branches) >> gather(closer)


SHAPES = st.recursive(
    st.just(("step", ())),
    lambda inner: st.tuples(st.sampled_from(["chain", "each", "tuple"]), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=12,
)


@given(SHAPES)
def test_every_well_nested_graph_closes_as_it_was_nested(shape: Any) -> None:
    block = Block()
    start = step.named("start")
    graph = make(start, start >> block.build(shape))
    assert joins(graph) == block.expected
    assert not graph.many_outputs


@given(st.integers(2, 7), st.data())
def test_a_graph_that_ends_once_never_has_two_outputs(size: int, data: st.DataObject) -> None:
    """Walk a random graph as the engine would, every choice at random, and count what comes out."""
    nodes = [data.draw(st.sampled_from([step, step, each])).named(f"n{number}") for number in range(size)]
    paths: list[Path[Any, Any]] = []
    for number in range(1, size):
        source = nodes[data.draw(st.integers(0, number - 1))]
        kind = data.draw(st.sampled_from(["plain", "when", "otherwise", "failure"]))
        outgoing = {
            "plain": source,
            "when": source.when(lambda v: v > 1),
            "otherwise": source.otherwise,
            "failure": source.on_failure(ValueError),
        }[kind]
        paths.append(outgoing >> nodes[number])
    try:
        graph = make(nodes[0], *paths)
    except DefinitionError:
        return
    for _ in range(10):
        outputs, todo = 0, ["n0"]
        while todo:
            name = todo.pop()
            if data.draw(st.booleans()):
                failed = graph.route_failure(name, ("builtins.ValueError",))
                if failed:
                    todo += [edge.target for edge in failed]
                    continue
            for _ in range(2 if graph.nodes[name].fan_out else 1):
                edges = graph.route(name, data.draw(st.sampled_from([1, 2])))
                todo += [edge.target for edge in edges]
                outputs += not edges
        assert outputs <= 1
