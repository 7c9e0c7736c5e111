"""The worker's sign of life: a counter in the store, raised from a thread of its own with a store of its own.

A node that blocks the event loop does not stop it, and neither does a queue of commits.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from floxide_amqp.core.ids import WorkerId
from floxide_amqp.core.records import WorkerRecord
from floxide_amqp.exceptions import StoreError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.clock import Clock
from floxide_amqp.ports.key_value import KeyValueStore
from floxide_amqp.runtime.deaths import boot_id, process_start
from floxide_amqp.stores.liveness import LivenessStore
from floxide_amqp.stores.session import Session

_log = get_logger("floxide_amqp.heartbeat")

START_SECONDS = 30.0
"""Longest wait for the first heartbeat before a worker gives up starting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What a worker says of itself; replaced as a whole, so that another thread may read it."""

    status: str = "starting"
    current_items: tuple[str, ...] = ()
    items_done: int = 0
    errors: int = 0


def new_record(
    worker_id: WorkerId, *, now_ms: int, queues: tuple[str, ...], workflows: tuple[str, ...], concurrency: int
) -> WorkerRecord:
    """Return a worker's first record."""
    return WorkerRecord(
        worker_id=worker_id, beat=0, at_ms=now_ms, started_at_ms=now_ms, host=socket.gethostname(), boot=boot_id(),
        pid=os.getpid(), process_started=process_start(os.getpid()), status="starting", queues=queues,
        workflows=workflows, concurrency=concurrency,
    )  # fmt: skip


def next_beat(record: WorkerRecord, vitals: Vitals, now_ms: int) -> WorkerRecord:
    """Return a worker's next heartbeat record."""
    return replace(
        record, beat=record.beat + 1, at_ms=now_ms, status=vitals.status, current_items=vitals.current_items,
        items_done=vitals.items_done, errors=vitals.errors,
    )  # fmt: skip


class TaskHeartbeat:
    """Beats from the worker's own event loop, for a store that no other process can open.

    Args:
        record: The worker's record.
        liveness: Where the beats go.
        clock: This process's clock.
        interval_seconds: Between two beats.
    """

    def __init__(self, record: WorkerRecord, liveness: LivenessStore, clock: Clock, interval_seconds: float) -> None:
        self.vitals = Vitals()
        self.succeeded = 0
        self._record = record
        self._liveness = liveness
        self._clock = clock
        self._interval = interval_seconds
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Write the first beat and go on beating."""
        await self._beat()
        self._task = asyncio.create_task(self._run(), name="floxide.worker.heartbeat")

    async def stop(self) -> None:
        """Say goodbye."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._liveness.say_goodbye(self._record)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._beat()
            except StoreError as error:
                _log.warning("heartbeat.failed", worker_id=self._record.worker_id, error=str(error))

    async def _beat(self) -> None:
        self._record = next_beat(self._record, self.vitals, self._clock.now_ms())
        await self._liveness.beat(self._record)
        self.succeeded += 1


class Heartbeat:
    """Beats from a thread while the context is open.

    Args:
        record: The worker's record; its counter and vitals are kept up to date.
        open_store: Opens another connection to the same store.
        clock: This process's clock.
        interval_seconds: Between two beats.

    Attributes:
        vitals: Set by the worker, read by the thread.
        succeeded: Beats that got through.
    """

    def __init__(
        self,
        record: WorkerRecord,
        open_store: Callable[[], Awaitable[KeyValueStore]],
        clock: Clock,
        interval_seconds: float,
    ) -> None:
        self.vitals = Vitals()
        self.succeeded = 0
        self._record = record
        self._open_store = open_store
        self._clock = clock
        self._interval = interval_seconds
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._first: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Start beating; return once the first beat is in the store.

        Raises:
            StoreError: The store could not take it.
        """
        self._loop = asyncio.get_running_loop()
        self._first = first = self._loop.create_future()
        self._stop.clear()
        self._thread = threading.Thread(target=self._main, name=f"heartbeat-{self._record.worker_id}", daemon=True)
        self._thread.start()
        try:
            await asyncio.wait_for(asyncio.shield(first), START_SECONDS)
        except BaseException:
            self._stop.set()  # or the thread would vouch for a worker that never came to be
            raise

    async def stop(self) -> None:
        """Say goodbye and stop; returns when the thread has ended."""
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
        liveness = LivenessStore(Session(store, self._clock, patience_seconds=0.0))
        try:
            while not self._stop.is_set():
                await self._beat(liveness)
                await asyncio.to_thread(self._stop.wait, self._interval)
            await self._goodbye(liveness)
        finally:
            await store.aclose()

    async def _beat(self, liveness: LivenessStore) -> None:
        self._record = next_beat(self._record, self.vitals, self._clock.now_ms())
        try:
            await liveness.beat(self._record)
        except Exception as error:  # noqa: BLE001 - a thread that ends in silence would look like the worker's death
            _log.warning("heartbeat.failed", worker_id=self._record.worker_id, error=str(error))
            self._report_first(error)
            return
        self.succeeded += 1
        self._report_first(None)

    async def _goodbye(self, liveness: LivenessStore) -> None:
        try:
            await liveness.say_goodbye(self._record)
        except StoreError as error:
            _log.warning("heartbeat.goodbye_failed", worker_id=self._record.worker_id, error=str(error))

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
