"""3, Synchronization: several threads of control become one, which begins when all have arrived."""

from __future__ import annotations

import asyncio

from examples.patterns.place import opened
from floxide_amqp import Orchestrator, Workflow, all_of, node


@node
async def accept(order: str) -> str:
    return order


@node
async def pack(order: str) -> int:
    return 100 * len(order)


@node
async def bill(order: str) -> str:
    return f"bill for a {order}"


@node
async def ship(ready: tuple[int, str]) -> str:
    grams, bill = ready
    return f"{grams} g shipped with a {bill}"


class Shipping(Workflow[str, str]):
    start = accept
    edges = (
        accept >> (pack, bill),
        all_of(pack, bill) >> ship,  # each value in its place, and of its type
    )


async def play(desk: Orchestrator) -> list[str]:
    run = await desk.start(Shipping, "pen")
    return [await run.result(60)]


async def main() -> list[str]:
    async with opened(Shipping) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
