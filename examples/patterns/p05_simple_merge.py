"""5, Simple Merge: alternative branches come together; none waits for another, since only one was taken."""

from __future__ import annotations

import asyncio

from examples.patterns.place import opened
from floxide_amqp import Orchestrator, Workflow, node


def is_small(euros: int) -> bool:
    return euros < 1_000


@node
async def assess(euros: int) -> int:
    return euros


@node
async def pay(euros: int) -> str:
    return f"{euros} paid"


@node
async def investigate(euros: int) -> str:
    return f"{euros} investigated"


@node
async def close_file(outcome: str) -> str:
    return f"{outcome}, file closed"


class Claim(Workflow[int, str]):
    start = assess
    edges = (
        assess.when(is_small) >> pay >> close_file,
        assess.otherwise >> investigate >> close_file,
    )


async def play(desk: Orchestrator) -> list[str]:
    runs = [await desk.start(Claim, euros) for euros in (200, 5_000)]
    return [await run.result(60) for run in runs]


async def main() -> list[str]:
    async with opened(Claim) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
