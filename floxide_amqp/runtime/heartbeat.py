"""The worker's sign of life: a counter in the store, raised from a thread of its own with a store of its own.

A node that blocks the event loop does not stop it, and neither does a queue of commits. But it vouches for items one
by one: it names those whose bodies should have ended long since, and others take them. A loop that stands still for
too long it does not vouch for at all.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

from floxide_amqp.core.worker_records import WorkerRecord
from floxide_amqp.exceptions import ConfigurationError, StoreError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.clock import Clock
from floxide_amqp.ports.key_value import KeyValueStore
from floxide_amqp.runtime.loop_watch import LoopPulse, LoopWatch
from floxide_amqp.runtime.signs import Signs
from floxide_amqp.runtime.vitals import Vitals, new_record, next_beat
from floxide_amqp.stores.liveness import HUNG
from floxide_amqp.stores.session import Session
from floxide_amqp.stores.sharded_session import session_with

__all__ = ["Heartbeat", "TaskHeartbeat", "Vitals", "new_record"]

_log = get_logger("floxide_amqp.heartbeat")

START_SECONDS = 30.0
"""Longest wait for the first heartbeat, once its name is free, before a worker gives up starting."""

DEFAULT_DEAD_AFTER_SECONDS = 15.0
"""Silence that counts as death, where nobody says."""


TICKS_PER_BEAT = 4
"""Ticks of the event loop between two beats."""


def _ignore(error: Exception) -> None:
    """For a worker that has not begun."""
    del error


class TaskHeartbeat:
    """Beats from the worker's own event loop, for a store that no other process can open.

    Args:
        record: The worker's record.
        session: Where the beats go.
        clock: This process's clock.
        interval_seconds: Between two beats.
        dead_after_seconds: Silence of another worker of this name that counts as its death.

    Attributes:
        vitals: Set by the worker.
        pulse: Ticks of the event loop, which the worker keeps up.
        beat_at: When the last beat got through, by the event loop's clock.
        on_lost: Called when another worker has taken the name.
    """

    def __init__(
        self,
        record: WorkerRecord,
        session: Session,
        clock: Clock,
        interval_seconds: float,
        dead_after_seconds: float = DEFAULT_DEAD_AFTER_SECONDS,
    ) -> None:
        self.vitals = Vitals()
        self.beat_at: float | None = None
        self.on_lost: Callable[[Exception], object] = _ignore
        self.pulse = LoopPulse(interval_seconds / TICKS_PER_BEAT)
        self._record = record
        self._clock = clock
        self._interval = interval_seconds
        self._signs = Signs(
            session, self._next, self._note, interval_seconds=interval_seconds, dead_after_seconds=dead_after_seconds
        )
        self._task: asyncio.Task[None] | None = None

    def succeeded(self, part: int) -> int:
        """Return how many beats got through on a server, by its number."""
        return self._signs.succeeded[part]

    async def start(self) -> None:
        """Write the first beat and go on beating."""
        await self._signs.begin()
        self._task = asyncio.create_task(self._run(), name="floxide.worker.heartbeat")

    async def stop(self) -> None:
        """Say goodbye."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._signs.leave()

    async def _run(self) -> None:
        try:
            await self._signs.keep_up(lambda: asyncio.sleep(self._interval))
        except ConfigurationError as error:
            self.on_lost(error)

    def _next(self) -> WorkerRecord:
        loop_time = asyncio.get_running_loop().time()
        self._record = next_beat(self._record, self.vitals, self._clock.now_ms(), loop_time=loop_time)
        return self._record

    def _note(self) -> None:
        self.beat_at = asyncio.get_running_loop().time()


