"""Mistakes in nodes, contexts and workflow classes, each on a line that both type checkers must refuse."""

from __future__ import annotations

from shop import *

from floxide_amqp import Abort, GraphBuilder, Hold, NoContext, Orchestrator, Workflow, WorkflowCtx, node, with_retry


class WrongInput(Workflow[int, str, OrderContext]):
    start = charge  # expect: the declared input differs from the start's
    edges = (charge >> approve,)


class NoPath(Workflow[Order, str, OrderContext]):
    start = charge
    edges = charge >> approve  # expect: a path instead of a tuple of paths


class NoContextClass(Workflow[Order, str, int]):  # expect: a context that is none
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


class OrderProcessing(Workflow[Order, Receipt, OrderContext]):
    start = charge


async def wrong_runs(orchestrator: Orchestrator, order: Order) -> None:
    await orchestrator.start(OrderProcessing, "order")  # expect: a run started with a wrong input
    await orchestrator.start(OrderProcessing, order, context=NoContext())  # expect: a run started with another context
    await OrderProcessing.run("order")  # expect: a local run with a wrong input
    await OrderProcessing.run(order, context=NoContext())  # expect: a local run with another context
    await (await orchestrator.start(OrderProcessing, order)).result(timeout="soon")  # expect: a wait that is no time
    (await OrderProcessing.run(order)).why  # expect: an attribute the output does not have
