"""The old code: an order is entered, waits for its go, is packed line by line and shipped."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from examples.rolling_deploy.common import GO, NAMESPACE, QUICK
from floxide_amqp import Context, Floxide, Hold, NextAll, Sum, Workflow, WorkflowCtx, gather, node


class OrderContext(Context):
    packed: Annotated[int, Sum()] = 0


@dataclass
class Order:
    number: int
    lines: int


@dataclass
class Line:
    order: int
    number: int


@node
async def enter(ctx: WorkflowCtx[OrderContext], order: Order) -> Order:
    return order


@node
async def wait_for_go(ctx: WorkflowCtx[OrderContext], order: Order) -> Order | Hold:
    return order if ctx.received(GO) else Hold(until=GO)


@node
async def split(ctx: WorkflowCtx[OrderContext], order: Order) -> NextAll[Line]:
    return NextAll([Line(order.number, number) for number in range(order.lines)])


@node
async def pack(ctx: WorkflowCtx[OrderContext], line: Line) -> Line:
    await asyncio.sleep(0.05)
    ctx.state.packed += 1
    return line


@node
async def ship(ctx: WorkflowCtx[OrderContext], lines: list[Line]) -> str:
    return f"version 1: {len(lines)} lines, {ctx.state.packed} packed"


class Orders(Workflow[Order, str, OrderContext], version="1"):
    start = enter
    edges = (enter >> wait_for_go >> split >> pack >> gather(ship),)


app = Floxide(workflows=[Orders], namespace=NAMESPACE, timeouts=QUICK)
