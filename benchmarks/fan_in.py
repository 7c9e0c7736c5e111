"""A fan-out of very many and its join: time, steps per second, and the peak of each process's memory.

On PostgreSQL and Redis, workers and orchestrator are processes of their own, on a RabbitMQ of their own. In memory and
in SQLite everything is in one process, as an embedded application has it. The join folds what arrives (`ReduceNode`),
or gathers it in a list.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.apart import (
    NAMESPACE_VARIABLE,
    Servers,
    in_own_process,
    peak_mib,
    processor_seconds,
    worker_processes,
)
from benchmarks.loops import run
from benchmarks.own_stores import own_store
from benchmarks.progress import phase
from benchmarks.report import table
from benchmarks.throughput import check
from floxide_amqp import Floxide, Limits, NextAll, ReduceNode, Workflow, gather, node
from floxide_amqp.testing.services import launch_rabbitmq, new_namespace

CONCURRENCY = 200
FOREVER = 7200.0

EMBEDDED = ("memory", "sqlite")
"""Stores where worker and orchestrator are one process."""

STORES = (*EMBEDDED, "postgresql", "redis")


@node
async def split(count: int) -> NextAll[int]:
    return NextAll(list(range(count)))


@node
async def double(number: int) -> int:
    return number * 2


@node
async def total_of(numbers: list[int]) -> int:
    return sum(numbers)


def add(total: int, number: int) -> int:
    """Fold one more number."""
    return total + number


class Folded(Workflow[int, int]):
    start = split
    edges = (split >> double >> gather(ReduceNode(add, 0)),)


class Gathered(Workflow[int, int]):
    start = split
    edges = (split >> double >> gather(total_of),)


KINDS: dict[str, type[Workflow[int, int]]] = {"folded": Folded, "gathered": Gathered}


app = Floxide(workflows=list(KINDS.values()), namespace=os.environ.get(NAMESPACE_VARIABLE, "bench"))
"""What the workers serve; broker and store are told on their command lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One run, as the process that started it and waited for it saw it.

    Attributes:
        seconds: Of one run; the mean, where there were several.
        processor_seconds: Of its own.
        peak_mib: Peak of its memory; before the run, `idle_mib`.
    """

    seconds: float
    processor_seconds: float
    peak_mib: float
    idle_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FanIn:
    """What was measured of one fan-out.

    Attributes:
        join: Whether the join folds or gathers.
        store: Where it ran.
        orchestrator: What its process took; where there are no workers, that of everything.
        worker_mib: Peak of each worker's memory; before the run, `worker_idle_mib`.
        worker_seconds: Processor time of each worker during the run.
    """

    join: str
    store: str
    items: int
    orchestrator: Ran
    worker_mib: tuple[float, ...] = ()
    worker_idle_mib: tuple[float, ...] = ()
    worker_seconds: tuple[float, ...] = ()

    @property
    def steps_per_second(self) -> float:
        """Steps of nodes, the fan-out and the join included."""
        return (self.items + 2) / self.orchestrator.seconds

    def plain(self) -> dict[str, object]:
        """Return it as JSON would have it."""
        return {**asdict(self), "steps_per_second": self.steps_per_second}


async def measure_fan_in(stores: Sequence[str], joins: Sequence[str], items: int, workers: int) -> list[FanIn]:
    """Measure each join in each store."""
    found: list[FanIn] = []
    for store in stores:
        for join in joins:
            with phase(f"{join} in {store}", items) as done:
                measured = embedded(join, store, items) if store in EMBEDDED else _apart(join, store, items, workers)
                found.append(await measured)
                done(items)
    return found


async def embedded(join: str, store: str, items: int, runs: int = 1) -> FanIn:
    """Measure so many runs, one after the other, in one process of its own, with a store of its own."""
    ran = Ran(**await in_own_process("benchmarks.fan_in", join, store, str(items), str(runs)))
    return FanIn(join=join, store=store, items=items, orchestrator=ran)


async def _apart(join: str, store: str, items: int, workers: int) -> FanIn:
    """Measure on servers of its own."""
    broker = await asyncio.to_thread(launch_rabbitmq)
    try:
        with own_store(store) as own:
            servers = Servers(broker=broker.url, store=str(own.location), namespace=new_namespace("bench"))
            return await apart(join, store, items, servers, workers)
    finally:
        await asyncio.to_thread(broker.close)


async def apart(join: str, store: str, items: int, servers: Servers, workers: int = 1, runs: int = 1) -> FanIn:
    """Measure so many runs, one after the other, with worker processes and an orchestrator's."""
    with tempfile.TemporaryDirectory(prefix="floxide-bench-") as name:
        async with worker_processes(
            "benchmarks.fan_in:app", Path(name), servers, number=workers, concurrency=CONCURRENCY
        ) as pids:
            idle, before = tuple(map(peak_mib, pids)), tuple(map(processor_seconds, pids))
            where = (servers.broker, servers.store, servers.namespace)
            ran = Ran(**await in_own_process("benchmarks.fan_in", join, store, str(items), str(runs), *where))
            peaks, after = tuple(map(peak_mib, pids)), tuple(map(processor_seconds, pids))
    return FanIn(
        join=join, store=store, items=items, orchestrator=ran, worker_mib=peaks, worker_idle_mib=idle,
        worker_seconds=tuple(end - begin for begin, end in zip(before, after, strict=True)),
    )  # fmt: skip


