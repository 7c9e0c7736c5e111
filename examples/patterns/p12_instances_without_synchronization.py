"""12, Multiple Instances without Synchronization: an activity is begun many times, and nothing waits for that."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from examples.patterns.place import completed, opened, until
from floxide_amqp import (
    Context,
    Hold,
    ItemCompleted,
    ItemHeld,
    NextAll,
    Orchestrator,
    Signal,
    Workflow,
    WorkflowCtx,
    node,
)

STOCK = Signal("stock", str)


@dataclass(frozen=True)
class Order:
    customer: str
    titles: list[str]


@node
async def accept(order: Order) -> Order:
    return order


@node
async def confirm(order: Order) -> str:
    return f"{order.customer}, your order is under way"


@node
async def split(order: Order) -> NextAll[str]:
    return NextAll(order.titles)


@node
async def send(ctx: WorkflowCtx[Context], title: str) -> str | Hold:
    shelf = ctx.received(STOCK)
    return Hold(until=STOCK) if shelf is None else f"{title} sent from {shelf}"


class Bookshop(Workflow[Order, list[str]]):
    start = accept
    edges = (accept >> (split >> send, confirm),)


async def play(desk: Orchestrator) -> list[str]:
    run = await desk.start(Bookshop, Order("Ada", ["Emma", "Walden", "Ulysses"]))
    await until(run, ItemHeld, "send", "send", "send")
    await until(run, ItemCompleted, "confirm")
    lines = [f"confirmed, and {(await completed(run)).count('send')} of 3 sent"]
    for _ in range(3):
        await run.signal(STOCK, "shelf 4")
    return [*lines, *sorted(await run.result(60))]


async def main() -> list[str]:
    async with opened(Bookshop) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
