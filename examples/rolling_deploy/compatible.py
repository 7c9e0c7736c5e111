"""The new code has fields more and other bodies, and the same graph: it goes on with the old runs as they are."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from examples.rolling_deploy.common import GO, NAMESPACE, QUICK
from floxide_amqp import Context, Floxide, Hold, NextAll, Sum, VersionPolicy, Workflow, WorkflowCtx, gather, node


class OrderContext(Context):
    packed: Annotated[int, Sum()] = 0


@dataclass
class Order:
    number: int
    lines: int
    currency: str = "EUR"


@dataclass
class Line:
    order: int
    number: int
    weight: float = 1.0


@node
async def enter(ctx: WorkflowCtx[OrderContext], order: Order) -> Order:
    return order


@node
async def wait_for_go(ctx: WorkflowCtx[OrderContext], order: Order) -> Order | Hold:
    return order if ctx.received(GO) else Hold(until=GO)


@node
async def split(ctx: WorkflowCtx[OrderContext], order: Order) -> NextAll[Line]:
    return NextAll([Line(order.number, number, weight=2.0) for number in range(order.lines)])


@node
async def pack(ctx: WorkflowCtx[OrderContext], line: Line) -> Line:
    await asyncio.sleep(0.05)
    ctx.state.packed += 1
    return line


@node
async def ship(ctx: WorkflowCtx[OrderContext], lines: list[Line]) -> str:
    return f"version 2: {len(lines)} lines, {ctx.state.packed} packed"


class Orders(Workflow[Order, str, OrderContext], version="2", versions=VersionPolicy.COMPATIBLE):
    start = enter
    edges = (enter >> wait_for_go >> split >> pack >> gather(ship),)


app = Floxide(workflows=[Orders], namespace=NAMESPACE, timeouts=QUICK)
