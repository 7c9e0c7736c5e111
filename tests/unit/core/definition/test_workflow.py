from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Generic, Literal

import pytest
from typing_extensions import TypeIs, TypeVar

from floxide_amqp.apps.local import Workflow
from floxide_amqp.core.context import Context, NoContext
from floxide_amqp.core.entering import fan_out, gather, repeat
from floxide_amqp.core.failure import error_kinds
from floxide_amqp.core.function_node import node
from floxide_amqp.core.graph import FanOut, Repeat, WorkflowOptions
from floxide_amqp.core.options import DEFAULT_QUEUE
from floxide_amqp.core.path import Path
from floxide_amqp.core.retry import NO_RETRY, RetryPolicy
from floxide_amqp.core.transition import Hold, Next, NextAll
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import DefinitionError, UnroutedValueError


class Shop(Context):
    spent: int = 0


class BigShop(Shop):
    clerks: int = 0


@dataclass(frozen=True)
class Order:
    id: str


@dataclass(frozen=True)
class Approved:
    by: str


@dataclass(frozen=True)
class Rejected:
    by: str


@dataclass(frozen=True)
class HardRejected(Rejected):
    pass


class Color(Enum):
    RED = 1
    GREEN = 2
    BLUE = 3


class PaymentError(Exception): ...


class DeclinedError(PaymentError): ...


@node
async def approve(ctx: WorkflowCtx[Shop], order: Order) -> Next[Approved | Rejected] | Hold:
    return Hold()


@node(queue="warehouse", retry=RetryPolicy(max_attempts=7))
async def ship(order: Approved) -> str:
    return "shipped"


@node(timeout=5)
async def refund(why: Rejected) -> str:
    return "refunded"


@node
async def apologise(order: Order) -> str:
    return "sorry"


@node
async def escalate(order: Order) -> str:
    return "escalated"


class Orders(WorkflowDefinition[Order, str, Shop], version="3", queue="orders", timeout=60):
    start = approve
    edges = (
        approve.when(Approved) >> ship,
        approve.when(Rejected) >> refund,
        approve.on_failure(PaymentError) >> escalate,
        approve.on_failure >> apologise,
    )


def targets(workflow: type[WorkflowDefinition[Any, Any, Any]], source: str, value: object) -> list[str]:
    return [edge.target for edge in workflow.graph.route(source, value)]


# --- what is compiled


def test_the_graph_says_what_the_class_says() -> None:
    graph = Orders.graph
    assert (graph.workflow, graph.version, graph.start) == ("Orders", "3", "approve")
    assert (graph.input.annotation, graph.output.annotation) == (Order, str)
    assert graph.context is Shop
    assert not graph.many_outputs
    assert graph.options == WorkflowOptions(queue="orders", timeout=timedelta(seconds=60))
    assert list(graph.nodes) == ["approve", "ship", "refund", "escalate", "apologise"]


def test_options_of_the_node_win_over_those_of_the_workflow() -> None:
    nodes = Orders.graph.nodes
    assert nodes["ship"].options.queue == "warehouse"
    assert nodes["ship"].options.retry == RetryPolicy(max_attempts=7)
    assert nodes["refund"].options.queue == "orders"
    assert nodes["refund"].options.retry is None
    assert nodes["refund"].options.timeout == timedelta(seconds=5)
    assert nodes["approve"].options.timeout is None


def test_a_workflow_without_options_uses_the_default_queue() -> None:
    class Bare(WorkflowDefinition[Approved, str]):
        start = ship.named("ship_it")

    assert Bare.graph.options == WorkflowOptions(queue=DEFAULT_QUEUE)
    assert Bare.graph.context is NoContext


def test_a_node_that_may_start_once_takes_no_policy_from_the_workflow() -> None:
    @node(at_most_once=True)
    async def once(value: int) -> int:
        return value

    class Once(WorkflowDefinition[int, int], retry=RetryPolicy(max_attempts=5)):
        start = once

    assert Once.graph.nodes["once"].options.retry == NO_RETRY


