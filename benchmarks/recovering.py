"""How long it takes until the steps of a killed worker have begun elsewhere, and what is run again.

Runs of three steps: two that end at once, and a third that waits. One worker process has them all in flight when it is
killed (SIGKILL); another one is there, with nothing to do. Bodies are counted by themselves, in files.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.apart import NAMESPACE_VARIABLE, Servers, worker_processes
from benchmarks.cancelling import FOLDER_VARIABLE, launched_folder, until
from benchmarks.throughput import check
from floxide_amqp import Floxide, Start, Workflow, node

FOREVER = 300.0
GO = "go"
"""The file for which the third steps wait."""

STEPS_ENDED = 2
"""Steps of a run that have ended when the worker is killed."""

AT_LEAST = 2
"""Bodies of the third step: the one that was killed, and one elsewhere."""


@node
async def pass_on(number: int) -> int:
    _note("e", number)
    return number


@node
async def wait(number: int) -> int:
    _note("w", number)
    while not (_folder() / GO).exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.05)
    return number


class Interrupted(Workflow[int, int]):
    start = pass_on.named("step 1")
    edges = (start >> pass_on.named("step 2") >> wait,)


app = Floxide(workflows=[Interrupted], namespace=os.environ.get(NAMESPACE_VARIABLE, "bench"))
"""What the workers serve; broker and store are told on their command lines."""


def _folder() -> Path:
    return Path(os.environ[FOLDER_VARIABLE])


def _note(what: str, number: int) -> None:
    """Write down at once that a body begins, however this process dies."""
    descriptor = os.open(_folder() / f"bodies.{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{what}{number}\n".encode())
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What was measured.

    Attributes:
        steps: In flight when the worker was killed.
        first_seconds: From the kill until the first of them began elsewhere.
        seconds: Until all of them had.
        repeated: Bodies beyond those: each step that had ended ran once, each that was in flight twice.
    """

    steps: int
    first_seconds: float
    seconds: float
    repeated: int


async def measure_recovery(servers: Servers, steps: int) -> Recovered:
    """Kill a worker with so many steps in flight."""
    there = Floxide(servers.broker, store=servers.store, namespace=servers.namespace, workflows=[Interrupted])
    with launched_folder() as folder:
        async with there.orchestrator() as client, _worker(folder, "first", servers, steps) as (first,):
            handles = await client.start_many(Interrupted, [Start(number) for number in range(steps)])
            await until(lambda: len(_begun(folder, first)) == steps)
            async with _worker(folder, "second", servers, steps) as (second,):
                first_seconds, seconds = await _kill(folder, first, second, steps)
                (folder / GO).touch()
                check([await handle.result(timeout=FOREVER) for handle in handles], list(range(steps)))
        bodies = Counter(line for path in folder.glob("bodies.*") for line in path.read_text("utf-8").split())
    check([number for number in range(steps) if bodies[f"w{number}"] < AT_LEAST], [])
    repeated = bodies.total() - steps * (STEPS_ENDED + AT_LEAST)
    return Recovered(steps=steps, first_seconds=first_seconds, seconds=seconds, repeated=repeated)


def _worker(folder: Path, name: str, servers: Servers, steps: int) -> AbstractAsyncContextManager[list[int]]:
    logs = folder / name
    logs.mkdir()
    return worker_processes("benchmarks.recovering:app", logs, servers, number=1, concurrency=steps)


async def _kill(folder: Path, first: int, second: int, steps: int) -> tuple[float, float]:
    """Kill the first worker; return when the first and when the last of its steps had begun in the second one."""
    began = time.monotonic()
    os.kill(first, signal.SIGKILL)
    await until(lambda: bool(_begun(folder, second)))
    first_seconds = time.monotonic() - began
    await until(lambda: len(_begun(folder, second)) == steps)
    return first_seconds, time.monotonic() - began


def _begun(folder: Path, process: int) -> set[str]:
    """Return the third steps that began in a process."""
    try:
        lines = (folder / f"bodies.{process}").read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return set()
    return {line for line in lines if line.startswith("w")}
