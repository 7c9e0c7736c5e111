from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from floxide_amqp.core.compose import BatchNode, CompositeNode, SplitNode, collect
from floxide_amqp.core.context import Context
from floxide_amqp.core.entering import gather
from floxide_amqp.core.function_node import node
from floxide_amqp.core.graph import FanOut
from floxide_amqp.core.node import with_retry
from floxide_amqp.core.path import Path
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.core.transition import NextAll
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import DefinitionError


class Shop(Context):
    spent: int = 0


@dataclass(frozen=True)
class Order:
    items: list[str]


@dataclass(frozen=True)
class Packed:
    n: int


@dataclass(frozen=True)
class Empty:
    pass


def items_of(order: Order) -> list[str]:
    return order.items


@node
async def load(name: str) -> Order:
    return Order([name])


@node(queue="warehouse")
async def pick(item: str) -> str:
    return item


@node
async def check(ctx: WorkflowCtx[Shop], item: str) -> int | None:
    return len(item) or None


@node
async def pack(items: list[str]) -> Packed:
    return Packed(len(items))


@node
async def count(items: list[int]) -> int:
    return sum(items)


@node
async def ship(packed: Packed) -> str:
    return "shipped"


@node
async def apologise(why: Empty) -> str:
    return "sorry"


@node
async def fail_item(item: str) -> str:
    return "broken"


def make(
    start: Any, *paths: Path[Any, Any], takes: Any, returns: Any, context: Any = Shop, **options: Any
) -> type[WorkflowDefinition[Any, Any, Any]]:
    class W(WorkflowDefinition[takes, returns, context], **options):  # type: ignore[valid-type]
        pass

    W.start = start
    W.edges = paths

    class Made(W, name="W"):
        pass

    return Made


def edges(workflow: type[WorkflowDefinition[Any, Any, Any]]) -> list[str]:
    return list(workflow.graph.edges)


def refused(sentence: str, build: Callable[[], object]) -> None:
    with pytest.raises(DefinitionError) as caught:
        build()
    assert sentence in str(caught.value)


async def invoke(workflow: type[WorkflowDefinition[Any, Any, Any]], name: str, value: object) -> object:
    held = workflow.graph.nodes[name].node
    result = held.invoke(WorkflowCtx.for_test(Shop()), value)
    return await result if held.is_async else result


# --- SplitNode


async def test_a_split_passes_on_each_element() -> None:
    workflow = make(SplitNode(items_of), SplitNode(items_of) >> pick >> gather(pack), takes=Order, returns=Packed)
    split = workflow.graph.nodes["items_of"]
    assert (split.input.annotation, split.output.annotation) == (Order, str)
    assert split.fan_out == FanOut(join="pack")
    assert await invoke(workflow, "items_of", Order(["a", "b"])) == NextAll(["a", "b"])


def test_a_split_may_be_named_and_return_any_sequence() -> None:
    def letters(text: str) -> Sequence[str]:
        return text

    def pair(text: str) -> tuple[str, ...]:
        return text, text

    assert SplitNode(letters, name="spell").name == "spell"
    assert SplitNode(letters).output_type is str
    assert SplitNode(pair).output_type is str


def test_a_split_of_local_types_finds_them() -> None:
    class Local: ...

    def halves(value: Local) -> list[Local]:
        return [value, value]

    assert SplitNode(halves).input_type is Local


def test_a_split_that_is_no_function_to_a_sequence_is_refused() -> None:
    async def slow(order: Order) -> list[str]:
        return []

    def single(order: Order) -> int:
        return 1

    def with_ctx(ctx: WorkflowCtx[Shop], order: Order) -> list[str]:
        return []

    refused(
        "SplitNode(slow): the function is async. Write a node instead that returns NextAll", lambda: SplitNode(slow)
    )  # type: ignore[arg-type]
    refused(
        "SplitNode(single) returns int; it must take the input alone and return a sequence", lambda: SplitNode(single)
    )  # type: ignore[arg-type]
    refused("it must take the input alone and return a sequence", lambda: SplitNode(with_ctx))  # type: ignore[arg-type]
    refused("SplitNode(lambda): parameter 'order' has no annotation.", lambda: SplitNode(lambda order: order.items))