def test_a_graph_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Orders.graph.start = "ship"  # type: ignore[misc]
    with pytest.raises(TypeError):
        Orders.graph.nodes["x"] = Orders.graph.nodes["ship"]  # type: ignore[index]


def test_terminal_nodes_are_those_nothing_leaves() -> None:
    assert Orders.graph.is_terminal("ship")
    assert not Orders.graph.is_terminal("approve")


def test_edges_are_found_by_id_and_several_between_two_nodes_are_numbered() -> None:
    @node
    async def pick(value: int) -> int:
        return value

    @node
    async def pack(value: int) -> int:
        return value

    class Numbered(WorkflowDefinition[int, int]):
        start = pick
        edges = (pick.when(lambda v: v > 1) >> pack, pick.otherwise >> pack, pick.on_failure >> pack)

    assert list(Numbered.graph.edges) == ["pick>pack", "pick>pack#2", "pick>pack#3"]
    assert Numbered.graph.edge("pick>pack#3").label == "on_failure"
    with pytest.raises(KeyError):
        Numbered.graph.edge("pick>nowhere")


def test_the_same_edge_in_two_paths_is_one() -> None:
    @node
    async def again(text: str) -> str:
        return text

    class Twice(WorkflowDefinition[Approved, str]):
        start = ship
        edges = (ship >> again, ship >> again >> again.named("other"), ship.named("ship") >> again)

    assert list(Twice.graph.edges) == ["ship>again", "again>other"]


def test_the_fingerprint_is_of_shape_and_types_and_not_of_options() -> None:
    def make(**options: Any) -> str:
        class Same(WorkflowDefinition[Approved, str], **options):
            start = ship
            edges = (ship >> echo,)

        return Same.graph.fingerprint

    @node
    async def echo(text: str) -> str:
        return text

    class Other(WorkflowDefinition[Approved, str], name="Same"):
        start = ship

    assert make() == make(queue="x", timeout=5)
    assert make() != make(version="2")
    assert make() != Other.graph.fingerprint
    assert len(make()) == 32


# --- routing


def test_a_value_takes_the_edge_of_its_variant() -> None:
    assert targets(Orders, "approve", Approved("x")) == ["ship"]
    assert targets(Orders, "approve", Rejected("x")) == ["refund"]
    assert targets(Orders, "approve", HardRejected("x")) == ["refund"]
    assert targets(Orders, "ship", "shipped") == []


def test_an_error_takes_the_edge_of_its_nearest_class_and_the_bare_one_only_without() -> None:
    class Failing(WorkflowDefinition[Order, str]):
        start = apologise
        edges = (
            apologise.on_failure(DeclinedError) >> apologise.named("declined"),
            apologise.on_failure(PaymentError, KeyError) >> escalate,
            apologise.on_failure >> apologise.named("other"),
        )

    def taken(error: Exception) -> list[str]:
        return [edge.target for edge in Failing.graph.route_failure("apologise", error_kinds(error))]

    assert taken(DeclinedError()) == ["declined"]
    assert taken(PaymentError()) == ["escalate"]
    assert taken(KeyError()) == ["escalate"]
    assert taken(ValueError()) == ["other"]
    assert Orders.graph.route_failure("ship", error_kinds(ValueError())) == ()


def test_every_plain_edge_and_every_when_that_matches_is_taken() -> None:
    class All(WorkflowDefinition[int, list[int]]):
        start = number
        edges = (
            number >> number.named("plain"),
            number.when(lambda v: v > 1) >> number.named("big"),
            number.when(lambda v: v > 2) >> number.named("bigger"),
            number.otherwise >> number.named("small"),
        )

    assert targets(All, "number", 3) == ["plain", "big", "bigger"]
    assert targets(All, "number", 2) == ["plain", "big"]
    assert targets(All, "number", 0) == ["plain", "small"]


