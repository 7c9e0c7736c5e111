"""Worker processes of their own, on RabbitMQ and a store of one's own, and how much memory a process takes at most."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMESPACE_VARIABLE = "FLOXIDE_BENCH_NAMESPACE"

ROOT = Path(__file__).parents[1]

START_SECONDS = 60.0
"""Longest time that a worker may take to begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Where processes meet: a broker and a store, by their addresses, and a namespace."""

    broker: str
    store: str
    namespace: str


@asynccontextmanager
async def worker_processes(
    application: str,
    folder: Path,
    servers: Servers,
    *,
    number: int,
    concurrency: int,
    environment: Mapping[str, str] | None = None,
) -> AsyncGenerator[list[int]]:
    """Let worker processes serve an application while the block is open; yield their ids once they have begun.

    Args:
        application: Where it is, as ``module:name``; it takes its namespace from `NAMESPACE_VARIABLE`.
        folder: Gets their logs.
        servers: Where they work.
        number: How many.
        concurrency: Steps that each has in flight at a time.
        environment: Variables of theirs, besides those of this process.
    """
    command = [
        sys.executable, "-m", "floxide_amqp.apps.cli", "worker", application, "--broker", servers.broker, "--store",
        servers.store, "--concurrency", str(concurrency), "--log-format", "json",
    ]  # fmt: skip
    theirs = os.environ | {NAMESPACE_VARIABLE: servers.namespace, **(environment or {})}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for each in range(number):
            with (folder / f"worker-{each}.log").open("w") as log:
                processes.append(subprocess.Popen(command, env=theirs, cwd=ROOT, stderr=log))  # noqa: ASYNC220 - returns at once
        for each, process in enumerate(processes):
            await _started(folder / f"worker-{each}.log", process)
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                await asyncio.to_thread(process.wait, 30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def _started(log: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while '"worker.started"' not in _text(log):
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"a worker of the benchmark did not start:\n{_text(log)}")
        await asyncio.sleep(0.05)


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8")


async def in_own_process(module: str, *arguments: str) -> dict[str, Any]:
    """Run a module as a program of its own; return what its last line says, as JSON.

    Raises:
        RuntimeError: It failed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{module} with {' '.join(arguments)} ended with {process.returncode}")
    said: dict[str, Any] = json.loads(output.splitlines()[-1])
    return said


def peak_mib(process: int | None = None) -> float:
    """Return the most memory that a process ever had in RAM, in MiB; of this one if none is named.

    The number that `getrusage` gives begins with that of the process which started this one.

    Source:
        proc(5), "VmHWM".
    """
    return _mib("VmHWM:", process)


def resident_mib(process: int) -> float:
    """Return the memory that a process has in RAM now, in MiB.

    Source:
        proc(5), "VmRSS".
    """
    return _mib("VmRSS:", process)


def _mib(name: str, process: int | None) -> float:
    status = Path(f"/proc/{process or 'self'}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def processor_seconds(process: int) -> float:
    """Return the processor time that a process has had so far, in all its threads.

    Source:
        proc(5), "utime" and "stime".
    """
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
