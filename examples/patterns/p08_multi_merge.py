"""8, Multi-Merge: branches come together and what follows runs once for each of them that was taken."""

from __future__ import annotations

import asyncio

from examples.patterns.place import opened
from floxide_amqp import Orchestrator, Workflow, node


@node
async def accept(application: str) -> str:
    return application


@node
async def audit(application: str) -> str:
    return f"audit of {application}"


@node
async def process(application: str) -> str:
    return f"processing of {application}"


@node
async def close_case(done: str) -> str:
    return f"{done} closed"


class Application(Workflow[str, list[str]]):
    start = accept
    edges = (accept >> (audit, process) >> close_case,)


async def play(desk: Orchestrator) -> list[str]:
    run = await desk.start(Application, "form 7")
    return await run.result(60)


async def main() -> list[str]:
    async with opened(Application) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
