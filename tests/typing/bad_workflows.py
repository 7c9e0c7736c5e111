"""Mistakes in nodes, contexts and workflow classes, each on a line that both type checkers must refuse."""

from __future__ import annotations

from shop import *

from floxide_amqp.core.builder import GraphBuilder
from floxide_amqp.core.node import node, with_retry
from floxide_amqp.core.transition import Abort, Hold
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.core.workflow_ctx import WorkflowCtx


class WrongInput(WorkflowDefinition[int, str, OrderContext]):
    start = charge  # expect: the declared input differs from the start's
    edges = (charge >> approve,)


class NoPath(WorkflowDefinition[Order, str, OrderContext]):
    start = charge
    edges = charge >> approve  # expect: a path instead of a tuple of paths


class NoContextClass(WorkflowDefinition[Order, str, int]):  # expect: a context that is none
    start = charge


@node(timeout="soon")  # expect: a timeout that is no time
async def late(order: Order) -> int:
    return 1


@node(attempts=3)  # expect: an option there is not
async def eager(order: Order) -> int:
    return 1


@node  # expect: two inputs
async def two(a: int, b: str, c: str) -> int:
    return 1


with_retry(charge, 3)  # expect: a number instead of a policy
OrderContext()  # expect: a missing Fixed field
Abort("no")  # expect: text instead of an exception
Hold(for_="soon")  # expect: a time that is none
charge.named(3)  # expect: a name that is none
GraphBuilder(charge, output=str)  # expect: no name
GraphBuilder(charge, output=str, name="x", context=int)  # expect: a context that is none, for the builder
GraphBuilder(draft, output=int, name="x").connect(draft, charge)  # expect: an edge of the builder to a wrong node


async def wrong_calls(ctx: WorkflowCtx[OrderContext], there: WorkflowCtx[OtherContext]) -> None:
    await charge(ctx, "order")  # expect: a direct call with a wrong input
    await charge(Order("1", []))  # expect: a direct call without the context
    await charge(there, Order("1", []))  # expect: a direct call with another context
    ctx.state = OrderContext(customer="c")  # expect: the state is not replaced
    ctx.resource("http")  # expect: a resource is asked for by type
    (await pick("nut")).nope  # expect: an attribute the result does not have
