"""Whether a concurrency key and a rate limit hold over three worker processes, counted by nobody of the engine.

Each body tells a counter on a socket when it begins and ends, and waits for its answer; the counter only counts. When a
body of the rate limit starts is read from the machine's monotonic clock, which all its processes share, as the first
thing that the body does.
"""

from __future__ import annotations

import asyncio
import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.apart import NAMESPACE_VARIABLE, Servers, worker_processes
from benchmarks.cancelling import launched_folder
from benchmarks.own_stores import own_store
from benchmarks.report import table
from floxide_amqp import Concurrency, Floxide, NextAll, RateLimit, Workflow, gather, node
from floxide_amqp.testing.services import launch_rabbitmq, new_namespace

WORKERS = 3
CONCURRENCY = 100
COUNTER_VARIABLE = "FLOXIDE_BENCH_COUNTER"

AT_ONCE = 5
STARTS_PER_SECOND = 100
WORK_SECONDS = 0.1

RUNS = 10
"""Runs over which the steps of each limit are spread."""

FIRST_SECONDS = 1.0
"""Beginning and end that the slowest window leaves out: while it begins and ends, less is to be done."""


@node
async def spread(count: int) -> NextAll[int]:
    return NextAll(range(count))


@node(concurrency=Concurrency("bench-key", limit=AT_ONCE))
async def hold(number: int) -> int:
    """Be at work for a while, seen by the counter."""
    await _tell("+")
    await asyncio.sleep(WORK_SECONDS)
    await _tell("-")
    return number


@node(rate=RateLimit("bench-rate", STARTS_PER_SECOND, per=1.0))
async def send(number: int) -> int:
    """Start, and say when that was."""
    started = time.monotonic()
    await _tell(f"s{started}")
    return number


@node
async def count_all(numbers: list[int]) -> int:
    return len(numbers)


class Holding(Workflow[int, int]):
    start = spread
    edges = (spread >> hold >> gather(count_all),)


class Sending(Workflow[int, int]):
    start = spread
    edges = (spread >> send >> gather(count_all),)


app = Floxide(workflows=[Holding, Sending], namespace=os.environ.get(NAMESPACE_VARIABLE, "bench"))
"""What the workers serve; broker and store are told on their command lines."""


async def _tell(what: str) -> None:
    reader, writer = await asyncio.open_unix_connection(os.environ[COUNTER_VARIABLE])
    try:
        writer.write(f"{what}\n".encode())
        await reader.readline()
    finally:
        writer.close()


@dataclass
class Seen:
    """What the counter was told.

    Attributes:
        now: Bodies of the key that are at work.
        most: The most that ever were.
        held: How many there were in all.
        starts: When bodies of the rate limit started, seconds.
    """

    now: int = 0
    most: int = 0
    held: int = 0
    starts: list[float] = field(default_factory=list[float])

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one message."""
        try:
            what = (await reader.readline()).decode().strip()
            if what.startswith("s"):
                self.starts.append(float(what[1:]))
            elif what:
                self.now += 1 if what == "+" else -1
                self.most = max(self.most, self.now)
                self.held += what == "+"
            writer.write(b"\n")
            await writer.drain()
        finally:
            writer.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What was measured in one store.

    Attributes:
        most_at_once: The most bodies of the key that were ever at work.
        held: How many bodies of the key ran.
        windows: Of the windows of one second that begin with a start, how many had so many starts.
        slowest: The fewest starts in such a window, but at the beginning and the end.
        seconds: From the first start of a body to the last one.
    """

    store: str
    most_at_once: int
    held: int
    starts: int
    windows: Counter[int]
    slowest: int
    seconds: float

    @property
    def is_kept(self) -> bool:
        """Whether both limits held."""
        return self.most_at_once <= AT_ONCE and max(self.windows, default=0) <= STARTS_PER_SECOND

    def plain(self) -> dict[str, object]:
        """Return everything, as plain data."""
        return {
            "store": self.store, "workers": WORKERS, "limit": AT_ONCE, "most_at_once": self.most_at_once,
            "held": self.held, "rate": STARTS_PER_SECOND, "starts": self.starts, "seconds": round(self.seconds, 2),
            "most_in_a_second": max(self.windows, default=0), "fewest_in_a_second": self.slowest,
            "windows": {str(starts): number for starts, number in sorted(self.windows.items())}, "kept": self.is_kept,
        }  # fmt: skip


