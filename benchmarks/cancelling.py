"""How long it takes to stop a thousand steps in flight, and that what comes late is refused.

One run fans out to steps that wait; three worker processes on RabbitMQ hold them all. One of the workers is stopped
(SIGSTOP) before the run is cancelled, and its steps are let go meanwhile: when it goes on they return as if nothing had
happened, and their commits must be refused. Steps in flight are counted by the steps themselves, in files.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.apart import NAMESPACE_VARIABLE, Servers, worker_processes
from benchmarks.progress import phase
from benchmarks.report import table
from benchmarks.throughput import check
from floxide_amqp import Floxide, NextAll, RunStatus, Workflow, gather, node
from floxide_amqp.testing.services import launch_rabbitmq, new_namespace

WORKERS = 3
LONGEST_SECONDS = 300.0
FOLDER_VARIABLE = "FLOXIDE_BENCH_FOLDER"

BEGUN, ENDED, RETURNED = b"b", b"e", b"r"
"""What a step writes: that it began, that it was interrupted, that it returned."""


@node
async def spread(count: int) -> NextAll[int]:
    return NextAll(range(count))


@node
async def wait(number: int) -> int:
    """Wait until this process is told to let its steps go, which it is only to provoke late results."""
    _write(BEGUN)
    how = ENDED
    try:
        await _released()
        how = RETURNED
    finally:
        _write(how)
    return number


@node
async def count_all(numbers: list[int]) -> int:
    return len(numbers)


class Waiting(Workflow[int, int]):
    start = spread
    edges = (spread >> wait >> gather(count_all),)


app = Floxide(workflows=[Waiting], namespace=os.environ.get(NAMESPACE_VARIABLE, "bench"))
"""What the workers serve; broker and store are told on their command lines."""


def _folder() -> Path:
    return Path(os.environ[FOLDER_VARIABLE])


def _write(what: bytes) -> None:
    """Append a byte to this process's file at once, however it dies."""
    descriptor = os.open(_folder() / f"steps.{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, what)
    finally:
        os.close(descriptor)


_waiters: list[asyncio.Future[None]] = []


async def _released() -> None:
    if not _waiters:
        asyncio.get_running_loop().call_later(0.02, _look)
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    _waiters.append(waiter)
    await waiter


def _look() -> None:
    if (_folder() / f"go.{os.getpid()}").exists():
        for waiter in _waiters:
            if not waiter.done():
                waiter.set_result(None)
    asyncio.get_running_loop().call_later(0.02, _look)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelling:
    """What was measured.

    Attributes:
        accepted_seconds: Until the cancel was committed.
        seconds: Until no step ran in the workers that were awake.
        late: Results that the worker that had been stopped came with, all refused.
        late_seconds: From when it went on until no step of its ran.
    """

    steps: int
    accepted_seconds: float
    seconds: float
    late: int
    late_seconds: float

    def plain(self) -> dict[str, object]:
        """Return everything, as plain data."""
        return {
            "steps": self.steps, "workers": WORKERS, "accepted_seconds": round(self.accepted_seconds, 3),
            "seconds": round(self.seconds, 3), "late_results_refused": self.late,
            "late_seconds": round(self.late_seconds, 3),
        }  # fmt: skip


async def measure_cancelling(steps: int) -> Cancelling:
    """Cancel a run with so many steps in flight."""
    with launched_folder() as folder:
        broker = await asyncio.to_thread(launch_rabbitmq)
        try:
            return await _measure(folder, broker.url, steps)
        finally:
            await asyncio.to_thread(broker.close)


async def _measure(folder: Path, broker: str, steps: int) -> Cancelling:
    store, namespace = f"sqlite:///{folder}/runs.db", new_namespace("bench")
    client_app = Floxide(broker, store=store, namespace=namespace, workflows=[Waiting])
    async with client_app.orchestrator() as client:
        servers, room = Servers(broker=broker, store=store, namespace=namespace), -(-steps // WORKERS) + 50
        async with worker_processes(
            "benchmarks.cancelling:app", folder, servers, number=WORKERS, concurrency=room
        ) as pids:
            run = await client.start(Waiting, steps, run_id="cancelled")
            with phase("steps that begin", steps) as on_progress:
                await until(lambda: _tell(on_progress, sum(_count(folder, pid, BEGUN) for pid in pids)) == steps)
            asleep, *awake = sorted(pids, key=lambda pid: _running(folder, pid))
            os.kill(asleep, signal.SIGSTOP)
            held = _running(folder, asleep)
            (folder / f"go.{asleep}").touch()
            began = time.monotonic()
            check(await run.cancel("measured"), True)
            accepted = time.monotonic() - began
            await until(lambda: not any(_running(folder, pid) for pid in awake))
            seconds = time.monotonic() - began
            os.kill(asleep, signal.SIGCONT)
            continued = time.monotonic()
            await until(lambda: not _running(folder, asleep))
            late_seconds = time.monotonic() - continued
            late = _count(folder, asleep, RETURNED)
            check(late > 0 and late <= held, True)
        ended = [item.node for item in await client.work_items("cancelled", limit=10) if item.ended_at is not None]
        check((ended, await run.status()), (["spread"], RunStatus.CANCELLED))
    return Cancelling(
        steps=steps, accepted_seconds=accepted, seconds=seconds, late=late, late_seconds=late_seconds
    )  # fmt: skip


def _tell(on_progress: Callable[[int], None], count: int) -> int:
    on_progress(count)
    return count


def _count(folder: Path, pid: int, what: bytes) -> int:
    try:
        return (folder / f"steps.{pid}").read_bytes().count(what)
    except FileNotFoundError:
        return 0


def _running(folder: Path, pid: int) -> int:
    return _count(folder, pid, BEGUN) - _count(folder, pid, ENDED) - _count(folder, pid, RETURNED)


async def until(is_so: Callable[[], bool]) -> None:
    """Return once something is so; it is looked at every hundredth of a second."""
    over = time.monotonic() + LONGEST_SECONDS
    while not is_so():
        if time.monotonic() > over:
            raise RuntimeError(f"this was to be so within {LONGEST_SECONDS:g} s")
        await asyncio.sleep(0.01)


@contextmanager
def launched_folder() -> Generator[Path]:
    """A folder for files while the block is open, known to the processes that are started in it."""
    with tempfile.TemporaryDirectory(prefix="floxide-bench-") as name:
        os.environ[FOLDER_VARIABLE] = name
        try:
            yield Path(name)
        finally:
            del os.environ[FOLDER_VARIABLE]


def cancelling_table(found: Cancelling) -> str:
    """Return the result as a table."""
    columns = (
        "steps in flight",
        "workers",
        "accepted, s",
        "until none ran, s",
        "late results refused",
        "after waking, s",
    )
    row = (
        f"{found.steps:,}", str(WORKERS), f"{found.accepted_seconds:.3f}", f"{found.seconds:.2f}", f"{found.late:,}",
        f"{found.late_seconds:.2f}",
    )  # fmt: skip
    return table(columns, [row])
