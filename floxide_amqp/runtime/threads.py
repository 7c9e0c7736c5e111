"""Threads for the bodies of sync nodes, and what becomes of those whose bodies never end.

A thread cannot be ended from outside. A body that nobody waits for any more keeps its place for a grace period; then
its thread counts as lost and is replaced, so that no later body waits for it. Invariant: whoever has a place finds a
thread that is free.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.inflight import StepHandle

_log = get_logger("floxide_amqp.threads")

THREAD_NAME = "floxide-node"
"""First word of the names of threads for nodes."""

T = TypeVar("T")


def _ignore() -> None:
    """For whose process is not its own to end."""


class NodeThreads:
    """Threads for nodes, so many bodies at a time.

    Args:
        size: How many bodies; at least 1.
        executor: Runs them until a thread is lost; by default the event loop's own.
        grace_seconds: Time a body that nobody waits for gets to end before its thread counts as lost.
        most_lost: Lost threads from which on `on_too_many` is called.

    Attributes:
        lost: The steps whose bodies hold threads though nobody waits for them.
        on_too_many: Called when too many are lost.
    """

    def __init__(self, size: int, executor: Executor | None, *, grace_seconds: float, most_lost: int) -> None:
        self.lost: dict[StepHandle, None] = {}
        self.on_too_many: Callable[[], object] = _ignore
        self._size = size
        self._executor = executor
        self._own: ThreadPoolExecutor | None = None
        self._grace = grace_seconds
        self._most_lost = most_lost
        self._places = asyncio.Semaphore(size)

    @asynccontextmanager
    async def place(self, handle: StepHandle) -> AsyncGenerator[ThreadPlace]:
        """Wait for a free thread and keep it for the block, and longer if a body does not end with it."""
        await self._places.acquire()
        place = ThreadPlace(lambda: self._own or self._executor)
        try:
            yield place
        finally:
            place.leave(self._grace, self._places.release, lambda: self._lose(handle), lambda: self._find(handle))

    def close(self) -> None:
        """Let go of the threads, without waiting for what they do."""
        if self._own is not None:
            self._own.shutdown(wait=False, cancel_futures=True)

    def _lose(self, handle: StepHandle) -> None:
        """Give a thread up: put fresh ones in place of it and its fellows, which end with what they are doing."""
        self.lost[handle] = None
        old, self._own = self._own, ThreadPoolExecutor(self._size, thread_name_prefix=THREAD_NAME)
        if old is not None:
            old.shutdown(wait=False)
        _log.warning("thread.lost", run_id=handle.run_id, item_id=handle.item_id, node=handle.node, lost=len(self.lost))
        self._places.release()
        if len(self.lost) >= self._most_lost:
            self.on_too_many()

    def _find(self, handle: StepHandle) -> None:
        """The body of a lost thread has ended after all."""
        self.lost.pop(handle, None)
        _log.info("thread.found", run_id=handle.run_id, item_id=handle.item_id, node=handle.node, lost=len(self.lost))


class ThreadPlace:
    """Room for one step's body in a thread.

    Args:
        executor: Returns what has a thread for it now; None for the event loop's own.
    """

    def __init__(self, executor: Callable[[], Executor | None]) -> None:
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._running = 0
        self._is_left = False
        self._on_end: Callable[[], object] | None = None

    async def run(self, call: Callable[[], T]) -> T:
        """Run a call in the thread; a caller that is cancelled leaves it running."""
        return await self._loop.run_in_executor(self._executor(), lambda: self._in_thread(call))

    def leave(
        self,
        grace_seconds: float,
        release: Callable[[], object],
        lose: Callable[[], object],
        find: Callable[[], object],
    ) -> None:
        """Nobody waits for what runs here any more.

        Args:
            grace_seconds: Time it gets to end.
            release: Called when it has ended by then: the place is free.
            lose: Called when it has not.
            find: Called when it ends after that.
        """
        with self._lock:
            self._is_left = True
            is_free = not self._running
        if is_free:
            release()
            return

        def give_up() -> None:
            self._on_end = find
            lose()

        timer = self._loop.call_later(grace_seconds, give_up)

        def end_in_time() -> None:
            timer.cancel()
            release()

        self._on_end = end_in_time

    def _in_thread(self, call: Callable[[], T]) -> T:
        with self._lock:
            if self._is_left:
                raise RuntimeError("the step is over; nobody waits for its body")
            self._running += 1
        try:
            return call()
        finally:
            with self._lock:
                self._running -= 1
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._ended)

    def _ended(self) -> None:
        if self._on_end is not None and not self._running:
            on_end, self._on_end = self._on_end, None
            on_end()
