"""Graphs of many tasks that wait for each other, on RabbitMQ: a generated one, and traces of scientific workflows.

Worker and orchestrator are processes of their own. Checked of each: every task ran once, and none before one that it
waits for. What is measured is the engine: no task takes any time.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.apart import NAMESPACE_VARIABLE, Servers, worker_processes
from benchmarks.own_stores import own_store
from benchmarks.progress import phase
from benchmarks.report import table
from examples.wfformat.generated import generated_tasks, write_trace
from examples.wfformat.trace import Task, check_order, read_trace
from examples.wfformat.workflow import Progress, workflow_of
from floxide_amqp import Floxide
from floxide_amqp.testing.services import launch_rabbitmq, new_namespace

TRACE_VARIABLE = "FLOXIDE_BENCH_TRACE"
CONCURRENCY = 100
FOREVER = 1800.0


def worker_app() -> Floxide:
    """Return what the workers serve; broker and store are told on their command lines."""
    workflow = workflow_of(read_trace(Path(os.environ[TRACE_VARIABLE])))
    return Floxide(workflows=[workflow], namespace=os.environ[NAMESPACE_VARIABLE])


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """What was measured of one trace.

    Attributes:
        edges: How often a task waits for another.
        first, last: The tasks that ended first and last.
    """

    name: str
    store: str
    workers: int
    tasks: int
    edges: int
    ended: int
    seconds: float
    first: str
    last: str

    def plain(self) -> dict[str, object]:
        """Return it as JSON would have it."""
        return {**asdict(self), "tasks_per_second": self.ended / self.seconds}


async def measure_traces(store: str, files: Sequence[Path], generated: int, workers: int) -> list[Traced]:
    """Run a generated graph of so many tasks, and the traces in some files."""
    found: list[Traced] = []
    broker = await asyncio.to_thread(launch_rabbitmq)
    try:
        with tempfile.TemporaryDirectory(prefix="floxide-bench-") as name, own_store(store) as own:
            folder = Path(name)
            made = folder / f"generated of {generated}.json"
            write_trace(made, generated_tasks(generated))
            for path in (made, *files):
                servers = Servers(broker=broker.url, store=str(own.location), namespace=new_namespace("bench"))
                found.append(await _measure(path, folder, servers, store, workers))
    finally:
        await asyncio.to_thread(broker.close)
    return found


async def _measure(path: Path, folder: Path, servers: Servers, store: str, workers: int) -> Traced:
    tasks = read_trace(path)
    environment = {TRACE_VARIABLE: _named(path)}
    with phase(f"tasks of {path.stem}", len(tasks)) as done:
        async with worker_processes(
            "benchmarks.trace_worker:app", folder, servers, number=workers, concurrency=CONCURRENCY,
            environment=environment,
        ):  # fmt: skip
            ended, seconds = await _run(tasks, servers)
        done(len(ended))
    check_order(tasks, ended)
    return Traced(
        name=path.stem, store=store, workers=workers, tasks=len(tasks), edges=sum(len(task.parents) for task in tasks),
        ended=len(ended), seconds=seconds, first=ended[0], last=ended[-1],
    )  # fmt: skip


def _named(path: Path) -> str:
    return str(path.resolve())


async def _run(tasks: list[Task], servers: Servers) -> tuple[list[str], float]:
    workflow = workflow_of(tasks)
    there = Floxide(servers.broker, store=servers.store, namespace=servers.namespace, workflows=[workflow])
    async with there.orchestrator() as orchestrator:
        began = time.perf_counter()
        handle = await orchestrator.start(workflow, "go", context=Progress())
        await handle.result(timeout=FOREVER)
        seconds = time.perf_counter() - began
        state = await orchestrator.context(workflow, handle.run_id)
    return list(state.ended), seconds


def traces_table(found: Sequence[Traced]) -> str:
    """Return what was measured as a table."""
    head = ("trace", "store", "workers", "tasks", "waits", "ended, each once and in order", "seconds", "tasks/s")
    rows = [
        (
            each.name, each.store, str(each.workers), f"{each.tasks:,}", f"{each.edges:,}",
            f"{each.ended:,} ({each.first} … {each.last})", f"{each.seconds:.1f}", f"{each.ended / each.seconds:,.0f}",
        )
        for each in found
    ]  # fmt: skip
    return table(head, rows)
