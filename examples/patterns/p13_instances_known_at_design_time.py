"""13, Multiple Instances with a priori Design Time Knowledge: so many as the workflow says, then synchronized."""

from __future__ import annotations

import asyncio

from examples.patterns.place import opened
from floxide_amqp import NextAll, Orchestrator, Workflow, gather, node

AUTHORISATIONS = 3  # a requisition of hazardous material needs three


@node
async def ask_three(material: str) -> NextAll[tuple[int, str]]:
    return NextAll([(number, material) for number in range(AUTHORISATIONS)])


@node
async def authorise(asked: tuple[int, str]) -> str:
    number, _ = asked
    return ("Ada", "Bert", "Cleo")[number]


@node
async def hand_out(signatures: list[str]) -> str:
    return f"handed out; signed by {', '.join(signatures)}"


class Requisition(Workflow[str, str]):
    start = ask_three
    edges = (ask_three >> authorise >> gather(hand_out),)


async def play(desk: Orchestrator) -> list[str]:
    run = await desk.start(Requisition, "acid")
    return [await run.result(60)]


async def main() -> list[str]:
    async with opened(Requisition) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
