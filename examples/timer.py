"""Timer source: a clock drives a workflow, one run per tick; each tick's run id follows from its number."""

from __future__ import annotations

import asyncio

from floxide_amqp import Floxide, Source, Workflow, node


@node
async def read_meter(tick: int) -> int:
    return 100 + 3 * tick


@node
async def describe(reading: int) -> str:
    return f"the meter shows {reading}"


class Metering(Workflow[int, str]):
    start = read_meter
    edges = (read_meter >> describe,)


async def main(interval_seconds: float = 0.2) -> list[str]:
    clock = Source.every(interval_seconds, lambda tick: tick, times=5, key=lambda tick: f"tick-{tick}")
    told: list[str] = []
    async with Floxide(workflows=[Metering]).orchestrator() as orchestrator:
        async for run in clock.drive(orchestrator, Metering):
            told.append(f"{run.run_id}: {await run.result()}")
            print(told[-1])
    return told


if __name__ == "__main__":
    asyncio.run(main())
