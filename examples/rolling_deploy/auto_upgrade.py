"""The new code has a node more, fields more and other names in the context: it raises the old runs to its version."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from examples.rolling_deploy import version_1
from examples.rolling_deploy.common import GO, NAMESPACE, QUICK
from floxide_amqp import (
    Context,
    Floxide,
    Hold,
    NextAll,
    RunToMigrate,
    Sum,
    VersionPolicy,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)


class OrderContext(Context):
    lines_packed: Annotated[int, Sum()] = 0
    checked: Annotated[int, Sum()] = 0


@dataclass
class Order:
    number: int
    lines: int
    currency: str


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
    ctx.state.lines_packed += 1
    return line


@node
async def ship(ctx: WorkflowCtx[OrderContext], lines: list[Line]) -> str:
    return f"version 2: {len(lines)} lines, {ctx.state.lines_packed} packed"


class Orders(Workflow[Order, str, OrderContext], version="2", versions=VersionPolicy.AUTO_UPGRADE):
    start = enter
    edges = (enter >> wait_for_go >> check >> split >> pack >> gather(ship),)
    old_contexts: ClassVar[Mapping[str, type[Context]]] = {"1": version_1.OrderContext}

    @classmethod
    def migrate(cls, run: RunToMigrate) -> None:
        run.context["lines_packed"] = run.context.pop("packed")
        for step in run.steps:
            if step.node in ("enter", "wait_for_go", "split"):
                step.plain["currency"] = "EUR"


app = Floxide(workflows=[Orders], namespace=NAMESPACE, timeouts=QUICK)
