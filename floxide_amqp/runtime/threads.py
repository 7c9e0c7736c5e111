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

_log = get_logger("floxide_amqp.execution")

THREAD_NAME = "floxide-node"
"""First word of the names of threads for nodes."""

T = TypeVar("T")


def _ignore() -> None:
    """For those whose process is not theirs to end."""


class NodeThreads:
    """Threads for nodes, so many at a time.

    Args:
        size: How many bodies run at a time; at least 1.
        executor: Runs them until a thread is lost; by default the event loop's own.
        grace_seconds: Time a body that nobody waits for gets to end before its thread counts as lost.
        most_lost: Lost threads from which on `on_too_many` is called.

    Attributes:
        lost: The steps whose bodies hold threads though nobody waits for them.
        on_too_many: Called when too many are lost.
    """

    def __init__(self, size: int, executor: Executor | None, grace_seconds: float, most_lost: int) -> None:
        self.lost: dict[StepHandle, None] = {}
        self.on_too_many: Callable[[], object] = _ignore
        self._size = size
        self._executor = executor
        self._grace = grace_seconds
        self._most_lost = most_lost
        self._own: ThreadPoolExecutor | None = None
        self._places = asyncio.Semaphore(size)

    @asynccontextmanager
    async def place(self, handle: StepHandle) -> AsyncGenerator[ThreadPlace]:
        """Wait for a free thread and keep it for the block; for longer if the body it was given does not end."""
        await self._places.acquire()
        place = ThreadPlace(self, handle)
        try:
            yield place
        finally:
            place.leave()

    @property
    def executor(self) -> Executor | None:
        """What runs bodies now."""
        return self._own or self._executor

    def give_back(self) -> None:
        """A place is free again."""
        self._places.release()

    def lose(self, handle: StepHandle, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        """A body has outlived its step: if it does not end within the grace, give up its thread."""
        call_later(self._grace, lambda: self._give_up(handle))

    def _give_up(self, handle: StepHandle) -> None:
        """To be replaced by `ThreadPlace`."""

    def replace(self, handle: StepHandle) -> None:
        """Give a thread up: put fresh ones in place of it and its fellows, which end with what they are doing."""
        self.lost[handle] = None
        old, self._own = self._own, ThreadPoolExecutor(self._size, thread_name_prefix=THREAD_NAME)
        if old is not None:
            old.shutdown(wait=False)
        _log.warning(
            "thread.lost", run_id=handle.run_id, item_id=handle.item_id, node=handle.node, lost=len(self.lost)
        )
        if len(self.lost) >= self._most_lost:
            self.on_too_many()

    def find_again(self, handle: StepHandle) -> None:
        """The body of a lost thread has ended after all."""
        self.lost.pop(handle, None)
        _log.info("thread.found", run_id=handle.run_id, item_id=handle.item_id, node=handle.node, lost=len(self.lost))

    def close(self) -> None:
        """Let go of the threads, without waiting for what they do."""
        if self._own is not None:
            self._own.shutdown(wait=False, cancel_futures=True)
