"""Every check at class creation, with its sentence: which nodes, both types, the cure."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

import pytest

from floxide_amqp.core.context import Context
from floxide_amqp.core.entering import gather, repeat
from floxide_amqp.core.function_node import node
from floxide_amqp.core.node import Node, with_retry
from floxide_amqp.core.path import Path
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.core.transition import Abort, NextAll
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import DefinitionError

K = TypeVar("K")


class Shop(Context):
    spent: int = 0


class Other(Context):
    spent: int = 0


@dataclass(frozen=True)
class Order:
    id: str


@dataclass(frozen=True)
class Receipt:
    id: str


@dataclass(frozen=True)
class Approved:
    by: str


@dataclass(frozen=True)
class Rejected:
    why: str


class Color(Enum):
    RED = 1
    GREEN = 2
    BLUE = 3


@node
async def charge(ctx: WorkflowCtx[Shop], order: Order) -> Receipt:
    return Receipt("")


@node
async def approve(receipt: Receipt) -> Approved | Rejected:
    return Approved("")


@node
async def ship(what: Approved) -> str:
    return ""


@node
async def refund(what: Rejected) -> str:
    return ""


@node
async def length(text: str) -> int:
    return 0


@node
async def number(value: int) -> int:
    return value


@node
async def each(value: int) -> NextAll[int]:
    return NextAll([value])


@node
async def total(values: list[int]) -> int:
    return sum(values)


@node
async def words(values: list[str]) -> int:
    return 0


@node
async def color(value: int) -> Color:
    return Color.RED


@node
async def paint(what: Color) -> str:
    return ""


@node
async def elsewhere(ctx: WorkflowCtx[Other], receipt: Receipt) -> str:
    return ""


@node
async def give_up(value: int) -> Abort:
    return Abort(ValueError())


def make(
    start: Any, *edges: Path[Any, Any], takes: Any = int, returns: Any = int, context: Any = Shop
) -> type[WorkflowDefinition[Any, Any, Any]]:
    class W(WorkflowDefinition[takes, returns, context]):  # type: ignore[valid-type]
        pass

    W.start = start
    W.edges = edges

    class Made(W, name="W"):
        pass

    return Made


def refused(sentence: str, build: Callable[[], object]) -> None:
    with pytest.raises(DefinitionError) as caught:
        build()
    assert sentence in str(caught.value)


# --- types along edges


def test_an_edge_to_a_node_that_takes_something_else() -> None:
    refused(
        "Workflow 'W': 'charge' returns Receipt, but 'length' takes str. Connect it to a node that takes Receipt, "
        "or put a node between them that turns Receipt into str.",
        lambda: make(charge, charge >> length, takes=Order),
    )


def test_a_branch_to_a_node_that_takes_another_variant() -> None:
    refused(
        "Workflow 'W': approve.when(Approved) gives Approved, but 'refund' takes Rejected. Connect it to a node that "
        "takes Approved, or put a node between them that turns Approved into Rejected.",
        lambda: make(approve, approve.when(Approved) >> refund, approve.otherwise, takes=Receipt, returns=str),
    )


def test_the_rest_of_a_union_to_a_node_that_does_not_take_it() -> None:
    refused(
        "Workflow 'W': approve.otherwise gives Rejected, but 'ship' takes Approved.",
        lambda: make(approve, approve.when(Approved), approve.otherwise >> ship, takes=Receipt, returns=str | Approved),
    )


def test_an_optional_output_to_a_node_that_takes_no_none() -> None:
    @node
    async def find(value: int) -> int | None:
        return None

    refused("'find' returns int | None, but 'number' takes int.", lambda: make(find, find >> number))


def test_a_gather_of_other_elements() -> None:
    refused(
        "Workflow 'W': 'number' returns int, but 'words' gathers str. Connect it to a node that gathers int",
        lambda: make(each, each >> number >> gather(words)),  # type: ignore[arg-type]
    )


def test_namesakes_are_told_apart_by_their_modules() -> None:
    bank_receipt = dataclass(frozen=True)(type("Receipt", (), {"__annotations__": {"id": str}, "__module__": "bank"}))

    async def file(receipt: Any) -> str:
        return ""

    file.__annotations__["receipt"] = bank_receipt
    with pytest.raises(
        DefinitionError, match=r"returns \S+test_definition_errors\.Receipt, but 'file' takes bank\.Receipt"
    ):
        make(charge, charge >> node(file), takes=Order, returns=str)


def test_a_fallback_that_does_not_take_the_failed_nodes_input() -> None:
    refused(
        "Workflow 'W': charge.on_failure(ValueError) >> length: a fallback receives the input of the failed node, "
        "Order, but 'length' takes str. Use a fallback that takes Order; what went wrong is in ctx.failure.",
        lambda: make(charge, charge.on_failure(ValueError) >> length, takes=Order, returns=Receipt),  # type: ignore[operator]
    )


def test_the_fallback_of_a_gather_receives_the_list() -> None:
    refused(
        "total.on_failure >> number: a fallback receives the input of the failed node, list[int], but 'number' "
        "takes int.",
        lambda: make(each, each >> gather(total), total.on_failure >> number),  # type: ignore[operator]
    )


def test_the_declared_input_differs_from_the_starts() -> None:
    refused(
        "Workflow 'W': it is declared to take int, but its start 'charge' takes Order. Declare Workflow[Order, "
        "...], or start with a node that takes int.",
        lambda: make(charge, takes=int, returns=Receipt),
    )


def test_the_declared_output_differs_from_where_it_ends() -> None:
    refused(
        "Workflow 'W': it is declared to return str, but it may end at 'charge' with Receipt. Declare str | "
        "Receipt, or lead 'charge' to a node that returns str.",
        lambda: make(charge, takes=Order, returns=str),
    )


def test_a_branch_that_is_declared_to_end_counts_as_an_output() -> None:
    refused(
        "it is declared to return str, but it may end at 'approve' with Rejected. Declare str | Rejected",
        lambda: make(approve, approve.when(Approved) >> ship, approve.when(Rejected), takes=Receipt, returns=str),
    )


# --- conditions


def test_a_variant_outside_the_union() -> None:
    refused(
        "Workflow 'W': approve.when(Receipt) is never taken: 'approve' returns Approved | Rejected. Name a type or an "
        "enum member it returns.",
        lambda: make(approve, approve.when(Receipt), approve.otherwise >> ship, takes=Receipt, returns=str),
    )


def test_an_enum_member_of_another_enum() -> None:
    class Size(Enum):
        BIG = 1

    refused(
        "color.when(Size.BIG) is never taken: 'color' returns Color.",
        lambda: make(color, color.when(Size.BIG) >> paint, color.otherwise >> paint.named("p"), returns=str),  # type: ignore[type-var]
    )


def test_a_member_of_the_union_that_no_edge_takes() -> None:
    refused(
        "Workflow 'W': node 'approve' may return Rejected, which its edges may not take (approve.when(Approved)). "
        "Add a path for it, or approve.otherwise >> ... for the rest; listed alone, approve.otherwise says that the "
        "branch ends there.",
        lambda: make(approve, approve.when(Approved) >> ship, takes=Receipt, returns=str),
    )


def test_a_guard_leaves_its_variant_open() -> None:
    refused(
        "node 'approve' may return Approved, which its edges may not take (approve.when(Approved, lambda), "
        "approve.when(Rejected)).",
        lambda: make(
            approve,
            approve.when(Approved, lambda a: a.by == "x") >> ship,
            approve.when(Rejected) >> refund,
            takes=Receipt,
            returns=str,
        ),
    )


def test_enum_members_that_no_edge_takes() -> None:
    refused(
        "node 'color' may return Color.GREEN | Color.BLUE, which its edges may not take (color.when(Color.RED)).",
        lambda: make(color, color.when(Color.RED) >> paint, returns=str),
    )


def test_a_predicate_leaves_everything_open() -> None:
    refused(
        "node 'number' may return int, which its edges may not take (number.when(lambda)).",
        lambda: make(number, number.when(lambda v: v > 1) >> number.named("big")),
    )


def test_otherwise_without_when() -> None:
    refused(
        "Workflow 'W': number.otherwise has no number.when(...) beside it. Write a plain number >> ....",
        lambda: make(number, number.otherwise >> number.named("b")),
    )


def test_on_failure_that_leads_nowhere() -> None:
    refused(
        "number.on_failure(ValueError) leads nowhere. Say what follows the failure: number.on_failure(ValueError) "
        ">> refund.",
        lambda: make(number, number.on_failure(ValueError)),
    )


# --- nodes


def test_a_context_that_is_not_the_workflows() -> None:
    refused(
        "Workflow 'W': its context is Shop, but node 'elsewhere' reads Other. Annotate the node with "
        "WorkflowCtx[Shop], or declare a context that derives from Other: Workflow[..., ..., Other].",
        lambda: make(charge, charge >> elsewhere, takes=Order, returns=str),
    )


def test_two_nodes_of_one_name() -> None:
    first = number

    @node
    async def number2(value: int) -> int:
        return value

    refused(
        "Two different nodes are called 'number': the function "
        f"{__name__}.number and the function {__name__}.test_two_nodes_of_one_name.<locals>.number2. "
        "Give one of them another name: number.named('second_number').",
        lambda: make(first, first >> number2.named("number")),
    )


def test_two_configurations_of_one_node_class() -> None:
    class Add(Node[int, int]):
        def __init__(self, amount: int) -> None:
            self.amount = amount

        async def process(self, ctx: WorkflowCtx[Any], input: int, /) -> int:
            return input + self.amount

    refused(
        f"Two different nodes are called 'Add': a Add of {__name__} and a Add of",
        lambda: make(Add(1), Add(1) >> Add(2)),
    )


def test_equal_nodes_written_twice_are_one() -> None:
    @dataclass(frozen=True)
    class Add(Node[int, int]):
        amount: int

        async def process(self, ctx: WorkflowCtx[Any], input: int, /) -> int:
            return input + self.amount

    policy = RetryPolicy(max_attempts=3)
    made = make(Add(1), Add(1) >> with_retry(number, policy), with_retry(number, policy) >> number.named("end"))
    assert list(made.graph.nodes) == ["Add", "number", "end"]
    refused("Two different nodes are called 'Add'", lambda: make(Add(1), Add(1) >> Add(2)))
    refused("Two different nodes are called 'number'", lambda: make(number, number >> with_retry(number, policy)))


def test_a_generic_node_without_arguments() -> None:
    class Echo(Node[K, K], Generic[K]):
        async def process(self, ctx: WorkflowCtx[Any], input: K, /) -> K:
            return input

    refused("Write Echo[int](…) with the types in brackets.", lambda: make(Echo(), Echo() >> number))


def test_a_type_that_cannot_be_stored() -> None:
    @node
    async def open_socket(value: int) -> socket.socket:
        return socket.socket()

    refused("the output of node 'open_socket' has the type socket", lambda: make(open_socket, returns=socket.socket))


def test_members_that_cannot_be_told_apart() -> None:
    @node
    async def lists(value: int) -> list[int] | list[str]:
        return []

    refused("cannot be told from a", lambda: make(lists, returns=list[int] | list[str]))


def test_a_node_that_is_never_reached() -> None:
    refused(
        "Workflow 'W': node 'length' is never reached from the start 'number'. Add an edge that leads to it, or remove "
        "its paths.",
        lambda: make(number, length),
    )
    refused(
        "node 'a' (and 1 more) is never reached from the start 'number'.",
        lambda: make(number, number.named("a") >> number.named("b")),
    )


# --- gathers


def test_a_gather_by_a_node_that_takes_no_list() -> None:
    refused(
        "Workflow 'W': gather(number) needs a node that takes a list, but 'number' takes int. Annotate its input with "
        "list[int], or connect it with a plain >>.",
        lambda: make(each, each >> gather(number)),  # type: ignore[arg-type]
    )


def test_a_node_that_is_gathered_and_not() -> None:
    @node
    async def listed(value: int) -> list[int]:
        return [value]

    refused(
        "Workflow 'W': listed >> total enters a node that other paths enter as gather(total). Write gather in all of "
        "them, or use a second copy here: total.named('second_total').",
        lambda: make(number, number >> (listed >> total, number.named("b") >> gather(total))),
    )


def test_a_start_that_is_gathered() -> None:
    refused(
        "Workflow 'W': its start 'total' is also entered with gather(...). Start with another node.",
        lambda: make(total, total >> each >> gather(total), takes=list[int]),
    )


# --- cycles


def test_a_cycle_without_a_bound() -> None:
    a, b, c = (number.named(name) for name in "abc")
    refused(
        "Workflow 'W': a -> b -> c -> a is a cycle without a bound. Write the edge that leads back as "
        "c >> repeat(a, max_iterations=10).",
        lambda: make(a, a >> b >> c, c.when(lambda v: v > 1) >> a, c.otherwise),
    )


def test_a_node_that_leads_to_itself_without_a_bound() -> None:
    refused(
        "number -> number is a cycle without a bound. Write the edge that leads back as "
        "number >> repeat(number, max_iterations=10).",
        lambda: make(number, number.when(lambda v: v > 1) >> number, number.otherwise),
    )


def test_a_bound_on_an_edge_that_leads_forward() -> None:
    refused(
        "Workflow 'W': number >> repeat(b, max_iterations=2) does not lead back: no path goes from 'b' to 'number'. "
        "Write number >> b.",
        lambda: make(number, number >> repeat(number.named("b"), max_iterations=2)),
    )


def test_one_edge_with_two_bounds() -> None:
    refused(
        "number leads to 'number' twice, with different bounds (repeat up to 2 and repeat up to 3). Keep one of them.",
        lambda: make(number, number >> repeat(number, max_iterations=2), number >> repeat(number, max_iterations=3)),
    )


# --- what is allowed


def test_a_node_that_only_aborts_ends_nothing() -> None:
    made = make(number, number.when(lambda v: v > 1) >> give_up, number.otherwise)
    assert made.graph.nodes["give_up"].output.annotation is None


def test_sentences_never_show_where_an_object_lives_in_memory() -> None:
    with pytest.raises(DefinitionError) as caught:
        make(number, number.when(lambda v: v > 1) >> number.named("x"))
    assert not re.search(r"0x[0-9a-f]{6}", str(caught.value))