# --- BatchNode


async def test_a_batch_becomes_a_fan_out_a_node_and_a_gather() -> None:
    batch = BatchNode(pick, max_in_flight=3)
    workflow = make(batch, batch >> pack, takes=list[str], returns=Packed)
    graph = workflow.graph
    assert graph.start == "pick_batch/split"
    assert edges(workflow) == [
        "pick_batch/join>pack",
        "pick_batch/split>pick_batch/item",
        "pick_batch/item>pick_batch/join",
    ]
    assert graph.nodes["pick_batch/split"].fan_out == FanOut(join="pick_batch/join", wave=3)
    assert graph.nodes["pick_batch/item"].options.queue == "warehouse"
    assert graph.nodes["pick_batch/join"].is_gather
    assert not graph.many_outputs
    assert await invoke(workflow, "pick_batch/split", ["a", "b"]) == NextAll(["a", "b"])
    assert await invoke(workflow, "pick_batch/join", ["a", "b"]) == ["a", "b"]


def test_a_batch_without_a_bound_has_no_wave() -> None:
    batch = BatchNode(pick, name="all_at_once")
    assert make(batch, takes=list[str], returns=list[str]).graph.nodes["all_at_once/split"].fan_out == FanOut(
        join="all_at_once/join"
    )


def test_a_batch_of_a_batch_opens_twice() -> None:
    batch = BatchNode(BatchNode(pick, max_in_flight=2), max_in_flight=4, name="outer")
    graph = make(batch, takes=list[list[str]], returns=list[list[str]]).graph
    assert graph.nodes["outer/split"].fan_out == FanOut(join="outer/join", wave=4)
    assert graph.nodes["outer/item/split"].fan_out == FanOut(join="outer/item/join", wave=2)
    assert list(graph.nodes) == ["outer/split", "outer/item/split", "outer/item/item", "outer/item/join", "outer/join"]


def test_a_batch_may_gather_and_be_gathered() -> None:
    split, batch = SplitNode(items_of), BatchNode(pick)
    graph = make(split, split >> pick >> gather(batch) >> pack, takes=Order, returns=Packed).graph
    assert graph.nodes["items_of"].fan_out == FanOut(join="pick_batch/split")
    assert graph.nodes["pick_batch/split"].fan_out == FanOut(join="pick_batch/join")


def test_queue_and_retry_of_a_batch_are_for_inner_nodes_that_leave_them_open() -> None:
    policy = RetryPolicy(max_attempts=4)
    batch = with_retry(BatchNode(check), policy).with_options(queue="checks")
    item = make(batch, takes=list[str], returns=list[int | None]).graph.nodes["check_batch/item"]
    assert (item.options.retry, item.options.queue) == (policy, "checks")
    kept = make(BatchNode(pick).with_options(queue="x"), takes=list[str], returns=list[str]).graph
    assert kept.nodes["pick_batch/item"].options.queue == "warehouse"


def test_compound_nodes_written_twice_are_one_if_they_stand_for_the_same() -> None:
    path = BatchNode(pick, max_in_flight=2) >> pack
    assert make(BatchNode(pick, max_in_flight=2), path, takes=list[str], returns=Packed)
    for other in (BatchNode(pick, max_in_flight=3), pick.named("pick_batch")):
        refused(
            "Two different nodes are called 'pick_batch'",
            lambda other=other: make(other, path, takes=list[str], returns=Packed),
        )
    assert make(CompositeNode(Fulfil), CompositeNode(Fulfil) >> ship, takes=Order, returns=str)


