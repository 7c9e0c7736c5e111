"""A worker process of the cluster demo: ``python -m examples.census.worker``.

What it serves, the environment says, as with ``floxide worker examples.census:app``. It drains on SIGTERM, and when
its standard input ends: then whoever started it is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from examples.census.application import app_from_environment
from floxide_amqp.runtime.worker import Worker


async def serve(name: str) -> None:
    """Work until told to stop."""
    async with app_from_environment().worker(name=name) as worker:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, worker.stop)
        if not sys.stdin.isatty():
            loop.add_reader(sys.stdin.fileno(), _stop_at_end, worker, loop)
        await worker.run_forever()


def _stop_at_end(worker: Worker, loop: asyncio.AbstractEventLoop) -> None:
    if not os.read(sys.stdin.fileno(), 1):
        loop.remove_reader(sys.stdin.fileno())
        worker.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(serve(sys.argv[1]))
