"""Configured node: a class that carries settings, used twice with different ones, over a context of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from floxide_amqp import Append, Context, Sum, Workflow, WorkflowCtx
from floxide_amqp import Node


class Bill(Context):
    total: Annotated[float, Sum()] = 0.0
    lines: Annotated[list[str], Append()] = []


@dataclass(frozen=True)
class Surcharge(Node[float, float], timeout=5):
    label: str
    percent: float

    async def process(self, ctx: WorkflowCtx[Bill], input: float, /) -> float:
        fee = round(input * self.percent / 100, 2)
        ctx.state.total += fee
        ctx.state.lines.append(f"{self.label} {fee:.2f}")
        return input


service = Surcharge("service", 10).named("service")
tax = Surcharge("tax", 19).named("tax")


class Invoice(Workflow[float, float, Bill]):
    start = service
    edges = (service >> tax,)
