from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest
from typing_extensions import TypeVar

from floxide_amqp.core.builder import GraphBuilder
from floxide_amqp.core.context import Context, NoContext
from floxide_amqp.core.entering import fan_out, gather, repeat
from floxide_amqp.core.function_node import node
from floxide_amqp.core.graph import FanOut
from floxide_amqp.core.path import Path
from floxide_amqp.core.transition import NextAll
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.exceptions import DefinitionError

In = TypeVar("In")
Out = TypeVar("Out")
State = TypeVar("State", bound=Context, default=NoContext)


class Shop(Context):
    spent: int = 0


@node
async def step(value: int) -> int:
    return value


@node
async def each(value: int) -> NextAll[int]:
    return NextAll([value])


@node
async def join(values: list[int]) -> int:
    return sum(values)


def steps(count: int) -> list[Path[int, int]]:
    return [step.named(f"s{number}") for number in range(count)]


@contextmanager
def shallow_stack() -> Iterator[None]:
    """Leave little room for recursion, so that whatever recurses over a graph fails."""
    before = sys.getrecursionlimit()
    depth = len(list(_frames()))
    sys.setrecursionlimit(depth + 120)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _frames() -> Iterator[object]:
    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back  # type: ignore[assignment]


def test_a_builder_makes_the_same_graph_as_a_class() -> None:
    class Written(WorkflowDefinition[int, int, Shop], version="2", queue="q"):
        start = each
        edges = (each >> step >> gather(join),)

    built = (
        GraphBuilder(each, output=int, context=Shop, name="Written", version="2", queue="q")
        .connect(each, step)
        .gather([step], join)
        .build()
    )
    assert built.graph.fingerprint == Written.graph.fingerprint
    assert built.graph.options == Written.graph.options
    assert built.graph.context is Shop
    assert built.__name__ == "Written"
    assert issubclass(built, WorkflowDefinition)


def test_every_kind_of_edge_can_be_built() -> None:
    a, b, c, d = (step.named(name) for name in "abcd")
    built = (
        GraphBuilder(a, output=int, name="All")
        .chain([a, b])
        .branch(b, lambda value: value > 1, c)
        .repeat(c, a, max_iterations=2)
        .add(b.otherwise >> d, b.on_failure >> d)
        .build()
    )
    assert list(built.graph.edges) == ["a>b", "b>c", "c>a", "b>d", "b>d#2"]
    assert built.graph.context is NoContext


def test_what_is_built_derives_from_the_base_of_the_builder() -> None:
    class Runnable(WorkflowDefinition[In, Out, State]):
        pass

    class RunnableBuilder(GraphBuilder[int, int]):
        base = Runnable

    built = RunnableBuilder(step, output=int, name="X").build()
    assert issubclass(built, Runnable)
    assert not issubclass(GraphBuilder(step, output=int, name="X").build(), Runnable)


def test_a_start_that_is_no_node_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"GraphBuilder\(name='X'\): its start must be one node."):
        GraphBuilder(step >> join.named("j"), output=int, name="X").build()  # type: ignore[operator]


def test_mistakes_are_found_as_in_a_class() -> None:
    with pytest.raises(DefinitionError, match="'step' returns int, but 'join' takes list"):
        GraphBuilder(step, output=int, name="X").add(step >> join).build()  # type: ignore[operator]


def test_a_chain_of_5000_nodes_compiles_without_recursion() -> None:
    nodes = steps(5_000)
    with shallow_stack():
        graph = GraphBuilder(nodes[0], output=int, name="Chain").chain(nodes).build().graph
    assert len(graph.nodes) == 5_000
    assert len(graph.edges) == 4_999
    assert not graph.many_outputs
    assert [edge.target for edge in graph.route("s4998", 1)] == ["s4999"]


def test_one_path_of_5000_nodes_compiles_without_recursion() -> None:
    nodes = steps(5_000)
    with shallow_stack():
        path = nodes[0]
        for following in nodes[1:]:
            path = path >> following

        class Chain(WorkflowDefinition[int, int]):
            start = nodes[0]
            edges = (path,)

    assert len(Chain.graph.edges) == 4_999


def test_a_dag_of_2000_nodes_with_a_gather_over_all_compiles_without_recursion() -> None:
    start, nodes = step.named("start"), steps(2_000)
    builder = GraphBuilder(start, output=int, name="Dag").connect(start, nodes[0])
    for number, source in enumerate(nodes):
        for following in nodes[number + 1 : number + 4]:
            builder.connect(source, following)
    builder.add(start >> gather(join), nodes[-1] >> gather(join))
    with shallow_stack():
        graph = builder.build().graph
    assert len(graph.edges) == 5_997
    assert graph.nodes["start"].fan_out == FanOut(join="join")
    assert graph.nodes["s0"].fan_out == FanOut()
    assert not graph.many_outputs


def test_a_cycle_of_2000_nodes_is_found_without_recursion() -> None:
    nodes = steps(2_000)
    builder = GraphBuilder(nodes[0], output=int, name="Ring").chain([*nodes, nodes[0]])
    with shallow_stack(), pytest.raises(DefinitionError, match="is a cycle without a bound"):
        builder.build()


def test_hundreds_of_scopes_and_loops_compile() -> None:
    previous: Path[int, int] = step
    builder = GraphBuilder(step, output=int, name="Scopes")
    for number in range(300):
        left, right, joined = step.named(f"l{number}"), step.named(f"r{number}"), join.named(f"j{number}")
        builder.add(previous >> fan_out([left, right]) >> gather(joined))
        after = step.named(f"a{number}")
        builder.add(joined >> after, after.when(lambda value: value > 1) >> repeat(after, max_iterations=2))
        following = step.named(f"n{number}")
        builder.add(after.otherwise >> following)
        previous = following
    graph = builder.build().graph
    assert sum(held.fan_out is not None for held in graph.nodes.values()) == 300
    assert not graph.many_outputs


def test_compiling_takes_as_many_calls_per_node_in_a_graph_ten_times_as_large() -> None:
    def calls(count: int) -> int:
        nodes = steps(count)
        builder = GraphBuilder(nodes[0], output=int, name="Chain").chain(nodes)
        counted = 0

        def count_call(frame: FrameType, event: str, arg: object) -> None:
            nonlocal counted
            counted += 1

        sys.setprofile(count_call)
        try:
            builder.build()
        finally:
            sys.setprofile(None)
        return counted

    assert calls(2_000) < 11 * calls(200)  # quadratic growth would show about 100
