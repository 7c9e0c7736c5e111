"""What the distributed examples share: a RabbitMQ, a SQLite file, and worker processes for the length of a block.

An example that uses it has a function `make_app(broker, store, namespace)`; a worker process imports the example and calls it.
In production there is no such file: the broker runs already, and `floxide worker shop:app` starts a worker.
"""

from __future__ import annotations

import asyncio
import importlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from floxide_amqp import Floxide
from floxide_amqp.testing.services import launch_rabbitmq, new_namespace

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A broker and a store, and the worker processes on them."""

    app: Floxide
    workers: list[subprocess.Popen[bytes]]


@contextmanager
def cluster(example: str, *, workers: int) -> Iterator[Cluster]:
    """Launch RabbitMQ (or use the one the environment names) and worker processes; end them with the block.

    Args:
        example: The module whose `make_app` the workers call, such as ``examples.merge``.
        workers: How many processes.
    """
    with tempfile.TemporaryDirectory(prefix="floxide-example-") as folder:
        broker = launch_rabbitmq()
        place = (broker.url, f"sqlite:///{folder}/runs.db", new_namespace("example"))
        command = [sys.executable, "-m", "examples.cluster", example, *place]
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for _ in range(workers):
                processes.append(subprocess.Popen(command, cwd=ROOT))
            app: Floxide = importlib.import_module(example).make_app(*place)
            yield Cluster(app, processes)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
            broker.close()


async def work(example: str, broker: str, store: str, namespace: str) -> None:
    """Be a worker process until SIGTERM, then drain."""
    app: Floxide = importlib.import_module(example).make_app(broker, store, namespace)
    async with app.worker() as worker:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run_forever()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
