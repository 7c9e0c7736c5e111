"""Channel source: code that produces items drives a workflow, one run per item, at most so many at a time."""

from __future__ import annotations

import asyncio

from floxide_amqp import Channel, Floxide, Source, Workflow, node


@node
async def greet(name: str) -> str:
    return f"hello {name}"


class Greeting(Workflow[str, str]):
    start = greet


async def produce(channel: Channel[str]) -> None:
    for name in ("Ada", "Grace", "Ada", "Edsger"):
        await channel.send(name)  # waits while the channel is full
    await channel.close()


async def main() -> list[str]:
    channel: Channel[str] = Channel(capacity=2)
    guests = Source(channel, key=lambda name: f"guest-{name}")  # an item that comes twice is one run
    async with Floxide(workflows=[Greeting]).orchestrator() as orchestrator, asyncio.TaskGroup() as group:
        group.create_task(produce(channel))
        told = [await run.result() async for run in guests.drive(orchestrator, Greeting, max_in_flight=2)]
        pages = await orchestrator.list_runs()
        told.append(f"{len(pages.runs)} runs")
    return sorted(told)


if __name__ == "__main__":
    print("\n".join(asyncio.run(main())))
