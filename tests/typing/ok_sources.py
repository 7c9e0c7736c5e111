"""What a source starts, and what its runs return."""

from __future__ import annotations

from typing import assert_type

from shop import *

from floxide_amqp import Channel, Orchestrator, RunHandle, Source, Workflow


class Measuring(Workflow[str, int]):
    start = length


channel: Channel[str] = Channel()
assert_type(Source(channel), Source[str])
assert_type(Source.every(1.0, lambda tick: f"tick {tick}"), Source[str])
assert_type(Source.every(1.0, str, key=lambda text: text), Source[str])


async def drive(orchestrator: Orchestrator) -> None:
    async for run in Source.every(1.0, lambda tick: f"tick {tick}").drive(orchestrator, Measuring):
        assert_type(run, RunHandle[int])
        assert_type(await run.result(), int)
