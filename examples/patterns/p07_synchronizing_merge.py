"""7, Synchronizing Merge: the branches that were taken come together; those that were not are not waited for."""

from __future__ import annotations

import asyncio

from examples.patterns.p06_multi_choice import CALLS, Call, answer, burns, hurts, send_ambulances, send_engine
from examples.patterns.place import opened
from floxide_amqp import Orchestrator, Workflow, gather, node


@node
async def put_out(engine: str) -> str:
    return f"{engine} that put it out"


@node
async def report(sent: list[str]) -> str:
    return "sent: " + (" and ".join(sent) or "nothing")


class Emergency(Workflow[Call, str]):
    start = answer
    edges = (
        answer.when(burns) >> send_engine >> put_out >> gather(report),  # once for all that were taken, or for none
        answer.when(hurts) >> send_ambulances >> gather(report),
        answer.otherwise,  # this branch ends here
    )


async def play(desk: Orchestrator) -> list[str]:
    runs = [await desk.start(Emergency, call) for call in CALLS]
    return [await run.result(60) for run in runs]


async def main() -> list[str]:
    async with opened(Emergency) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
