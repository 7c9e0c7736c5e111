"""What a source starts, and what its runs return."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import assert_type

from shop import *

from floxide_amqp import (
    AmqpSource,
    Binding,
    Channel,
    Floxide,
    IteratorSource,
    MessageKey,
    Orchestrator,
    RunHandle,
    Source,
    SourceInfo,
    SourceMessage,
    Workflow,
)


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


def decode(message: SourceMessage) -> str:
    return message.body.decode()


texts = AmqpSource("texts", Measuring, queue="texts", decode=decode, key=MessageKey.header("x-id"), declare="quorum")
assert_type(texts, AmqpSource[str])
assert_type(texts.queue, str)


async def lines(after: int | None) -> AsyncIterator[tuple[int, str]]:
    yield (after or 0) + 1, "line"


numbered = IteratorSource("numbered", Measuring, lines, key=lambda line: line.strip(), again_after=60.0)
assert_type(numbered, IteratorSource[str, int])
APP = Floxide(
    workflows=[Measuring],
    sources=[
        texts,
        numbered,
        AmqpSource("lines", Measuring, queue="lines", bindings=[Binding("shop", "line.#", declare="topic")]),
        AmqpSource("bodies", Measuring, queue="bodies", key=lambda message: message.routing_key),
    ],
)


async def look(orchestrator: Orchestrator) -> None:
    assert_type(await orchestrator.sources.get("texts"), SourceInfo)
    assert_type(await orchestrator.sources.open_runs("texts"), int)
