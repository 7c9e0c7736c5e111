"""The chains of a contest, in its rounds: each contestant is measured once in every round, one at a time."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contest.client_process import ClientProcess, ContestantError, client_process
from benchmarks.contest.figures import percentile
from benchmarks.contest.plan import ALONE, Measured, Plan, Servers, Workload, shuffled
from benchmarks.contest.sizing import sized, sized_idle, warm_up_runs
from benchmarks.contest.watching import look
from benchmarks.peers.arena import ROOT, Arena
from floxide_amqp.testing.services import new_namespace

RATE_RUNS = (10, 40, 160, 640)
"""Runs from whose rate follows how many are measured; who is quick with the fewer ones is given the more."""

RATE_SECONDS = 0.3
"""What takes that long tells a rate."""

FIRST_IDLE_RUNS = 3
"""Runs that tell how long one takes."""

ASK_SECONDS = 600.0
"""Longest time that one measurement may take."""

Entry = tuple[str, int]
"""A contestant's name, and how many workers it has."""


class ChainRounds:
    """Measures what is planned, and writes down what comes of it; who fails twice in a row is left out from then on."""

    def __init__(self, plan: Plan, shared: Servers, measured: Measured, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._shared = shared
        self._measured = measured
        self._tell = tell
        self._waiting = plan.entries()
        self._runs: dict[tuple[str, int, str], int] = {}

    def hold(self, number: int) -> None:
        """Measure everybody once; in round 0, find out how many runs each shall have."""
        for name, workers in shuffled(self._waiting, number):
            began = time.monotonic()
            if self._try((name, workers), number) or self._try((name, workers), number):
                took = time.monotonic() - began
                self._tell(f"  round {number} of {self._plan.rounds}: {name}, {workers} in {took:.0f} s")
            else:
                self._waiting.remove((name, workers))

    def _try(self, entry: Entry, number: int) -> bool:
        """Measure a contestant; return whether it finished."""
        name, workers = entry
        try:
            self._measure(entry, number)
        except ContestantError as error:
            failure = {"contestant": name, "workers": workers, "round": number, "error": str(error)}
            self._measured.failures.append(failure)
            self._tell(f"  {name}, {workers}: failed: {error}")
            return False
        return True

    def _measure(self, entry: Entry, number: int) -> None:
        """Measure all workloads of one contestant: those of steps that wait apart, if it has a form for them."""
        left = self._session(entry, number, self._plan.workloads, is_waiting=False)
        if left:
            self._session(entry, number, left, is_waiting=True)

    def _session(self, entry: Entry, number: int, workloads: Sequence[Workload], *, is_waiting: bool) -> list[Workload]:
        """Measure workloads with a client and servers of its own; return those that are for its other form."""
        name, workers = entry
        python = Path(sys.executable) if name.startswith("ours") else ROOT / self._plan.tools / "bin" / "python"
        with (
            self._shared.database() as database,
            tempfile.TemporaryDirectory(prefix="floxide-bench-") as folder,
        ):
            arena = Arena(
                broker=self._shared.broker.url, quorum_broker=self._shared.quorum_broker, postgresql=database,
                redis=self._shared.redis.url, folder=folder, name=new_namespace("bench"),
                workers=0 if name in ALONE else workers, tools=self._plan.tools, is_waiting=is_waiting,
            )  # fmt: skip
            with client_process(name, python, arena) as client:
                self._measured.facts.setdefault(name, client.facts)
                is_both = is_waiting or not client.facts["has_waiting_form"]
                mine = [each for each in workloads if is_both or not each.pause]
                before = look(self._shared.postgresql.url, client.pid)
                steps = sum(self._measure_workload(client, entry, workload, number) for workload in mine)
            if number:  # only now: PostgreSQL's sessions tell what they did at the latest when they end
                happened = look(self._shared.postgresql.url, os.getpid()).since(before)
                counted = {kind: happened[kind] for kind in ("wal_syncs", "disk_flushes")}
                self._measured.syncs.append({"contestant": name, "workers": workers, "steps": steps} | counted)
        self._shared.redis.command("FLUSHALL")
        return [each for each in workloads if each not in mine]

    def _measure_workload(self, client: ClientProcess, entry: Entry, workload: Workload, number: int) -> int:
        """Measure a workload once, or find out how many runs it shall have; return how many steps ran."""
        key = (*entry, workload.name)
        if number == 0:
            self._runs[key] = _runs_of(self._plan, client, workload)
            return 0
        row = self._measured.rows.setdefault(key, _new_row(*entry, workload, self._runs[key]))
        return _take(self._shared, client, workload, self._runs[key], row)


def _runs_of(plan: Plan, client: ClientProcess, workload: Workload) -> int:
    """Return how many runs take about as long as planned, from the rate of a few."""
    if not workload.in_flight:
        took = client.ask(question(workload, FIRST_IDLE_RUNS), ASK_SECONDS)["seconds"]
        return sized_idle(statistics.median(took), plan.idle_runs)
    rate = 0.0
    for runs in RATE_RUNS:
        seconds: float = client.ask(question(workload, runs), ASK_SECONDS)["seconds"]
        rate = runs / seconds
        if seconds > RATE_SECONDS:
            break
    return sized(rate, plan.seconds, workload.in_flight)


def question(workload: Workload, runs: int) -> dict[str, object]:
    """Return what the client is asked, for so many runs."""
    if not workload.in_flight:
        return {"kind": "idle", "steps": workload.steps, "runs": runs}
    return {
        "kind": "chain", "steps": workload.steps, "runs": runs, "in_flight": workload.in_flight,
        "note_bytes": workload.note_bytes, "pause": workload.pause,
    }  # fmt: skip


def _new_row(name: str, workers: int, workload: Workload, runs: int) -> dict[str, Any]:
    figures = ("steps_per_second",) if workload.in_flight else ("p50_ms", "p99_ms")
    facts = {
        "contestant": name, "workers": workers, "workload": workload.name, "steps": workload.steps, "runs": runs,
        "in_flight": min(workload.in_flight or 1, runs), "note_bytes": workload.note_bytes, "pause": workload.pause,
        "repeated_steps": 0,
    }  # fmt: skip
    return facts | {figure: [] for figure in figures} | {"processor_seconds": []}


def _take(shared: Servers, client: ClientProcess, workload: Workload, runs: int, row: dict[str, Any]) -> int:
    """Measure a workload once, and write it into its row; return how many steps ran, those before the clock too."""
    first = warm_up_runs(runs, workload.in_flight)
    bodies: int = client.ask(question(workload, first), ASK_SECONDS)["bodies"]
    row["repeated_steps"] += bodies - first * workload.steps
    before = look(shared.postgresql.url, client.pid)
    answer = client.ask(question(workload, runs), ASK_SECONDS)
    others = look(shared.postgresql.url, client.pid).since(before)["processor_seconds"]
    row["processor_seconds"].append({"client": round(answer["processor_seconds"], 2)} | others)
    row["repeated_steps"] += answer["bodies"] - runs * workload.steps
    if workload.in_flight:
        row["steps_per_second"].append(round(runs * workload.steps / answer["seconds"], 1))
    else:
        row["p50_ms"].append(round(percentile(answer["seconds"], 0.5) * 1e3, 2))
        row["p99_ms"].append(round(percentile(answer["seconds"], 0.99) * 1e3, 2))
    ran: int = answer["bodies"]
    return bodies + ran