@node
async def number(value: int) -> int:
    return value


@node
async def color(value: int) -> Color:
    return Color(value)


@node
async def paint(what: Color) -> str:
    return what.name


def test_enum_members_are_told_apart() -> None:
    class Painting(WorkflowDefinition[int, str]):
        start = color
        edges = (
            color.when(Color.RED) >> paint,
            color.when(Color.BLUE, lambda c: c.value == 4) >> paint.named("never"),
            color.otherwise >> paint.named("other"),
        )

    assert targets(Painting, "color", Color.RED) == ["paint"]
    assert targets(Painting, "color", Color.BLUE) == ["other"]
    assert targets(Painting, "color", Color.GREEN) == ["other"]


def test_members_of_a_literal_of_an_enum_are_told_apart() -> None:
    @node
    async def choose(value: int) -> Literal[Color.RED, Color.BLUE]:
        return Color.RED

    class Choosing(WorkflowDefinition[int, str]):
        start = choose
        edges = (choose.when(Color.RED) >> paint, choose.when(Color.BLUE) >> paint.named("blue"))

    assert targets(Choosing, "choose", Color.BLUE) == ["blue"]


def test_a_predicate_whose_annotations_cannot_be_read_narrows_nothing() -> None:
    def is_fine(value: Missing) -> TypeIs[Missing]:  # type: ignore[name-defined]  # noqa: F821
        return True

    class Fine(WorkflowDefinition[int, int]):
        start = number
        edges = (number.when(is_fine) >> number.named("next"), number.otherwise)

    assert targets(Fine, "number", 1) == ["next"]


def test_a_guard_is_asked_for_its_variant_alone() -> None:
    asked: list[object] = []

    def by_boss(value: Approved) -> bool:
        asked.append(value)
        return value.by == "boss"

    @node
    async def decide(value: int) -> Approved | Rejected:
        return Approved("")

    @node
    async def close(value: Approved | Rejected) -> str:
        return ""

    class Guarded(WorkflowDefinition[int, str]):
        start = decide
        edges = (decide.when(Approved, by_boss) >> ship, decide.otherwise >> close)

    assert targets(Guarded, "decide", Approved("boss")) == ["ship"]
    assert targets(Guarded, "decide", Approved("clerk")) == ["close"]
    assert targets(Guarded, "decide", Rejected("boss")) == ["close"]
    assert asked == [Approved("boss"), Approved("clerk")]


def test_what_a_guard_raises_comes_out() -> None:
    class Broken(WorkflowDefinition[int, int]):
        start = number
        edges = (number.when(lambda v: 1 / v > 0) >> number.named("next"), number.otherwise)

    with pytest.raises(ZeroDivisionError):
        Broken.graph.route("number", 0)


def test_a_variant_narrower_than_the_output_takes_instances_of_its_class() -> None:
    @node
    async def decide(value: int) -> Rejected:
        return Rejected("")

    class Narrow(WorkflowDefinition[int, str]):
        start = decide
        edges = (decide.when(HardRejected) >> refund, decide.otherwise >> refund.named("soft"))

    assert targets(Narrow, "decide", HardRejected("x")) == ["refund"]
    assert targets(Narrow, "decide", Rejected("x")) == ["soft"]
    assert not Narrow.graph.many_outputs


def test_a_variant_may_be_a_union_of_a_member_and_a_narrower_class() -> None:
    @node
    async def take(value: Approved | HardRejected) -> str:
        return ""

    class Mixed(WorkflowDefinition[Order, str, Shop]):
        start = approve
        edges = (approve.when(Approved | HardRejected) >> take, approve.otherwise >> refund)  # type: ignore[call-overload]

    assert targets(Mixed, "approve", Approved("x")) == ["take"]
    assert targets(Mixed, "approve", HardRejected("x")) == ["take"]
    assert targets(Mixed, "approve", Rejected("x")) == ["refund"]
    assert not Mixed.graph.many_outputs


