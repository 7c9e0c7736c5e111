"""A fan-out of very many and its join: time, steps per second, and the peak memory.

Each measurement runs in a process of its own, since a peak of memory is that of a process: worker, client and queue are
in it. The join folds what arrives (`ReduceNode`), or gathers it in a list.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.progress import phase
from benchmarks.report import table
from benchmarks.throughput import check
from floxide_amqp import Floxide, Limits, NextAll, ReduceNode, Workflow, gather, node

CONCURRENCY = 200
FOREVER = 3600.0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FanIn:
    """What was measured of one fan-out.

    Attributes:
        join: Whether the join folds or gathers.
        store: Where it ran.
        peak_mib: Peak of the process's memory; of an idle one of the same program, `idle_mib`.
    """

    join: str
    store: str
    items: int
    seconds: float
    peak_mib: float
    idle_mib: float

    @property
    def steps_per_second(self) -> float:
        """Steps of nodes, the fan-out and the join included."""
        return (self.items + 2) / self.seconds

    def plain(self) -> dict[str, object]:
        """Return it as JSON would have it."""
        return {**asdict(self), "steps_per_second": self.steps_per_second}


async def measure_fan_in(stores: Sequence[str], items: int) -> list[FanIn]:
    """Measure each join in each store, each in a process of its own."""
    found: list[FanIn] = []
    for store in stores:
        for join in KINDS:
            with phase(f"{join} in {store}", items) as done:
                found.append(await _in_own_process(join, store, items))
                done(items)
    return found


async def _in_own_process(join: str, store: str, items: int) -> FanIn:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.fan_in", join, store, str(items), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the measurement of {join} in {store} ended with {process.returncode}")
    return FanIn(**json.loads(output.splitlines()[-1]))


async def run_here(join: str, store: str, items: int) -> FanIn:
    """Run one fan-out in this process: worker and client are one."""
    workflow = KINDS[join]
    with tempfile.TemporaryDirectory() as folder:
        where = "memory://" if store == "memory" else f"sqlite:///{Path(folder) / 'store.db'}"
        app = Floxide(store=where, workflows=[workflow], limits=Limits(concurrency=CONCURRENCY))
        async with app.orchestrator() as orchestrator:
            check(await (await orchestrator.start(workflow, 10)).result(timeout=60), 90)
            idle = _peak_mib()
            began = time.perf_counter()
            result = await (await orchestrator.start(workflow, items)).result(timeout=FOREVER)
            seconds = time.perf_counter() - began
            check(result, items * (items - 1))
    return FanIn(join=join, store=store, items=items, seconds=seconds, peak_mib=_peak_mib(), idle_mib=idle)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fan_in_table(results: Sequence[FanIn]) -> str:
    """Return what was measured as a table."""
    head = ("join", "store", "items", "seconds", "steps/s", "peak MiB", "idle MiB")
    rows = [
        (
            each.join, each.store, f"{each.items:,}", f"{each.seconds:.1f}", f"{each.steps_per_second:,.0f}",
            f"{each.peak_mib:.0f}", f"{each.idle_mib:.0f}",
        )
        for each in results
    ]  # fmt: skip
    return table(head, rows)


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(run_here(sys.argv[1], sys.argv[2], int(sys.argv[3]))))))
