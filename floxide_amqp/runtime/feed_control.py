"""What every feed of a source needs: to be stopped and paused, to tell what is wrong, to hold still while it must."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from floxide_amqp.core.failure import describe_error
from floxide_amqp.core.sources import SourceProblem, SourceSpec
from floxide_amqp.exceptions import BrokerError, FloxideError, StoreError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.open_runs import OpenRuns
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores import source_keys
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

REPEAT_SECONDS: Final = 60.0
"""How often a process says again what keeps it from its items; what nobody has said for `REPEATS` as long is over."""

REPEATS: Final = 3

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
        self._told, self._told_at, self._since_ms = "", 0.0, 0
        self._heard, self._heard_at = 0, 0.0
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
                said = self._said(error)
                _log.warning(
                    "source.failed", source=name, error=said, retry_in_seconds=pause,
                    exc_info=not (isinstance(error, FloxideError) or self._services.sealing.hides),
                )  # fmt: skip
                await self.tell(f"{type(error).__name__}: {said}")
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
            control, told, version = await self._services.source_store.steering(name)
            was_paused, self.is_paused = self.is_paused, control.paused
            if self.is_paused is not was_paused:
                _log.info("source.paused" if self.is_paused else "source.resumed", source=name)
            if told.text and not (problem or self._told) and self._is_over(told, version):
                await self._services.source_store.put_problem(name, SourceProblem())
        await self.tell(problem)

    async def tell(self, problem: str) -> None:
        """Say in the store what keeps the source from its items, where that has changed, and then now and again.

        A source goes on whatever becomes of this: that it cannot be said is logged.
        """
        services, name, time = self._services, self._spec.name, asyncio.get_running_loop().time()
        is_repeated = problem == self._told
        if is_repeated and not (problem and time - self._told_at >= REPEAT_SECONDS):
            return
        since_ms = self._since_ms if is_repeated else services.now_ms(source_keys.source_partition(name))
        try:
            found = SourceProblem(text=problem, at_ms=since_ms, worker=services.name)
            await services.source_store.put_problem(name, found)
        except WAITED_FOR:
            return
        except Exception as error:  # noqa: BLE001 - told by a supervisor, which this must not end
            _log.warning("source.problem_not_told", source=name, problem=problem, error=str(error))
            return
        self._told, self._told_at, self._since_ms = problem, time, since_ms

    async def room(
        self, watching: asyncio.Task[None], oldest_at: Callable[[], float | None] = lambda: None
    ) -> int:  # fmt: skip
        """Return how many runs may begin now, waiting some time for others to end; 0 where that must end.

        Args:
            watching: Ends when it must.
            oldest_at: Tells since when, by the event loop, the oldest item is held that is in hand; None for none.
        """
        loop = asyncio.get_running_loop()
        began, pause = loop.time(), ROOM_SECONDS
        while not (self.stopping.is_set() or watching.done()):
            oldest = oldest_at()
            left = (began if oldest is None else min(began, oldest)) + HELD_SECONDS - loop.time()
            if left <= 0:
                return 0
            if self._next_at > loop.time():
                await self.unless_stopped(asyncio.sleep(min(left, self._next_at - loop.time())), watching)
                continue
            room = await self.open_runs.room()
            if room is None or room > 0:
                most = self._batch if self._rate is None else min(self._batch, max(1, int(self._rate)))
                return most if room is None else min(most, room)
            await self.unless_stopped(asyncio.sleep(min(left, pause)), watching)
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
        loop = asyncio.get_running_loop()
        while self.is_paused or self._next_at > loop.time() or await self.open_runs.room() == 0:
            await self.unless_stopped(asyncio.sleep(LOOK_SECONDS))
            if self.stopping.is_set():
                return False
            await self.look("")
        return True

    def _said(self, error: Exception) -> str:
        """Return an error's text; of one that users' code may have raised nothing, where their data is a secret."""
        said = describe_error(error).message
        return said if isinstance(error, StoreError | BrokerError) else self._services.sealing.logged(said)

    def _is_over(self, told: SourceProblem, version: int) -> bool:
        """Whether somebody else's problem is over: it has not been said again for long, so who had it is gone."""
        time = asyncio.get_running_loop().time()
        if version != self._heard:
            self._heard, self._heard_at = version, time
        return told.worker == self._services.name or time - self._heard_at >= REPEATS * REPEAT_SECONDS
