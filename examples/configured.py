"""Configured node: a class that carries settings, used twice with different ones, over a context of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from floxide_amqp import Context, EventLog, Floxide, Node, Sum, Workflow, WorkflowCtx


class Bill(Context):
    total: Annotated[float, Sum()] = 0.0
    lines: EventLog[str] = EventLog()


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


async def main() -> tuple[float, list[str]]:
    async with Floxide(workflows=[Invoice]).orchestrator() as orchestrator:
        run = await orchestrator.start(Invoice, 200.0, context=Bill(total=200.0))
        await run.result()
        bill = await orchestrator.context(Invoice, run.run_id)
    return bill.total, list(bill.lines)


if __name__ == "__main__":
    print(*asyncio.run(main()))
