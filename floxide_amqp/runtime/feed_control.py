"""What every feed of a source needs: to be stopped and paused, to tell what is wrong, to hold still while it must."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from floxide_amqp.core.sources import SourceProblem, SourceSpec
from floxide_amqp.exceptions import FloxideError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.open_runs import OpenRuns
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores import keys
from floxide_amqp.stores.session import WAITED_FOR

_log = get_logger("floxide_amqp.sources")

LOOK_SECONDS: Final = 1.0
"""Between two looks whether the source is paused, and at what keeps it from its items."""

ROOM_SECONDS: Final = 0.25
"""Between two looks whether runs have ended that stood in the way; doubles."""

LONGEST_ROOM_SECONDS: Final = 4.0

HELD_SECONDS: Final = 300.0
"""How long items are held that no run may begin for. Then they go back: a broker takes them away after 30 minutes, with
the whole channel."""

PAUSE_SECONDS: Final = 1.0
"""Pause after an error; doubles with each one after it."""

LONGEST_PAUSE_SECONDS: Final = 60.0

T = TypeVar("T")


class FeedControl:
    """One process's part in a source, but for where its items come from.

    Args:
        services: The process's parts.
        spec: The source.
        max_open_runs: How many of its runs may be open; None for any number.
        rate: Runs that this process starts per second at most; None for as many as it can.
        batch: Runs started together at most.

    Attributes:
        open_runs: Counts its open runs.
        stopping: Set once this process is to take no more.
        is_paused: Whether somebody has paused the source.
    """

    def __init__(
        self, services: Services, spec: SourceSpec, *, max_open_runs: int | None, rate: float | None, batch: int
    ) -> None:
        self._services = services
        self._spec = spec
        self._rate = rate
        self._batch = batch
        self.open_runs = OpenRuns(services, spec.name, max_open_runs)
        self.stopping = asyncio.Event()
        self.is_paused = False
        self._told = ""
        self._next_at = 0.0

    async def keep(self, serve: Callable[[], Awaitable[None]]) -> None:
        """Serve again and again, whenever it may, until stopped; after an error with a pause."""
        name, pause = self._spec.name, PAUSE_SECONDS
        _log.info("source.started", source=name, worker_id=self._services.name)
        while not self.stopping.is_set():
            try:
                await self._services.source_store.put(self._spec)
                if await self._may_serve():
                    await serve()
                pause = PAUSE_SECONDS
            except Exception as error:  # noqa: BLE001 - a supervisor: what was in hand comes again
                _log.warning(
                    "source.failed", source=name, error=str(error), retry_in_seconds=pause,
                    exc_info=not isinstance(error, FloxideError),
                )  # fmt: skip
                await self.tell(f"{type(error).__name__}: {error}")
                await self.unless_stopped(asyncio.sleep(pause))
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        _log.info("source.stopped", source=name, worker_id=self._services.name)

    async def watch(self, problem: Callable[[], str]) -> None:
        """Return once the source is paused; tell meanwhile what keeps it from its items."""
        while not self.is_paused:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look(problem())

    async def look(self, problem: str) -> None:
        """See whether the source is paused, and tell what keeps it from its items."""
        name = self._spec.name
        with suppress(*WAITED_FOR):
            was_paused, self.is_paused = self.is_paused, (await self._services.source_store.control(name)).paused
            if self.is_paused is not was_paused:
                _log.info("source.paused" if self.is_paused else "source.resumed", source=name)
        await self.tell(problem)

    async def tell(self, problem: str) -> None:
        """Say in the store what keeps the source from its items, where that has changed."""
        if problem == self._told:
            return
        services, name = self._services, self._spec.name
        now = services.now_ms(keys.source_partition(name))
        with suppress(*WAITED_FOR):
            found = SourceProblem(text=problem, at_ms=now, worker=services.name)
            await services.source_store.put_problem(name, found)
            self._told = problem

    async def room(self, watching: asyncio.Task[None]) -> int:
        """Return how many runs may begin now, waiting some time for others to end; 0 where that must end."""
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + HELD_SECONDS, ROOM_SECONDS
        if self._next_at > loop.time():
            await self.unless_stopped(asyncio.sleep(self._next_at - loop.time()), watching)
        while not (self.stopping.is_set() or watching.done()) and loop.time() < until:
            room = await self.open_runs.room()
            if room is None or room > 0:
                most = self._batch if self._rate is None else min(self._batch, max(1, int(self._rate)))
                return most if room is None else min(most, room)
            await self.unless_stopped(asyncio.sleep(pause), watching)
            pause = min(2 * pause, LONGEST_ROOM_SECONDS)
        return 0

    def pace(self, runs: int) -> None:
        """Note that so many runs were started: the next ones wait for their time."""
        if self._rate is not None:
            self._next_at = max(asyncio.get_running_loop().time(), self._next_at) + runs / self._rate

    async def unless_stopped(
        self, work: Coroutine[Any, Any, T], watching: asyncio.Task[None] | None = None
    ) -> T | None:
        """Return what something comes to; None where the source is stopped, or paused, before."""
        task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self.stopping.wait())
        waited: set[asyncio.Future[Any]] = {task, stopped} if watching is None else {task, stopped, watching}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)

    async def _may_serve(self) -> bool:
        """Wait until the source is not paused and has room; return False where it was stopped before."""
        await self.look("")
        while self.is_paused or await self.open_runs.room() == 0:
            await self.unless_stopped(asyncio.sleep(LOOK_SECONDS))
            if self.stopping.is_set():
                return False
            await self.look("")
        return True
