"""4, Exclusive Choice: one of several branches is taken, as what is known by then says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from examples.patterns.place import opened
from floxide_amqp import Orchestrator, Workflow, node


@dataclass(frozen=True)
class Plain:
    euros: int


@dataclass(frozen=True)
class Doubtful:
    euros: int


@node
async def assess(euros: int) -> Plain | Doubtful:
    return Plain(euros) if euros < 1_000 else Doubtful(euros)


@node
async def pay(claim: Plain) -> str:
    return f"{claim.euros} paid"


@node
async def investigate(claim: Doubtful) -> str:
    return f"{claim.euros} investigated"


class Claim(Workflow[int, str]):
    start = assess
    edges = (
        assess.when(Plain) >> pay,
        assess.when(Doubtful) >> investigate,  # left out, the class would be refused: nobody takes a Doubtful
    )


async def play(desk: Orchestrator) -> list[str]:
    runs = [await desk.start(Claim, euros) for euros in (200, 5_000)]
    return [await run.result(60) for run in runs]


async def main() -> list[str]:
    async with opened(Claim) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