def test_a_wrong_batch_is_refused() -> None:
    refused("BatchNode(5): it takes one node. For several use a workflow", lambda: BatchNode(5))  # type: ignore[arg-type]
    refused(
        "BatchNode(pick, max_in_flight=0): it must be a whole number, 1 or more.",
        lambda: BatchNode(pick, max_in_flight=0),
    )
    refused(
        "'pick_batch' stands for several nodes, so timeout cannot be set for it. Set it on those inside.",
        lambda: BatchNode(pick).with_options(timeout=3),
    )
    batch = BatchNode(pick)
    refused(
        "pick_batch.on_failure: 'pick_batch' stands for several nodes, and a fallback receives the input of the one "
        "that failed. Put on_failure on the nodes inside it.",
        lambda: make(batch, batch.on_failure >> pack, takes=list[str], returns=Any),
    )


# --- CompositeNode


class Fulfil(WorkflowDefinition[Order, Packed, Shop], queue="fulfilment", retry=RetryPolicy(max_attempts=2)):
    start = SplitNode(items_of)
    edges = (
        start >> pick >> gather(pack),
        pick.on_failure >> fail_item >> gather(pack),
    )


def test_a_workflow_is_inlined_under_its_name() -> None:
    fulfil = CompositeNode(Fulfil)
    workflow = make(load, load >> fulfil >> ship, takes=str, returns=str)
    assert edges(workflow) == [
        "load>Fulfil/items_of",
        "Fulfil/pack>ship",
        "Fulfil/items_of>Fulfil/pick",
        "Fulfil/pick>Fulfil/pack",
        "Fulfil/pick>Fulfil/fail_item",
        "Fulfil/fail_item>Fulfil/pack",
    ]
    assert workflow.graph.nodes["Fulfil/items_of"].fan_out == FanOut(join="Fulfil/pack")


def test_an_inlined_workflow_keeps_its_defaults_and_the_outer_one_fills_the_rest() -> None:
    workflow = make(load, load >> CompositeNode(Fulfil) >> ship, takes=str, returns=str, queue="outer")
    nodes = workflow.graph.nodes
    assert nodes["Fulfil/pack"].options.queue == "fulfilment"
    assert nodes["Fulfil/pack"].options.retry == RetryPolicy(max_attempts=2)
    assert nodes["Fulfil/pick"].options.queue == "warehouse"
    assert nodes["ship"].options.queue == "outer"
    assert nodes["ship"].options.retry is None


def test_two_copies_of_a_workflow_stand_side_by_side() -> None:
    first, second = CompositeNode(Fulfil), CompositeNode(Fulfil, name="again")
    reload = load.named("reload")
    workflow = make(load, load >> first >> ship >> reload >> second, takes=str, returns=Packed)
    assert "again/pick" in workflow.graph.nodes
    assert "Fulfil/pick" in workflow.graph.nodes


@node
async def inspect(order: Order) -> Packed | Empty:
    return Empty()


@node
async def repack(packed: Packed) -> Packed:
    return packed


class Sorting(WorkflowDefinition[Order, Packed | Empty, Shop]):
    start = inspect
    edges = (inspect.when(Packed) >> repack, inspect.when(Empty))


def test_several_outlets_of_a_workflow_meet_in_one_node_that_passes_on() -> None:
    sorting = CompositeNode(Sorting)
    workflow = make(
        load,
        load >> sorting,
        sorting.when(Packed) >> ship,
        sorting.when(Empty) >> apologise,
        takes=str,
        returns=str,
    )
    graph = workflow.graph
    assert [edge.target for edge in graph.route("Sorting/inspect", Empty())] == ["Sorting/end"]
    assert [edge.target for edge in graph.route("Sorting/inspect", Packed(1))] == ["Sorting/repack"]
    assert [edge.target for edge in graph.route("Sorting/end", Empty())] == ["apologise"]
    assert [edge.target for edge in graph.route("Sorting/end", Packed(1))] == ["ship"]


def test_the_meeting_node_gives_way_to_a_node_of_its_name() -> None:
    class Named(WorkflowDefinition[Order, Packed | Empty, Shop]):
        start = inspect
        edges = (inspect.when(Packed) >> repack.named("end"), inspect.when(Empty))

    graph = make(CompositeNode(Named), takes=Order, returns=Packed | Empty).graph
    assert {"Named/end", "Named/workflow end"} <= set(graph.nodes)


