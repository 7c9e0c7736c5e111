"""The rounds of a contest: each contestant is measured once in every round, on the same servers, one at a time."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.contest.client_process import ClientProcess, ContestantError, client_process
from benchmarks.contest.figures import percentile
from benchmarks.contest.part_rounds import PartRounds
from benchmarks.contest.plan import ALONE, CHAINS, Measured, Plan, Servers, Workload
from benchmarks.contest.raw_limits import measure_limits
from benchmarks.contest.watching import describe_servers, look
from benchmarks.peers.arena import ROOT, Arena
from floxide_amqp.testing.postgresql_servers import new_database
from floxide_amqp.testing.services import new_namespace

RATE_RUNS = (10, 40, 160)
"""Runs from whose rate follows how many are measured; who is quick with the fewer ones is given the more."""

RATE_SECONDS = 0.3
"""What takes that long tells a rate."""

IDLE_SECONDS = 30.0
"""Who takes longer for all runs whose latency is measured gets fewer of them."""

LEAST_IDLE_RUNS = 20

FIRST_IDLE_RUNS = 3
"""Runs that tell how long one takes."""

ASK_SECONDS = 600.0
"""Longest time that one measurement may take."""


def hold(plan: Plan, shared: Servers, tell: Callable[[str], None], keep: Callable[[Measured], None]) -> Measured:
    """Hold all rounds; who fails is left out from then on, and told of. What there is is kept after each round."""
    url = shared.postgresql.url
    measured = Measured(servers=describe_servers(shared.broker.ctl("version").strip(), url, shared.redis.url))
    runs: dict[tuple[str, int, str], int] = {}
    waiting, parts = plan.entries(), PartRounds(plan, shared, measured, tell)
    for number in range(plan.rounds + 1):
        if number and CHAINS in plan.parts:
            rates = measure_limits(shared.broker.url, new_database(url), shared.redis.url, plan.limit_messages)
            for name, rate in rates.items():
                measured.limits.setdefault(name, []).append(round(rate, 1))
        # Every second round goes the other way, so that nobody is always measured behind the same one.
        for name, workers in list(waiting)[:: -1 if number % 2 else 1]:
            began = time.monotonic()
            try:
                _measure(plan, shared, name, workers, number, runs, measured)
            except ContestantError as error:
                waiting.remove((name, workers))
                measured.failures.append({"contestant": name, "workers": workers, "round": number, "error": str(error)})
                tell(f"  {name}, {workers}: failed: {error}")
            else:
                tell(f"  round {number} of {plan.rounds}: {name}, {workers} in {time.monotonic() - began:.0f} s")
        if number:
            parts.hold(number)
            measured.rounds = number
            keep(measured)
    return measured


def _measure(
    plan: Plan,
    shared: Servers,
    name: str,
    workers: int,
    number: int,
    runs: dict[tuple[str, int, str], int],
    measured: Measured,
) -> None:
    """Measure all workloads of one contestant; in round 0, find out how many runs each shall have."""
    python = Path(sys.executable) if name.startswith("ours") else ROOT / plan.tools / "bin" / "python"
    with tempfile.TemporaryDirectory(prefix="floxide-bench-") as folder:
        arena = Arena(
            broker=shared.broker.url, postgresql=new_database(shared.postgresql.url), redis=shared.redis.url,
            folder=folder, name=new_namespace("bench"), workers=0 if name in ALONE else workers, tools=plan.tools,
        )  # fmt: skip
        steps = 0
        with client_process(name, python, arena) as client:
            measured.facts[name] = client.facts
            before = look(shared.postgresql.url, client.pid)
            for workload in plan.workloads:
                key = (name, workers, workload.name)
                if number == 0:
                    runs[key] = _runs_of(plan, client, workload)
                else:
                    row = measured.rows.setdefault(key, _new_row(name, workers, workload, runs[key]))
                    steps += _take(shared, client, workload, runs[key], row)
        if number:  # only now: PostgreSQL's sessions tell what they did at the latest when they end
            happened = look(shared.postgresql.url, os.getpid()).since(before)
            counted = {kind: happened[kind] for kind in ("wal_syncs", "disk_flushes")}
            measured.syncs.append({"contestant": name, "workers": workers, "steps": steps} | counted)
    shared.redis.command("FLUSHALL")


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


def sized_idle(seconds: float, runs: int) -> int:
    """Return of how many runs to measure latency, of at most so many, where one takes so long."""
    return min(runs, max(LEAST_IDLE_RUNS, round(IDLE_SECONDS / seconds)))


def sized(rate: float, seconds: float, in_flight: int) -> int:
    """Return how many runs to measure: what takes so long at this rate, and all that shall be in flight.

    Who would take more than four times as long to finish those gets fewer, but never fewer than 10.
    """
    wanted = max(round(rate * seconds), 2 * in_flight)
    return max(10, min(wanted, round(rate * seconds * 4)))


def _new_row(name: str, workers: int, workload: Workload, runs: int) -> dict[str, Any]:
    figures = ("steps_per_second",) if workload.in_flight else ("p50_ms", "p99_ms")
    facts = {
        "contestant": name, "workers": workers, "workload": workload.name, "steps": workload.steps, "runs": runs,
        "in_flight": min(workload.in_flight or 1, runs), "note_bytes": workload.note_bytes, "pause": workload.pause,
        "repeated_steps": 0,
    }  # fmt: skip
    return facts | {figure: [] for figure in figures} | {"processor_seconds": []}


def _take(shared: Servers, client: ClientProcess, workload: Workload, runs: int, row: dict[str, Any]) -> int:
    """Measure a workload once, and write it into its row; return how many steps ran."""
    before = look(shared.postgresql.url, client.pid)
    answer = client.ask(question(workload, runs), ASK_SECONDS)
    row["processor_seconds"].append(look(shared.postgresql.url, client.pid).since(before)["processor_seconds"])
    row["repeated_steps"] += answer["bodies"] - runs * workload.steps
    if workload.in_flight:
        row["steps_per_second"].append(round(runs * workload.steps / answer["seconds"], 1))
    else:
        row["p50_ms"].append(round(percentile(answer["seconds"], 0.5) * 1e3, 2))
        row["p99_ms"].append(round(percentile(answer["seconds"], 0.99) * 1e3, 2))
    bodies: int = answer["bodies"]
    return bodies
