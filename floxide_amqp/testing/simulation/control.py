"""The simulated control bus: hints that are lost, late or repeated, and gaps that are told of."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import Context
from dataclasses import dataclass

from floxide_amqp.drivers.hint_buffer import HintBuffer
from floxide_amqp.drivers.memory.control import matches
from floxide_amqp.testing.simulation.loop import CURRENT, Lane, SeededLoop, context_of, never
from floxide_amqp.testing.simulation.story import Story


@dataclass(kw_only=True)
class BusWeather:
    """How the bus behaves right now; shares are of the hints that each listener is sent, 0 to 1.

    Attributes:
        latency: Longest time to a listener, in seconds.
        lost: Hints that do not arrive, and nobody is told.
        late: Hints that take up to `longest_delay` seconds.
        repeated: Hints that arrive twice.
        gaps: Hints in whose place the listener learns that it missed something.
        is_away: Whether nothing arrives at all; those who listen are told of the gap afterwards.
    """

    latency: float = 0.002
    lost: float = 0.0
    late: float = 0.0
    longest_delay: float = 8.0
    repeated: float = 0.0
    gaps: float = 0.0
    is_away: bool = False


@dataclass(eq=False)
class _Listener:
    buffer: HintBuffer
    context: Context
    pattern: tuple[str, ...] | None

    def is_meant(self, words: list[str] | None) -> bool:
        if self.pattern is None or words is None:
            return self.pattern is None and words is None
        return matches(self.pattern, words)


class BusServer:
    """Carries control messages and events.

    Args:
        loop: The simulation's loop.
        chance: Draws what goes wrong.
        story: What happens is noted there.
    """

    def __init__(self, loop: SeededLoop, chance: random.Random, story: Story) -> None:
        self._loop = loop
        self._chance = chance
        self._story = story
        self.weather = BusWeather()
        self._listeners: dict[int, _Listener] = {}
        self._numbers = 0

    def send(self, who: str, body: bytes, words: list[str] | None) -> None:
        """Send a hint to everybody it is meant for."""
        self._story.note(who, "hint", len(body), words)
        for listener in list(self._listeners.values()):
            if listener.is_meant(words):
                self._send_to(listener, body)

    def tell_of_gap(self) -> None:
        """Tell everybody that hints may have been missed."""
        for listener in self._listeners.values():
            listener.buffer.mark_gap()

    def add(self, lane: Lane, pattern: tuple[str, ...] | None) -> tuple[int, HintBuffer]:
        """Let a process listen: to control messages, or with a pattern to events."""
        self._numbers += 1
        listener = _Listener(HintBuffer(), context_of(lane), pattern)
        self._listeners[self._numbers] = listener
        return self._numbers, listener.buffer

    def remove(self, number: int) -> None:
        """Let it listen no more."""
        listener = self._listeners.pop(number, None)
        if listener is not None:
            listener.buffer.close()

    def forget(self, lane: Lane) -> None:
        """A process is gone: it listens no more."""
        for number, listener in list(self._listeners.items()):
            if listener.context.get(CURRENT) is lane:
                self.remove(number)

    def _send_to(self, listener: _Listener, body: bytes) -> None:
        weather = self.weather
        if weather.is_away or self._happens(weather.lost, "lost hint"):
            return
        if self._happens(weather.gaps, "hint gap"):
            body = b""
        for _ in range(2 if self._happens(weather.repeated, "repeated hint") else 1):
            is_late = self._happens(weather.late, "late hint")
            seconds = self._chance.random() * (weather.longest_delay if is_late else weather.latency)
            self._loop.call_later(seconds, listener.buffer.put, body, context=listener.context)

    def _happens(self, share: float, kind: str) -> bool:
        if share <= 0 or self._chance.random() >= share:
            return False
        self._story.fault(kind)
        return True


class BusLink:
    """One process's control bus.

    Args:
        server: What carries the hints.
        lane: The process.

    Attributes:
        on_io: Told before each hint is sent; returns whether the process has died at this very point.
    """

    def __init__(self, server: BusServer, lane: Lane) -> None:
        self._server = server
        self._lane = lane
        self.on_io: Callable[[str], bool] = _lives

    async def broadcast(self, body: bytes) -> None:
        """Send a control message to every worker."""
        if self.on_io("broadcast"):
            await never()
        self._server.send(self._lane.name, body, None)

    def listen(self, worker_id: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Receive control messages."""
        return self._listening(None)

    async def announce(self, routing_key: str, body: bytes) -> None:
        """Send an event."""
        if self.on_io("announce"):
            await never()
        self._server.send(self._lane.name, body, routing_key.split("."))

    def subscribe(self, pattern: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Receive events."""
        return self._listening(tuple(pattern.split(".")))

    @asynccontextmanager
    async def _listening(self, pattern: tuple[str, ...] | None) -> AsyncGenerator[AsyncIterator[bytes]]:
        number, buffer = self._server.add(self._lane, pattern)
        try:
            yield buffer
        finally:
            self._server.remove(number)


def _lives(_what: str) -> bool:
    """The default of `BusLink.on_io`."""
    return False
