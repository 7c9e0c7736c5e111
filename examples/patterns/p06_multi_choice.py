"""6, Multi-Choice: any number of several branches is taken."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from examples.patterns.place import opened
from floxide_amqp import Orchestrator, Workflow, node


@dataclass(frozen=True)
class Call:
    is_burning: bool
    injured: int


def burns(call: Call) -> bool:
    return call.is_burning


def hurts(call: Call) -> bool:
    return call.injured > 0


@node
async def answer(call: Call) -> Call:
    return call


@node
async def send_engine(call: Call) -> str:
    return "a fire engine"


@node
async def send_ambulances(call: Call) -> str:
    return f"{call.injured} ambulances"


@node
async def calm_down(call: Call) -> str:
    return "kind words"


class Emergency(Workflow[Call, list[str]]):
    start = answer
    edges = (
        answer.when(burns) >> send_engine,  # every condition is asked
        answer.when(hurts) >> send_ambulances,
        answer.otherwise >> calm_down,  # where none holds
    )


CALLS = (Call(True, 2), Call(True, 0), Call(False, 3), Call(False, 0))


async def play(desk: Orchestrator) -> list[str]:
    runs = [await desk.start(Emergency, call) for call in CALLS]
    return [" and ".join(await run.result(60)) for run in runs]


async def main() -> list[str]:
    async with opened(Emergency) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
