"""Waiting for runs to end: events wake the waiter, the store tells the truth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from itertools import chain

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.records import RunState
from floxide_amqp.exceptions import CodecError, ResultTimeoutError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Entry
from floxide_amqp.runtime.messages import decode_event
from floxide_amqp.runtime.services import Services

_log = get_logger("floxide_amqp.waiting")

MOST_SILENT = 10_000
"""Runs just started of which a client knows that it has heard nothing yet; of older ones it does not remember."""


class Waiters:
    """Wakes whoever waits for a run of this client.

    Args:
        services: The process's parts.
        key: Routing key of this client's events: the ends of runs that it started.
        hears_all: Listen to the ends of all runs, such as those that another client started and this one waits for.
    """

    def __init__(self, services: Services, key: str, *, hears_all: bool = False) -> None:
        self._services = services
        self._pattern = "#" if hears_all else key
        self.key = key
        self._events: dict[RunId, set[asyncio.Event]] = {}
        self._silent: dict[RunId, None] = {}

    def begins(self, run_id: RunId) -> None:
        """Note that this client is about to start a run that nobody has started before.

        Until something is heard of it, it has not ended as far as one can know, and its first waiter need not look.
        """
        if len(self._silent) >= MOST_SILENT:
            del self._silent[next(iter(self._silent))]
        self._silent[run_id] = None

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        """Receive events while the block is open."""
        async with self._services.bus.subscribe(self._pattern) as events:
            task = asyncio.create_task(self._listen(events), name="floxide.client.events")
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _listen(self, events: AsyncIterator[bytes]) -> None:
        async for body in events:
            if body == b"":  # events may have been missed: everybody looks at the store
                self._silent.clear()
                for event in chain.from_iterable(self._events.values()):
                    event.set()
                continue
            try:
                news = decode_event(body)
            except CodecError as error:
                _log.warning("event.unreadable", error=str(error))
                continue
            for run_id in news.runs:
                self._silent.pop(run_id, None)
                for event in self._events.get(run_id, ()):
                    event.set()

    @contextmanager
    def expecting(self, run_id: RunId) -> Generator[asyncio.Event]:
        """Return an event of one's own that is set when something was heard of the run."""
        event, events = asyncio.Event(), self._events.setdefault(run_id, set())
        events.add(event)
        try:
            yield event
        finally:
            events.discard(event)
            if not events and self._events.get(run_id) is events:
                del self._events[run_id]

    async def wait_for_end(self, run_id: RunId, timeout: timedelta | float | None) -> RunState:
        """Wait for a run's end and return its state; events wake, the store tells.

        Raises:
            RunNotFoundError: There is no such run.
            ResultTimeoutError: It has not ended within `timeout`.
        """
        return (await self.wait_for_output(run_id, timeout))[0]

    async def wait_for_output(
        self, run_id: RunId, timeout: timedelta | float | None
    ) -> tuple[RunState, tuple[Entry, ...] | None]:
        """Wait for a run's end and return its state and its output, if it has one; see `RunStore.load_end`.

        Raises:
            RunNotFoundError: There is no such run.
            ResultTimeoutError: It has not ended within `timeout`.
        """
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        loop = asyncio.get_running_loop()
        until = None if seconds is None else loop.time() + seconds
        is_silent = run_id in self._silent and (seconds is None or seconds > 0)
        with self.expecting(run_id) as heard:
            while True:
                if not is_silent:
                    state, output = await self._services.runs.load_end(run_id)
                    if state.status.is_terminal:
                        return state, output
                is_silent = False
                pause = self._services.timeouts.result_backstop
                if until is not None:
                    left = until - loop.time()
                    if left <= 0:
                        status = (await self._services.runs.load(run_id)).status
                        raise ResultTimeoutError(run_id=run_id, timeout_seconds=seconds or 0.0, status=status.value)
                    pause = min(pause, max(left, 0.001))  # a clock may be too coarse for less, and this would spin
                alarm = loop.call_later(pause, heard.set)  # with wait_for, each waiter would be a task more
                try:
                    await heard.wait()
                finally:
                    alarm.cancel()
                heard.clear()