def test_numbers_of_a_union_are_told_apart() -> None:
    @node
    async def measure(value: int) -> int | float:
        return value

    @node
    async def whole(value: int) -> str:
        return ""

    @node
    async def real(value: float) -> str:
        return ""

    class Measures(WorkflowDefinition[int, str]):
        start = measure
        edges = (measure.when(int) >> whole, measure.when(float) >> real)

    assert targets(Measures, "measure", 1) == ["whole"]
    assert targets(Measures, "measure", 1.5) == ["real"]


def test_none_and_lists_are_variants_too() -> None:
    @node
    async def find(value: int) -> list[int] | None:
        return None

    @node
    async def use(values: list[int]) -> str:
        return ""

    class Finding(WorkflowDefinition[int, str | None]):
        start = find
        edges = (find.when(list[int]) >> use, find.when(None))

    assert targets(Finding, "find", [1]) == ["use"]
    assert targets(Finding, "find", None) == []


def test_a_path_listed_alone_ends_the_branch_with_its_values_as_output() -> None:
    class Ending(WorkflowDefinition[Order, str | Rejected, Shop]):
        start = approve
        edges = (approve.when(Approved) >> ship, approve.when(Rejected))

    assert targets(Ending, "approve", Rejected("x")) == []
    assert Ending.graph.nodes["approve"].endings


def test_a_predicate_that_narrows_gives_the_narrowed_type() -> None:
    def is_approved(value: Approved | Rejected) -> TypeIs[Approved]:
        return isinstance(value, Approved)

    class Narrowing(WorkflowDefinition[Order, str | Approved | Rejected, Shop]):
        start = approve
        edges = (approve.when(is_approved) >> ship, approve.otherwise)

    assert targets(Narrowing, "approve", Approved("x")) == ["ship"]


def test_a_value_of_no_declared_type_is_an_error_that_names_the_edges() -> None:
    with pytest.raises(UnroutedValueError) as caught:
        Orders.graph.route("approve", 5)
    assert str(caught.value) == (
        "Node 'approve' returned a value of type int, which none of its edges takes "
        "(approve.when(Approved), approve.when(Rejected)). Return a value of the type the node declares."
    )


# --- loops


def test_a_loop_has_a_bound() -> None:
    class Loop(WorkflowDefinition[int, int]):
        start = number
        edges = (
            number.when(lambda v: v < 3) >> number.named("more") >> repeat(number, max_iterations=5),
            number.otherwise,
        )

    assert Loop.graph.edge("more>number").repeat == Repeat(max_iterations=5)


def test_a_loop_around_another_resets_its_count() -> None:
    names = ("outer", "inner", "check", "done")
    outer, inner, check, done = (number.named(name) for name in names)

    class Nested(WorkflowDefinition[int, int]):
        start = outer
        edges = (
            outer >> inner >> check,
            check.when(lambda v: v < 3) >> repeat(inner, max_iterations=2),
            check.otherwise >> done,
            done.when(lambda v: v < 9) >> repeat(outer, max_iterations=4),
            done.otherwise,
        )

    assert Nested.graph.edge("done>outer").repeat == Repeat(max_iterations=4, resets=("check>inner",))
    assert Nested.graph.edge("check>inner").repeat == Repeat(max_iterations=2)
    assert not Nested.graph.many_outputs


def test_a_loop_that_leaves_the_way_forward_is_nested_too() -> None:
    head, fix, body, tail = (number.named(name) for name in ("head", "fix", "body", "tail"))

    class Detour(WorkflowDefinition[int, int]):
        start = head
        edges = (
            head >> body,
            body.when(lambda v: v < 3) >> fix >> repeat(body, max_iterations=2),
            body.otherwise >> tail,
            tail.when(lambda v: v < 9) >> repeat(head, max_iterations=4),
            tail.otherwise,
        )

    assert Detour.graph.edge("tail>head").repeat == Repeat(max_iterations=4, resets=("fix>body",))


