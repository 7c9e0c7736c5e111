"""14, Multiple Instances with a priori Runtime Knowledge: so many as is known when they begin, then synchronized."""

from __future__ import annotations

import asyncio

from examples.patterns.place import opened
from floxide_amqp import NextAll, Orchestrator, Workflow, gather, node


@node
async def split(order: dict[str, int]) -> NextAll[tuple[str, int]]:
    return NextAll(list(order.items()))


@node
async def check_stock(line: tuple[str, int]) -> str:
    title, copies = line
    return f"{copies} x {title}"


@node
async def confirm(lines: list[str]) -> str:  # in the order of the lines, whichever was checked first
    return "in stock: " + (", ".join(lines) or "nothing was ordered")


class Bookshop(Workflow[dict[str, int], str]):
    start = split
    edges = (split >> check_stock >> gather(confirm),)


async def play(desk: Orchestrator) -> list[str]:
    orders: list[dict[str, int]] = [{"Emma": 1, "Walden": 2}, {"Ulysses": 1}, {}]
    runs = [await desk.start(Bookshop, order) for order in orders]
    return [await run.result(60) for run in runs]


async def main() -> list[str]:
    async with opened(Bookshop) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
