"""Workflow classes, and workflows made by a program."""

from __future__ import annotations

from typing import assert_type

from shop import *

from floxide_amqp.core.builder import GraphBuilder
from floxide_amqp.core.context import NoContext
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.path import gather
from floxide_amqp.core.workflow import WorkflowDefinition


class OrderProcessing(WorkflowDefinition[Order, str, OrderContext], version="1", queue="orders", timeout=60):
    start = charge
    edges = (
        charge >> approve,
        charge.on_failure(DeclinedError) >> refund >> notify,
        approve.when(Approved) >> split >> pick >> gather(pack) >> notify,
        approve.when(Rejected) >> refund,
    )


class Counting(WorkflowDefinition[str, int]):
    start = length


assert_type(OrderProcessing.graph, Graph)
assert_type(OrderProcessing.to_dot(), str)

builder = GraphBuilder(draft, output=int, name="Long")
assert_type(builder, GraphBuilder[str, int, NoContext])
builder.chain([draft, draft.named("draft_2")]).connect(draft, length).add(draft >> length)
assert_type(builder.build(), type[WorkflowDefinition[str, int, NoContext]])
assert_type(GraphBuilder(charge, output=str, name="Shop", context=OrderContext), GraphBuilder[Order, str, OrderContext])
