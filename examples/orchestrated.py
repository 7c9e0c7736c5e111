"""Orchestrated split and merge: parts fail at random, runs fail with them, and are resumed until they are through.

    python -m examples.orchestrated --seed 7

The seed says how often each part will fail. Which failure a run fails with is a race: the first ends it, its siblings
at work are interrupted, and a resumed run tries again what was not committed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from floxide_amqp import (
    Context,
    EventLog,
    Floxide,
    NextAll,
    RunFailedError,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)

PARTS = 12


class Weather:
    """The outside world: so many storms over each part, then none."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.storms = {part: chance.choice((0, 0, 1, 2)) for part in range(PARTS)}

    def strikes(self, part: int) -> bool:
        self.storms[part] -= 1
        return self.storms[part] >= 0


class Voyage(Context):
    legs: EventLog[int] = EventLog()


@node
async def split(parts: int) -> NextAll[int]:
    return NextAll(range(parts))


@node
async def sail(ctx: WorkflowCtx[Voyage], part: int) -> int:
    if ctx.resource(Weather).strikes(part):
        raise RuntimeError(f"storm over part {part}")
    ctx.state.legs.append(part)
    return part * part


@node
async def arrive(ctx: WorkflowCtx[Voyage], legs: list[int]) -> str:
    return f"{len(ctx.state.legs)} legs sailed, {sum(legs)} miles"


class Sailing(Workflow[int, str, Voyage]):
    start = split
    edges = (split >> sail >> gather(arrive),)


async def main(seed: int = 7) -> tuple[str, list[str]]:
    weather = Weather(seed)

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[Weather]:
        yield weather

    failures: list[str] = []
    async with Floxide(workflows=[Sailing], lifespan=lifespan).orchestrator() as orchestrator:
        run = await orchestrator.start(Sailing, PARTS)
        while True:
            try:
                return await run.result(), failures
            except RunFailedError as error:
                failures.append(error.error_message)
                await run.resume()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=7)
    text, failures = asyncio.run(main(parser.parse_args().seed))
    print(*(f"failed: {each}, resumed" for each in failures), text, sep="\n")
