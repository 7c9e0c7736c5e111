"""16, Deferred Choice: several things may happen next; the first that does decides, and the others are withdrawn."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from examples.patterns.place import opened, until
from floxide_amqp import Context, Hold, ItemHeld, Orchestrator, Signal, Workflow, WorkflowCtx, node


@dataclass(frozen=True)
class Paid:
    euros: int


@dataclass(frozen=True)
class Withdrawn:
    why: str


PAYMENT = Signal("payment", Paid)
WITHDRAWAL = Signal("withdrawal", Withdrawn)


@node
async def offer(ctx: WorkflowCtx[Context], days: float) -> Paid | Withdrawn | Hold:
    happened = ctx.received(PAYMENT) or ctx.received(WITHDRAWAL)
    return happened or Hold(until=(PAYMENT, WITHDRAWAL), timeout=timedelta(days=days))


@node
async def ship(paid: Paid) -> str:
    return f"shipped for {paid.euros}"


@node
async def restock(withdrawn: Withdrawn) -> str:
    return f"restocked: {withdrawn.why}"


@node
async def remind(days: float) -> str:
    return "reminded"


class Sale(Workflow[float, str]):
    start = offer
    edges = (
        offer.when(Paid) >> ship,
        offer.when(Withdrawn) >> restock,
        offer.on_timeout >> remind,
    )


async def play(desk: Orchestrator) -> list[str]:
    sold, dropped, forgotten = [await desk.start(Sale, days) for days in (30, 30, 0.1 / 86_400)]
    for run in (sold, dropped):
        await until(run, ItemHeld, "offer")
    await sold.signal(PAYMENT, Paid(20))
    await dropped.signal(WITHDRAWAL, Withdrawn("too dear"))
    return [await run.result(60) for run in (sold, dropped, forgotten)]


async def main() -> list[str]:
    async with opened(Sale) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
