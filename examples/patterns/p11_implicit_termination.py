"""11, Implicit Termination: a case is over when nothing is left to do, and no activity has to say so."""

from __future__ import annotations

import asyncio

from examples.patterns.place import opened, until
from floxide_amqp import Context, Hold, ItemCompleted, ItemHeld, Orchestrator, Signal, Workflow, WorkflowCtx, node

COURIER = Signal("courier", str)


@node
async def accept(order: str) -> str:
    return order


@node
async def thank(order: str) -> None:  # a branch that ends with nothing
    del order


@node
async def bill(order: str) -> str:
    return f"{order} billed"


@node
async def hand_over(ctx: WorkflowCtx[Context], order: str) -> str | Hold:
    courier = ctx.received(COURIER)
    return Hold(until=COURIER) if courier is None else f"{order} handed to {courier}"


class Ordering(Workflow[str, list[str | None]]):
    start = accept
    edges = (accept >> (thank, bill, hand_over),)


async def play(desk: Orchestrator) -> list[str]:
    run = await desk.start(Ordering, "pen")
    await until(run, ItemCompleted, "thank", "bill")
    await until(run, ItemHeld, "hand_over")
    lines = [f"two branches are over, the run is {await run.status()}"]
    await run.signal(COURIER, "Iris")
    outcomes = await run.result(60)
    return [*lines, f"the third is over, the run is {await run.status()}: {outcomes}"]


async def main() -> list[str]:
    async with opened(Ordering) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
