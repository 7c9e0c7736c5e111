"""What the distributed examples share: a RabbitMQ, a SQLite file, and worker processes for the length of a block.

An example that uses it has a function `make_app(broker, store, namespace)`, which each worker process calls.
In production there is no such file: the broker runs already, and `floxide worker shop:app` starts a worker.
"""

from __future__ import annotations

import asyncio
import importlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from floxide_amqp import Floxide
from floxide_amqp.testing.services import launch_rabbitmq, new_namespace

ROOT = Path(__file__).parents[1]


@contextmanager
def cluster(example: str, *, workers: int) -> Generator[Floxide]:
    """Launch RabbitMQ (or use the one the environment names) and worker processes; end them with the block.

    Args:
        example: The module whose `make_app` the workers call, such as ``examples.merge``.
        workers: How many processes.

    Yields:
        The same application, for the client's side.
    """
    with place_with_workers(example, workers=workers) as place:
        yield load_app(example, *place)


@contextmanager
def place_with_workers(example: str, *, workers: int) -> Generator[tuple[str, str, str]]:
    """Do the same for an example with another program in it; yield broker, store and namespace."""
    with tempfile.TemporaryDirectory(prefix="floxide-example-") as folder, ExitStack() as stack:
        broker = launch_rabbitmq()
        stack.callback(broker.close)
        place = (broker.url, f"sqlite:///{folder}/runs.db", new_namespace("example"))
        command = [sys.executable, "-m", "examples.cluster", example, *place]
        processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(workers)]
        stack.callback(end, processes)
        if not all(process.stdout and process.stdout.readline() for process in processes):
            raise RuntimeError("a worker process ended before it was ready; it says above why")
        yield place


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Let worker processes drain."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.communicate()


def load_app(example: str, broker: str, store: str, namespace: str) -> Floxide:
    """Return an example's application."""
    app: Floxide = importlib.import_module(example).make_app(broker, store, namespace)
    return app


async def work(example: str, broker: str, store: str, namespace: str) -> None:
    """Be a worker process until SIGTERM, then drain."""
    async with load_app(example, broker, store, namespace).worker() as worker, asyncio.TaskGroup() as group:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        group.create_task(worker.run_forever())
        while worker.health().status == "starting":  # noqa: ASYNC110 - there is nothing to wait for but this
            await asyncio.sleep(0.01)
        print("ready", flush=True)


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