def test_workflows_nest_to_any_depth_and_inside_batches() -> None:
    class Middle(WorkflowDefinition[str, Packed, Shop]):
        start = load
        edges = (load >> CompositeNode(Fulfil),)

    batch = BatchNode(CompositeNode(Middle), max_in_flight=2)
    graph = make(batch, takes=list[str], returns=list[Packed]).graph
    assert graph.nodes["Middle_batch/item/Fulfil/items_of"].fan_out == FanOut(join="Middle_batch/item/Fulfil/pack")
    assert graph.nodes["Middle_batch/split"].fan_out == FanOut(join="Middle_batch/join", wave=2)
    assert graph.nodes["Middle_batch/item/Fulfil/pack"].options.queue == "fulfilment"


def test_endings_inside_a_closed_fan_out_stay_endings() -> None:
    class Dropping(WorkflowDefinition[Order, int, Shop]):
        start = SplitNode(items_of)
        edges = (start >> check, check.when(int) >> gather(count), check.when(None))

    graph = make(CompositeNode(Dropping), takes=Order, returns=int).graph
    assert graph.route("Dropping/check", None) == ()
    assert [edge.target for edge in graph.route("Dropping/check", 5)] == ["Dropping/count"]


def test_a_context_that_does_not_fit_is_named_with_the_inner_node() -> None:
    class Elsewhere(Context):
        pass

    class Inner(WorkflowDefinition[str, int | None, Shop]):
        start = check

    refused(
        "its context is Elsewhere, but node 'Inner/check' reads Shop",
        lambda: make(CompositeNode(Inner), takes=str, returns=int | None, context=Elsewhere),
    )


def test_a_workflow_that_cannot_be_inlined_is_refused() -> None:
    class Open(WorkflowDefinition[Order, list[str]]):
        start = SplitNode(items_of)

    class Timed(WorkflowDefinition[str, str], timeout=9):
        start = pick

    class Abstract(WorkflowDefinition[str, str]):
        pass

    refused(
        "CompositeNode(Open): it may end more than once, but a node passes on one value.", lambda: CompositeNode(Open)
    )
    refused(
        "CompositeNode(Timed): its steps are part of the outer run, which its own timeout of 9 s cannot end. Set the "
        "timeout of the outer workflow.",
        lambda: CompositeNode(Timed),
    )
    refused("it takes a workflow class that has a start.", lambda: CompositeNode(Abstract))
    refused("it takes a workflow class that has a start.", lambda: CompositeNode(pick))  # type: ignore[arg-type]
    fulfil = CompositeNode(Fulfil)
    refused(
        "Fulfil.on_failure: 'Fulfil' stands for several nodes",
        lambda: make(fulfil, fulfil.on_failure >> load, takes=Order, returns=Any),  # type: ignore[operator]
    )


# --- collect


async def test_collect_gathers_the_list_itself() -> None:
    split = SplitNode(items_of)
    workflow = make(split, split >> pick >> collect(str) >> pack, takes=Order, returns=Packed)
    collected = workflow.graph.nodes["collect"]
    assert collected.is_gather
    assert collected.output.annotation == list[str]
    assert workflow.graph.nodes["items_of"].fan_out == FanOut(join="collect")
    assert await invoke(workflow, "collect", ["a"]) == ["a"]


def test_a_second_collect_needs_a_name() -> None:
    split, again = SplitNode(items_of), SplitNode(items_of, name="again")

    def two(name: str) -> object:
        reload = load.named("reload")
        path = (
            split
            >> pick
            >> collect(str)
            >> pack
            >> ship
            >> reload
            >> again
            >> pick.named("p2")
            >> collect(str, name=name)
        )
        return make(split, path, takes=Order, returns=list[str])

    assert two("second")
    refused("Two different nodes are called 'collect'", lambda: two("collect"))
