"""How much memory a worker process needs while very many runs wait for a signal: each is held, and none is in flight.

The worker is a process of its own. Some of the runs are signalled afterwards, and their outputs checked.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.apart import Servers, peak_mib, resident_mib, worker_processes
from benchmarks.throughput import check
from benchmarks.waking import CONCURRENCY, FOREVER, GO, Waiting, application_apart, start_all, until_held

FIRST_RUNS = 100
"""Runs that are brought to their end before, so that the worker has loaded what it needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What was measured.

    Attributes:
        waiting_mib: The worker's memory with all runs waiting; before, `idle_mib`.
        peak_mib: Peak of its memory, while it brought them there.
    """

    runs: int
    idle_mib: float
    waiting_mib: float
    peak_mib: float

    @property
    def kib_per_run(self) -> float:
        """What a run that waits takes, in KiB."""
        return (self.waiting_mib - self.idle_mib) * 1024 / self.runs


async def measure_waiting(servers: Servers, runs: int) -> Held:
    """Let so many runs wait."""
    with tempfile.TemporaryDirectory(prefix="floxide-bench-") as name:
        async with (
            application_apart(servers).orchestrator() as client,
            worker_processes(
                "benchmarks.waking:app", Path(name), servers, number=1, concurrency=CONCURRENCY
            ) as (worker,),
        ):  # fmt: skip
            first = await start_all(client, Waiting, list(range(FIRST_RUNS)), "runs before")
            await client.signal_many(GO, {handle.run_id: 1 for handle in first})
            check([await handle.result(timeout=FOREVER) for handle in first], [1] * FIRST_RUNS)
            idle = resident_mib(worker)
            handles = await start_all(client, Waiting, list(range(runs)), "runs that wait")
            await until_held(client, "Waiting", runs)
            waiting, peak = resident_mib(worker), peak_mib(worker)
            some = handles[:: max(1, runs // FIRST_RUNS)]
            await client.signal_many(GO, {handle.run_id: n for n, handle in enumerate(some)})
            check([await handle.result(timeout=FOREVER) for handle in some], list(range(len(some))))
    return Held(runs=runs, idle_mib=idle, waiting_mib=waiting, peak_mib=peak)
