"""2, Parallel Split: one thread of control becomes several, which go on side by side."""

from __future__ import annotations

import asyncio

from examples.patterns.place import opened
from floxide_amqp import Orchestrator, Workflow, node


@node
async def accept(order: str) -> str:
    return order


@node
async def pack(order: str) -> str:
    return f"{order} packed"


@node
async def bill(order: str) -> str:
    return f"{order} billed"


class Ordering(Workflow[str, list[str]]):  # two ways lead out, and nothing brings them together: a list
    start = accept
    edges = (accept >> (pack, bill),)


async def play(desk: Orchestrator) -> list[str]:
    run = await desk.start(Ordering, "pen")
    return await run.result(60)


async def main() -> list[str]:
    async with opened(Ordering) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
