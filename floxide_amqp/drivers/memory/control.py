"""The control port within one process: every listener has a buffer, and a broadcast fills them all."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self

from floxide_amqp.drivers.hint_buffer import HintBuffer


class MemoryControlBus:
    """A control bus for workers and clients that share one event loop; it never has gaps to heal."""

    def __init__(self) -> None:
        self._listeners: set[HintBuffer] = set()
        self._subscribers: dict[HintBuffer, tuple[str, ...]] = {}

    async def __aenter__(self) -> Self:
        """Return itself; there is nothing to open."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        await self.aclose()

    async def aclose(self) -> None:
        """End every subscription; a second call does nothing."""
        for buffer in (*self._listeners, *self._subscribers):
            buffer.close()

    async def broadcast(self, body: bytes) -> None:
        """Hand a control message to every worker that listens now."""
        for buffer in self._listeners:
            buffer.put(body)

    def listen(self, worker_id: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Receive every control message from when the context is entered on."""
        del worker_id  # names the queue on a broker; here nobody looks at it
        return self._listening()

    async def announce(self, routing_key: str, body: bytes) -> None:
        """Hand an event to whoever subscribed to its routing key."""
        for buffer, pattern in self._subscribers.items():
            if _is_for(pattern, routing_key):
                buffer.put(body)

    def subscribe(self, pattern: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Receive events whose routing key matches, from when the context is entered on."""
        return self._subscribed(tuple(pattern.split(".")))

    @asynccontextmanager
    async def _listening(self) -> AsyncGenerator[AsyncIterator[bytes], None]:
        buffer = HintBuffer()
        self._listeners.add(buffer)
        try:
            yield buffer
        finally:
            self._listeners.discard(buffer)
            buffer.close()

    @asynccontextmanager
    async def _subscribed(self, pattern: tuple[str, ...]) -> AsyncGenerator[AsyncIterator[bytes], None]:
        buffer = HintBuffer()
        self._subscribers[buffer] = pattern
        try:
            yield buffer
        finally:
            del self._subscribers[buffer]
            buffer.close()


@functools.lru_cache(maxsize=1024)  # a process has few subscribers, and each run's end has one of few keys
def _is_for(pattern: tuple[str, ...], routing_key: str) -> bool:
    return matches(pattern, routing_key.split("."))


def matches(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """Whether the words of a routing key match a topic pattern: ``*`` is one word, ``#`` any number, also none."""
    reached = _skip_hashes(pattern, {0})
    for word in words:
        reached = _skip_hashes(pattern, _advance(pattern, reached, word))
    return len(pattern) in reached


def _advance(pattern: Sequence[str], reached: set[int], word: str) -> set[int]:
    after: set[int] = set()
    for position in reached:
        if position == len(pattern):
            continue
        if pattern[position] == "#":
            after.add(position)
        elif pattern[position] in ("*", word):
            after.add(position + 1)
    return after


def _skip_hashes(pattern: Sequence[str], reached: set[int]) -> set[int]:
    """Add the positions behind every ``#``, which also stands for no word at all."""
    pending = list(reached)
    while pending:
        position = pending.pop()
        if position < len(pattern) and pattern[position] == "#" and position + 1 not in reached:
            reached.add(position + 1)
            pending.append(position + 1)
    return reached