def test_two_loops_to_one_node_do_not_reset_each_other() -> None:
    head, body, tail = (number.named(name) for name in ("head", "body", "tail"))

    class Shared(WorkflowDefinition[int, int]):
        start = head
        edges = (
            head >> body,
            body.when(lambda v: v < 3) >> repeat(head, max_iterations=2),
            body.otherwise >> tail,
            tail.when(lambda v: v < 9) >> repeat(head, max_iterations=4),
            tail.otherwise,
        )

    assert Shared.graph.edge("body>head").repeat == Repeat(max_iterations=2)
    assert Shared.graph.edge("tail>head").repeat == Repeat(max_iterations=4)


def test_a_node_may_lead_back_to_itself() -> None:
    class Self(WorkflowDefinition[int, int]):
        start = number
        edges = (number.when(lambda v: v < 3) >> repeat(number, max_iterations=2), number.otherwise)

    assert Self.graph.edge("number>number").repeat == Repeat(max_iterations=2)


# --- classes


def test_a_class_without_a_start_is_not_compiled_and_hands_its_options_on() -> None:
    policy = RetryPolicy(max_attempts=2)

    class Base(WorkflowDefinition[Order, str, Shop], queue="base", retry=policy, timeout=9):
        pass

    class Derived(Base, timeout=5):
        start = apologise

    assert not hasattr(Base, "graph")
    assert Derived.graph.options == WorkflowOptions(queue="base", retry=policy, timeout=timedelta(seconds=5))


def test_a_class_with_edges_but_no_start_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"'NoStart' has edges but no start. Name the node that receives the inp"):

        class NoStart(WorkflowDefinition[Order, str, Shop]):
            edges = (apologise,)


def test_a_generic_base_is_filled_in_by_the_class_with_the_start() -> None:
    item = TypeVar("item")

    class Listing(WorkflowDefinition[item, str, Shop], Generic[item]):
        pass

    class Filled(Listing[Order]):
        start = apologise

    assert Filled.graph.input.annotation is Order


def test_types_local_to_a_function_are_found_in_a_workflow() -> None:
    @dataclass(frozen=True)
    class Local:
        n: int

    @node
    async def use(value: Local) -> Local:
        return value

    class Inner(WorkflowDefinition["Local", "list[Local]"]):
        start = each
        edges = (each >> use,)

    assert Inner.graph.many_outputs is True
    assert Inner.graph.output.annotation is Local


def test_a_node_may_read_a_base_of_the_context() -> None:
    class Big(WorkflowDefinition[Order, str, BigShop]):
        start = approve
        edges = (approve.when(Approved) >> ship, approve.when(Rejected) >> refund)

    assert Big.graph.context is BigShop


def test_a_start_may_take_more_than_the_declared_input() -> None:
    @node
    async def wide(value: Order | None) -> str:
        return ""

    class Wide(WorkflowDefinition[Order, str]):
        start = wide

    assert Wide.graph.input.annotation is Order
    assert Wide.graph.nodes["wide"].input.annotation == Order | None


def test_paths_may_be_generated() -> None:
    steps = [number.named(f"step-{n}") for n in range(20)]

    class Generated(WorkflowDefinition[int, list[int]]):
        start = number
        edges = (number >> fan_out(steps),)

    assert len(Generated.graph.edges) == 20
    assert Generated.graph.nodes["number"].fan_out == FanOut()


@node
async def each(value: Any) -> NextAll[Any]:
    return NextAll([value])


def test_a_gather_is_described_by_its_list_and_its_element() -> None:
    @node
    async def items(value: int) -> NextAll[int]:
        return NextAll([value])

    @node
    async def total(values: list[int]) -> int:
        return sum(values)

    class Summing(WorkflowDefinition[int, int]):
        start = items
        edges = (items >> number >> gather(total),)

    gathered = Summing.graph.nodes["total"]
    assert gathered.is_gather
    assert gathered.input.annotation == list[int]
    assert gathered.element is not None
    assert gathered.element.annotation is int
    assert Summing.graph.nodes["items"].fan_out == FanOut(join="total")
    assert Summing.graph.nodes["number"].fan_out is None