class Heartbeat:
    """Beats from a thread while the context is open.

    Args:
        record: The worker's record; its counter and vitals are kept up to date.
        open_store: Opens another connection to the same store.
        clock: This process's clock.
        interval_seconds: Between two beats.
        dead_after_seconds: Silence of another worker of this name that counts as its death.
        watch: Watches the event loop meanwhile.

    Attributes:
        vitals: Set by the worker, read by the thread.
        pulse: Ticks of the event loop, which the worker keeps up.
        beat_at: When the last beat got through, by the event loop's clock.
        on_lost: Called in the event loop when another worker has taken the name.
    """

    def __init__(
        self,
        record: WorkerRecord,
        open_store: Callable[[], Awaitable[KeyValueStore]],
        clock: Clock,
        interval_seconds: float,
        dead_after_seconds: float = DEFAULT_DEAD_AFTER_SECONDS,
        watch: LoopWatch | None = None,
    ) -> None:
        self.vitals = Vitals()
        self.beat_at: float | None = None
        self.on_lost: Callable[[Exception], object] = _ignore
        self._record = record
        self._open_store = open_store
        self._clock = clock
        self._interval = interval_seconds
        self._dead_after = dead_after_seconds
        self.pulse = LoopPulse(interval_seconds / TICKS_PER_BEAT) if watch is None else watch.pulse
        self._watch = watch
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._first: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._signs: Signs | None = None

    def succeeded(self, part: int) -> int:
        """Return how many beats got through on a server, by its number."""
        return 0 if self._signs is None else self._signs.succeeded[part]

    async def start(self) -> None:
        """Start beating; return once the first beat is in the store.

        Raises:
            WorkerNameTakenError: Another worker of this name is alive.
            StoreError: The store could not take it.
        """
        self._loop = asyncio.get_running_loop()
        self._first = first = self._loop.create_future()
        self._stop.clear()
        self._thread = threading.Thread(target=self._main, name=f"heartbeat-{self._record.worker_id}", daemon=True)
        self._thread.start()
        try:
            await asyncio.wait_for(asyncio.shield(first), START_SECONDS + 2 * self._dead_after)
        except BaseException:
            self._stop.set()  # or the thread would vouch for a worker that never came to be
            raise
        if self._watch is not None:
            self._watch.start()

    async def stop(self) -> None:
        """Say goodbye and stop; returns when the thread has ended."""
        if self._watch is not None:
            self._watch.stop()
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, START_SECONDS)

    def _main(self) -> None:
        asyncio.run(self._beat_until_stopped())

    async def _beat_until_stopped(self) -> None:
        try:
            store = await self._open_store()
        except Exception as error:  # noqa: BLE001 - the supervisor of the thread: `start` raises it
            self._report_first(error)
            return
        session = session_with(store, self._clock, patience_seconds=0.0)
        self._signs = Signs(
            session, self._next, self._note, interval_seconds=self._interval, dead_after_seconds=self._dead_after,
            is_stopped=self._stop.is_set,
        )  # fmt: skip
        try:
            if await self._begin(self._signs):
                await self._go_on(self._signs)
        finally:
            await store.aclose()

    async def _begin(self, signs: Signs) -> bool:
        """Take the name with the first beats; return whether to go on."""
        try:
            await signs.begin()
        except Exception as error:  # noqa: BLE001 - the supervisor of the thread: `start` raises it
            self._report_first(error)
            return False
        self._report_first(None)
        return True

    async def _go_on(self, signs: Signs) -> None:
        try:
            await signs.keep_up(lambda: asyncio.to_thread(self._stop.wait, self._interval))
        except ConfigurationError as error:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self.on_lost, error)
            return
        try:
            await signs.leave()
        except StoreError as error:
            _log.warning("heartbeat.goodbye_failed", worker_id=self._record.worker_id, error=str(error))

    def _next(self) -> WorkerRecord:
        watch = self._watch
        self._record = next_beat(
            self._record, self.vitals, self._clock.now_ms(), loop_time=self.pulse.loop_time(),
            lag_seconds=0.0 if watch is None else watch.silent_seconds,
            status=HUNG if watch is not None and watch.is_hung else "",
        )  # fmt: skip
        return self._record

    def _note(self) -> None:
        self.beat_at = self.pulse.loop_time()

    def _report_first(self, error: Exception | None) -> None:
        if self._loop is None or self._first is None:
            return
        first, self._first = self._first, None
        self._loop.call_soon_threadsafe(_resolve, first, error)


def _resolve(first: asyncio.Future[None], error: Exception | None) -> None:
    if first.done():
        return
    if error is None:
        first.set_result(None)
    else:
        first.set_exception(error)