async def run_embedded(join: str, store: str, items: int, runs: int) -> Ran:
    """Run fan-outs in this process: worker and orchestrator are one."""
    with tempfile.TemporaryDirectory() as folder:
        where = "memory://" if store == "memory" else f"sqlite:///{Path(folder) / 'store.db'}"
        return await _run(
            Floxide(store=where, workflows=[KINDS[join]], limits=Limits(concurrency=CONCURRENCY)), join, items, runs
        )


async def run_apart(join: str, items: int, servers: Servers, runs: int) -> Ran:
    """Have workers elsewhere run fan-outs, and wait for each result here."""
    there = Floxide(servers.broker, store=servers.store, namespace=servers.namespace, workflows=[KINDS[join]])
    return await _run(there, join, items, runs)


async def _run(application: Floxide, join: str, items: int, runs: int) -> Ran:
    workflow = KINDS[join]
    async with application.orchestrator() as orchestrator:
        check(await (await orchestrator.start(workflow, 10)).result(timeout=60), 90)
        idle = peak_mib()
        began, before = time.perf_counter(), time.process_time()
        for _ in range(runs):
            check(await (await orchestrator.start(workflow, items)).result(timeout=FOREVER), items * (items - 1))
        seconds, processor = (time.perf_counter() - began) / runs, (time.process_time() - before) / runs
    return Ran(seconds=seconds, processor_seconds=processor, peak_mib=peak_mib(), idle_mib=idle)


def fan_in_table(results: Sequence[FanIn]) -> str:
    """Return what was measured as a table."""
    head = ("join", "store", "items", "seconds", "steps/s", "process", "processor, s", "peak MiB", "idle MiB")
    rows: list[tuple[str, ...]] = []
    for each in results:
        own, speed = each.orchestrator, f"{each.steps_per_second:,.0f}"
        what = (each.join, each.store, f"{each.items:,}", f"{own.seconds:.1f}", speed)
        name = "orchestrator" if each.worker_mib else "both in one"
        rows.append((*what, name, f"{own.processor_seconds:.1f}", f"{own.peak_mib:.0f}", f"{own.idle_mib:.0f}"))
        workers = zip(each.worker_seconds, each.worker_mib, each.worker_idle_mib, strict=True)
        rows += (
            (*what, f"worker {number}", f"{seconds:.1f}", f"{peak:.0f}", f"{idle:.0f}")
            for number, (seconds, peak, idle) in enumerate(workers, 1)
        )
    return table(head, rows)


def _main(join: str, store: str, items: str, runs: str, *where: str) -> None:
    if where:
        broker, address, namespace = where
        servers = Servers(broker=broker, store=address, namespace=namespace)
        ran = run(run_apart(join, int(items), servers, int(runs)))
    else:
        ran = run(run_embedded(join, store, int(items), int(runs)))
    print(json.dumps(asdict(ran)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