def windows_of(starts: Sequence[float], seconds: float = 1.0) -> list[int]:
    """Return how many starts each window had that begins with one of them, and ends just before its end."""
    ordered = sorted(starts)
    return [bisect_left(ordered, first + seconds) - number for number, first in enumerate(ordered)]


async def measure_limits(kind: str, seconds: float) -> Held:
    """Keep both limits busy for so long."""
    with launched_folder() as folder, own_store(kind) as store:
        if not isinstance(store.location, str):
            raise TypeError("Workers of their own need a store that other processes can reach.")
        broker = await asyncio.to_thread(launch_rabbitmq)
        try:
            seen = await _measure(folder, broker.url, store.location, seconds)
        finally:
            await asyncio.to_thread(broker.close)
    windows, ordered = windows_of(seen.starts), sorted(seen.starts)
    inner = [
        number
        for number, first in zip(windows, ordered, strict=True)
        if ordered[0] + FIRST_SECONDS <= first <= ordered[-1] - 1 - FIRST_SECONDS
    ]
    return Held(
        store=kind, most_at_once=seen.most, held=seen.held, starts=len(ordered), windows=Counter(windows),
        slowest=min(inner, default=0), seconds=ordered[-1] - ordered[0],
    )  # fmt: skip


async def _measure(folder: Path, broker: str, store: str, seconds: float) -> Seen:
    seen, namespace, place = Seen(), new_namespace("bench"), f"{folder}/counter"
    holds, sends = round(AT_ONCE / WORK_SECONDS * seconds), round(STARTS_PER_SECOND * seconds)
    server = await asyncio.start_unix_server(seen.answer, place, backlog=1000)
    client_app = Floxide(broker, store=store, namespace=namespace, workflows=[Holding, Sending])
    workers = worker_processes(
        "benchmarks.limits:app", folder, Servers(broker=broker, store=store, namespace=namespace), number=WORKERS,
        concurrency=CONCURRENCY, environment={COUNTER_VARIABLE: place},
    )  # fmt: skip
    async with server, client_app.orchestrator() as client, workers:
        runs = [await client.start(flow, share // RUNS) for _ in range(RUNS) for flow, share in (
            (Holding, holds), (Sending, sends)
        )]  # fmt: skip
        done = await asyncio.gather(*(run.result(timeout=20 * seconds + 120) for run in runs))
    expected = RUNS * (holds // RUNS), RUNS * (sends // RUNS)
    if sum(done) != sum(expected) or seen.held < expected[0] or len(seen.starts) < expected[1]:
        raise RuntimeError(f"{done} came of {expected}, and {seen.held} and {len(seen.starts)} bodies were counted")
    return seen


def limits_table(results: Sequence[Held]) -> str:
    """Return the results as a table."""
    columns = (
        "store", f"key of {AT_ONCE}: most at once", "steps", f"rate {STARTS_PER_SECOND}/s: most in a second",
        "fewest", "starts", "seconds", "starts per second",
    )  # fmt: skip
    rows = [
        (
            each.store, str(each.most_at_once), f"{each.held:,}", str(max(each.windows, default=0)), str(each.slowest),
            f"{each.starts:,}", f"{each.seconds:.1f}", f"{(each.starts - 1) / each.seconds:.1f}",
        )
        for each in results
    ]  # fmt: skip
    return table(columns, rows)


def histogram(found: Held, *, step: int = 5, width: int = 50) -> str:
    """Return, for classes of starts within one second, how many sliding windows had so many."""
    classes: Counter[int] = Counter()
    for starts, number in found.windows.items():
        classes[-(-starts // step) * step] += number
    most = max(classes.values(), default=1)
    lines = [f"{found.store}: windows of 1 s (one begins with each start), by the starts in them"]
    lines += [
        f"{upto - step + 1:>4} to {upto:>3}  {number:>6,}  {'#' * -(-width * number // most)}"
        for upto, number in sorted(classes.items())
    ]
    return "\n".join(lines)
