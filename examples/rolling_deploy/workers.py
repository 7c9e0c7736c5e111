"""Worker processes of either version: started with the command line, stopped with SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 60.0
"""Longest orderly stop; more than a worker's own limit for draining."""


class WorkerFailedError(Exception):
    """A worker process ended otherwise than it was told to."""


@dataclass(frozen=True)
class WorkerProcess:
    """One ``floxide worker``."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    async def stop(self) -> None:
        """SIGTERM: it finishes what it has begun, gives back the rest and ends.

        Raises:
            WorkerFailedError: It does not, or not well.
        """
        self.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(self.process.wait, STOP_SECONDS)
        if code != 0:
            raise WorkerFailedError(f"Worker {self.name} ended with exit code {code}:\n{self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """End it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def start_worker(module: str, name: str, environment: dict[str, str], logs: Path) -> WorkerProcess:
    """Start a worker of the application in a module of this example."""
    log = logs / f"{name}.log"
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    arguments = [f"examples.rolling_deploy.{module}:app", "--name", name, "--concurrency", "8"]
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "floxide_amqp.apps.cli", "worker", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, **environment, "PYTHONPATH": path},
            start_new_session=True,
        )
    return WorkerProcess(name, process, log)
