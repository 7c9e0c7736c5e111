"""1, Sequence: an activity begins when the one before it has ended."""

from __future__ import annotations

import asyncio

from examples.patterns.place import opened
from floxide_amqp import Orchestrator, Workflow, node


@node
async def wash(shirt: str) -> str:
    return f"{shirt}, washed"


@node
async def dry(shirt: str) -> str:
    return f"{shirt}, dried"


@node
async def iron(shirt: str) -> str:
    return f"{shirt}, ironed"


class Laundry(Workflow[str, str]):
    start = wash
    edges = (wash >> dry >> iron,)


async def play(desk: Orchestrator) -> list[str]:
    run = await desk.start(Laundry, "blue shirt")
    return [await run.result(60)]


async def main() -> list[str]:
    async with opened(Laundry) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
