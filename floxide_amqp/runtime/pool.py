"""Several workers in one process: a count, and their health together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.runtime.health import WorkerHealth
from floxide_amqp.runtime.worker import Worker


class WorkerPool:
    """Runs a number of workers as one.

    Args:
        size: How many; at least 1.
        open_worker: Opens one.

    Raises:
        ConfigurationError: The size is below 1.
    """

    def __init__(self, size: int, open_worker: Callable[[], AbstractAsyncContextManager[Worker]]) -> None:
        if size < 1:
            raise ConfigurationError(f"A pool has at least 1 worker, not {size}.")
        self._size = size
        self._open_worker = open_worker
        self._workers: list[Worker] = []

    async def run_forever(self) -> None:
        """Run all workers until `stop` is called; if one fails, the others are stopped and its error is raised."""
        async with AsyncExitStack() as stack:
            self._workers = [await stack.enter_async_context(self._open_worker()) for _ in range(self._size)]
            async with asyncio.TaskGroup() as group:
                for worker in self._workers:
                    group.create_task(worker.run_forever())

    def stop(self) -> None:
        """Let every worker drain. Calling it twice is fine."""
        for worker in self._workers:
            worker.stop()

    def health(self) -> tuple[WorkerHealth, ...]:
        """Return how each worker is."""
        return tuple(worker.health() for worker in self._workers)
