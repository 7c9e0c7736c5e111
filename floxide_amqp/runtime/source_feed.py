"""Feeding runs from a queue: takes messages while runs of them may begin, and holds still while they may not.

While the source is paused, or for longer than a moment too many of its runs are open, it gives its messages back, once,
and takes none: nothing goes around in circles.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from floxide_amqp.core.sources import SourceProblem
from floxide_amqp.exceptions import FloxideError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.message_source import MessageReader, MessageSource, SourceDelivery
from floxide_amqp.runtime.amqp_source import AmqpSource
from floxide_amqp.runtime.open_runs import OpenRuns
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.source_intake import SourceIntake
from floxide_amqp.stores import keys
from floxide_amqp.stores.session import WAITED_FOR

_log = get_logger("floxide_amqp.sources")

LOOK_SECONDS: Final = 1.0
"""Between two looks whether the source is paused, and at what keeps it from its queue."""

ROOM_SECONDS: Final = 0.25
"""Between two looks whether runs have ended that stood in the way; doubles."""

LONGEST_ROOM_SECONDS: Final = 4.0

HELD_SECONDS: Final = 300.0
"""How long messages are held that no run may begin for. Then they go back: the broker takes them away after 30 minutes,
with the whole channel."""

PAUSE_SECONDS: Final = 1.0
"""Pause after an error; doubles with each one after it."""

LONGEST_PAUSE_SECONDS: Final = 60.0

T = TypeVar("T")


class SourceFeed:
    """One process's part in a source: several processes may take messages of one queue.

    Args:
        services: The process's parts.
        source: The source.
        queue: Its queue.
    """

    def __init__(self, services: Services, source: AmqpSource[Any], queue: MessageSource) -> None:
        self._services = services
        self._source = source
        self._queue = queue
        self._open_runs = OpenRuns(services, source.name, source.max_open_runs)
        self._intake = SourceIntake(services, source, self._open_runs)
        self._stopping = asyncio.Event()
        self._is_paused = False
        self._told = ""
        self._next_at = 0.0

    async def run(self) -> None:
        """Take messages until `stop` is called, or until cancelled; then nothing is in hand any more."""
        name, pause = self._source.name, PAUSE_SECONDS
        _log.info("source.started", source=name, worker_id=self._services.name)
        while not self._stopping.is_set():
            try:
                await self._services.source_store.put(self._source.spec)
                await self._serve()
                pause = PAUSE_SECONDS
            except Exception as error:  # noqa: BLE001 - a supervisor: the messages are back in their queue
                _log.warning(
                    "source.failed", source=name, error=str(error), retry_in_seconds=pause,
                    exc_info=not isinstance(error, FloxideError),
                )  # fmt: skip
                await self._tell(f"{type(error).__name__}: {error}")
                await self._unless_stopped(asyncio.sleep(pause))
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        _log.info("source.stopped", source=name, worker_id=self._services.name)

    def stop(self) -> None:
        """Take no more messages; what is being recorded is recorded."""
        self._stopping.set()

    async def _serve(self) -> None:
        """Take messages until that must end, and begin again when it may."""
        await self._look("")
        while self._is_paused or await self._open_runs.room() == 0:
            await self._unless_stopped(asyncio.sleep(LOOK_SECONDS))
            if self._stopping.is_set():
                return
            await self._look("")
        async with self._queue.read(prefetch=self._source.prefetch) as reader:
            watching = asyncio.create_task(self._watch(reader), name="floxide.source.watch")
            try:
                await self._feed(reader, watching)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def _feed(self, reader: MessageReader, watching: asyncio.Task[None]) -> None:
        while True:
            room = await self._room(watching)
            if not room:
                return
            deliveries = await self._unless_stopped(reader.receive(room), watching)
            if deliveries is None:
                return
            await self._intake.record(deliveries)
            self._pace(deliveries)

    async def _room(self, watching: asyncio.Task[None]) -> int:
        """Return how many runs may begin now, waiting some time for others to end; 0 where that must end."""
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + HELD_SECONDS, ROOM_SECONDS
        if self._next_at > loop.time():
            await self._unless_stopped(asyncio.sleep(self._next_at - loop.time()), watching)
        while not self._is_to_end(watching) and loop.time() < until:
            room = await self._open_runs.room()
            if room is None or room > 0:
                most = self._source.batch if self._source.rate is None else max(1, int(self._source.rate))
                return min(self._source.batch, most, self._source.batch if room is None else room)
            await self._unless_stopped(asyncio.sleep(pause), watching)
            pause = min(2 * pause, LONGEST_ROOM_SECONDS)
        return 0

    def _pace(self, deliveries: Sequence[SourceDelivery]) -> None:
        if self._source.rate is not None:
            now = asyncio.get_running_loop().time()
            self._next_at = max(now, self._next_at) + len(deliveries) / self._source.rate

    def _is_to_end(self, watching: asyncio.Task[None]) -> bool:
        return self._stopping.is_set() or watching.done()

    async def _watch(self, reader: MessageReader) -> None:
        """Return once the source is paused; tell meanwhile what keeps it from its queue."""
        while not self._is_paused:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look(reader.problem)

    async def _look(self, problem: str) -> None:
        name = self._source.name
        with suppress(*WAITED_FOR):
            was_paused, self._is_paused = self._is_paused, (await self._services.source_store.control(name)).paused
            if self._is_paused is not was_paused:
                _log.info("source.paused" if self._is_paused else "source.resumed", source=name)
        await self._tell(problem)

    async def _tell(self, problem: str) -> None:
        """Say in the store what keeps the source from its queue, where that has changed."""
        if problem == self._told:
            return
        services, partition = self._services, keys.source_partition(self._source.name)
        now = services.now_ms(partition)
        with suppress(*WAITED_FOR):
            await services.source_store.put_problem(
                self._source.name, SourceProblem(text=problem, at_ms=now, worker=services.name)
            )  # fmt: skip
            self._told = problem

    async def _unless_stopped(
        self, work: Coroutine[Any, Any, T], watching: asyncio.Task[None] | None = None
    ) -> T | None:
        """Return what something comes to; None where the source is stopped, or paused, before."""
        task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait())
        waited: set[asyncio.Future[Any]] = {task, stopped} if watching is None else {task, stopped, watching}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)


class SourceFeeds:
    """The sources that one worker runs.

    Args:
        services: The process's parts.
    """

    def __init__(self, services: Services) -> None:
        self._feeds = [
            SourceFeed(services, source, services.message_sources[source.name])
            for source in services.sources
            if source.run_by_workers and source.name in services.message_sources
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Run all of them; returns, once all are stopped, only when cancelled."""
        self._tasks = [asyncio.create_task(feed.run(), name="floxide.source") for feed in self._feeds]
        try:
            await asyncio.Event().wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self, within: float) -> None:
        """Take no more messages, and wait until what is in hand is recorded, at most so many seconds."""
        for feed in self._feeds:
            feed.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within)
