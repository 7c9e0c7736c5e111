"""Workflow classes, and workflows made by a program."""

from __future__ import annotations

from typing import assert_type

from shop import *

from floxide_amqp import GraphBuilder, NoContext, Orchestrator, RunHandle, Workflow, WorkflowCtx, gather, node
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.workflow import WorkflowDefinition


class OrderProcessing(Workflow[Order, str, OrderContext], version="1", queue="orders", timeout=60):
    start = charge
    edges = (
        charge >> approve,
        charge.on_failure(DeclinedError) >> refund >> notify,
        approve.when(Approved) >> split >> pick >> gather(pack) >> notify,
        approve.when(Rejected) >> refund,
    )


class Counting(Workflow[str, int]):
    start = length


assert_type(OrderProcessing.graph, Graph)
assert_type(OrderProcessing.to_dot(), str)

builder = GraphBuilder(draft, output=int, name="Long")
assert_type(builder, GraphBuilder[str, int, NoContext])
builder.chain([draft, draft.named("draft_2")]).connect(draft, length).add(draft >> length)
made: type[WorkflowDefinition[str, int]] = builder.build()
assert_type(GraphBuilder(charge, output=str, name="Shop", context=OrderContext), GraphBuilder[Order, str, OrderContext])


async def running(orchestrator: Orchestrator, order: Order) -> None:
    assert_type(await OrderProcessing.run(order, context=OrderContext(customer="c1")), str)
    assert_type(await Counting.run("four"), int)
    handle = await orchestrator.start(OrderProcessing, order, run_id="order-17")
    assert_type(handle, RunHandle[str])
    assert_type(await handle.result(timeout=60), str)
    assert_type(await orchestrator.start(Counting, "four"), RunHandle[int])


@node
async def whatever_the_context_is(ctx: WorkflowCtx, text: str) -> str:
    return f"{ctx.run_id}: {text}"


class WithContext(Workflow[str, str, OrderContext]):
    start = whatever_the_context_is


class WithoutContext(Workflow[str, str]):
    start = whatever_the_context_is