# --- wrong classes


def path_start() -> None:
    class Wrong(WorkflowDefinition[int, int]):
        start = number >> number.named("b")


def class_start() -> None:
    class Wrong(WorkflowDefinition[int, int]):
        start = Color  # type: ignore[assignment]


def single_path() -> None:
    class Wrong(WorkflowDefinition[int, int]):
        start = number
        edges = number >> number.named("b")  # type: ignore[assignment]


def no_path() -> None:
    class Wrong(WorkflowDefinition[int, int]):
        start = number
        edges = ("number >> b",)  # type: ignore[assignment]


def function_start() -> None:
    async def plain(x: int) -> int:
        return x

    class Wrong(WorkflowDefinition[int, int]):
        start = plain  # type: ignore[assignment]


def no_edges() -> None:
    class Wrong(WorkflowDefinition[int, int]):
        start = number
        edges = 5  # type: ignore[assignment]


def no_types() -> None:
    class Wrong(WorkflowDefinition):  # type: ignore[type-arg]
        start = number


def no_types_of_the_public_class() -> None:
    class Wrong(Workflow):  # type: ignore[type-arg]
        start = number


def open_type() -> None:
    item = TypeVar("item")

    class Wrong(WorkflowDefinition[item, int], Generic[item]):
        start = number  # type: ignore[assignment]


def no_context() -> None:
    class Wrong(WorkflowDefinition[int, int, int]):  # type: ignore[type-var]
        start = number


def empty_name() -> None:
    class Wrong(WorkflowDefinition[int, int], name=""):
        start = number


def number_version() -> None:
    class Wrong(WorkflowDefinition[int, int], version=2):  # type: ignore[arg-type]
        start = number


def wrong_retry() -> None:
    class Wrong(WorkflowDefinition[int, int], retry=3):  # type: ignore[arg-type]
        start = number


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (path_start, "Workflow 'Wrong': start is <Path number >> ... >> b>; it must be one node. Write start = charge"),
        (function_start, "Workflow 'Wrong': start is the function plain, not a node: put @node above it."),
        (class_start, "Workflow 'Wrong': start is the class Color; it must be one node."),
        (
            single_path,
            "Workflow 'Wrong': edges is a single path. Put it into a tuple, with a comma: edges = (a >> b,).",
        ),
        (no_path, "Workflow 'Wrong': edges holds 'number >> b', which is not a path. Connect nodes with >>"),
        (no_edges, "Workflow 'Wrong': edges is 5; it must be a tuple of paths"),
        (no_types, "Workflow 'Wrong' does not say what it takes and returns. Declare it: class Wrong(Workflow[Order, "),
        (no_types_of_the_public_class, "Workflow 'Wrong' does not say what it takes and returns. Declare it: class W"),
        (
            open_type,
            "Workflow 'Wrong' leaves the type of its input, item, open. A workflow with a start needs its types",
        ),
        (no_context, "Workflow 'Wrong': its context int is not a context. Make it one: class int(Context)."),
        (empty_name, "Workflow 'Wrong': name='' must be 1 to 200 printable characters."),
        (number_version, "Workflow 'Wrong': version=2 must be 1 to 200 printable characters."),
        (wrong_retry, "Workflow 'Wrong': retry=3 must be a RetryPolicy"),
    ],
)
def test_a_wrong_class_statement_is_an_error_with_the_cure(make: Any, sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        make()
    assert sentence in str(caught.value)


def test_start_is_typed_as_a_path_so_that_type_checkers_compare_the_input() -> None:
    assert WorkflowDefinition.__annotations__["start"] == "Path[WI, Any]"
    assert issubclass(Path, object)
