"""The new code, which keeps the old beside it: each run goes on with the version that it was started with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from examples.rolling_deploy import version_1
from examples.rolling_deploy.common import GO, NAMESPACE, QUICK
from floxide_amqp import Context, Floxide, Hold, NextAll, Sum, Workflow, WorkflowCtx, gather, node


class OrderContext(Context):
    packed: Annotated[int, Sum()] = 0
    checked: Annotated[int, Sum()] = 0


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
async def check(ctx: WorkflowCtx[OrderContext], order: Order) -> Order:
    ctx.state.checked += 1
    return order


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
    return f"version 2: {len(lines)} lines, {ctx.state.packed} packed"


class Orders(Workflow[Order, str, OrderContext], version="2"):
    start = enter
    edges = (enter >> wait_for_go >> check >> split >> pack >> gather(ship),)


app = Floxide(workflows=[version_1.Orders, Orders], namespace=NAMESPACE, timeouts=QUICK)
