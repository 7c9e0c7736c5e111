"""Worker processes: started, frozen, killed, stopped."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import examples.census
from floxide_amqp import Orchestrator

START_SECONDS = 120.0
"""Longest wait for the workers' first heartbeats."""

STOP_SECONDS = 35.0
"""Longest orderly stop; a little more than a worker's own limit for draining."""

POLL_SECONDS = 0.05


class WorkerFailedError(Exception):
    """A worker process ended that should not have."""


@dataclass(frozen=True)
class WorkerProcess:
    """One worker process; it leads a session of its own, so that Ctrl-C reaches only whoever started it."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: it gets no chance to say or write anything."""
        self.process.kill()
        self.process.wait()


@asynccontextmanager
async def started_workers(number: int, environment: dict[str, str], logs: Path) -> AsyncIterator[list[WorkerProcess]]:
    """Start workers, and stop those that still live at the end of the block, in good order."""
    tag = secrets.token_hex(3)
    workers = [
        _start(f"census-{each}-{tag}", environment, logs / f"worker-{each}.log") for each in range(1, number + 1)
    ]
    try:
        yield workers
    finally:
        for worker in workers:
            with suppress(ProcessLookupError):
                worker.go_on()
                worker.process.terminate()
        await asyncio.gather(*(asyncio.to_thread(_finish, worker) for worker in workers))


async def wait_until_alive(orchestrator: Orchestrator, workers: Iterable[WorkerProcess]) -> None:
    """Return once every worker has been seen in the store.

    Raises:
        WorkerFailedError: One of them ended, or takes too long; the message has the end of its log.
    """
    wanted = {worker.name: worker for worker in workers}
    async with asyncio.timeout(START_SECONDS):
        while wanted:
            for seen in await orchestrator.workers():
                wanted.pop(seen.worker_id, None)
            check_alive(wanted.values())
            await asyncio.sleep(POLL_SECONDS)


def check_alive(workers: Iterable[WorkerProcess]) -> None:
    """Raise if a worker has ended."""
    for worker in workers:
        if worker.process.poll() is not None:
            end = worker.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            code = worker.process.returncode
            raise WorkerFailedError(
                f"Worker {worker.name} ended with exit code {code}. The end of {worker.log}:\n{end}"
            )


def _start(name: str, environment: dict[str, str], log: Path) -> WorkerProcess:
    root = Path(examples.census.__file__).parents[2]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "examples.census.worker", name],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            env={**os.environ, **environment, "PYTHONPATH": path},
            start_new_session=True,
        )
    return WorkerProcess(name, process, log)


def _finish(worker: WorkerProcess) -> None:
    try:
        worker.process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()
    if worker.process.stdin is not None:
        worker.process.stdin.close()
