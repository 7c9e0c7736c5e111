"""Mistakes with sources, each on a line that both type checkers must refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator

from shop import *

from floxide_amqp import (
    AmqpSource,
    Binding,
    Floxide,
    IteratorSource,
    MessageKey,
    Orchestrator,
    SourceMessage,
    Workflow,
)


class Measuring(Workflow[str, int]):
    start = length


def decode(message: SourceMessage) -> int:
    return len(message.body)


async def numbers(after: int | None) -> AsyncIterator[tuple[int, int]]:
    yield 1, 1


async def without_position(after: int | None) -> AsyncIterator[str]:
    yield "line"


IteratorSource[str, int]("numbers", Measuring, numbers)  # expect: its items are no inputs of the workflow
IteratorSource("lines", Measuring, without_position)  # expect: its items come without their positions
AmqpSource("texts", Measuring, "texts")  # expect: the queue is given by name
AmqpSource("texts", length, queue="texts")  # expect: a node in place of a source's workflow
AmqpSource[str]("texts", Measuring, queue="texts", decode=decode)  # expect: it makes no input of the workflow
AmqpSource("texts", Measuring, queue="texts", key="message_id")  # expect: a key is a MessageKey or a function
AmqpSource("texts", Measuring, queue="texts", declare="stream")  # expect: streams cannot be read
AmqpSource("texts", Measuring, queue="texts", on_unusable="drop")  # expect: nothing is dropped
Binding("shop", "line.#", "topic")  # expect: what it is declared as is given by name
MessageKey.field(7)  # expect: a path that is no text
Floxide(workflows=[Measuring], sources=[Measuring])  # expect: a workflow instead of a source


async def steer(orchestrator: Orchestrator) -> None:
    await orchestrator.sources.pause(3)  # expect: a source's name that is no text
