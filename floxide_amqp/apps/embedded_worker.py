"""A worker beside a block of code, in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from floxide_amqp.runtime.worker import Worker


@asynccontextmanager
async def running(worker: Worker) -> AsyncGenerator[None]:
    """Run a worker beside the block, and drain it at the end.

    A worker that breaks ends the block with its error: what the block waits for would never come.
    """
    owner = asyncio.current_task()
    task = asyncio.create_task(worker.run_forever(), name="floxide.embedded.worker")
    interrupted = False

    def interrupt(ended: asyncio.Task[None]) -> None:
        nonlocal interrupted
        if owner is not None and not ended.cancelled() and ended.exception() is not None:
            interrupted = owner.cancel()

    task.add_done_callback(interrupt)
    try:
        yield
    except asyncio.CancelledError:
        if not interrupted or owner is None or owner.uncancel() > 0:
            raise
    finally:
        task.remove_done_callback(interrupt)
        worker.stop()
        await task
