"""The results of a contest as tables for people."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contest.figures import RELAY, Change, machine_ratio
from benchmarks.contest.part_tables import parts_text
from benchmarks.report import table

Data = Mapping[str, Any]


def title_of(data: Data, name: str) -> str:
    """Return the name of a contestant for people; who does not sync each commit is marked."""
    facts = data["contestants"][name]
    marks = f"{'' if facts['is_synced'] else ' *'}{'' if facts['is_apart'] else ' †'}"
    return f"{facts['title']}{marks}"


def workers_text(workers: int) -> str:
    """Return so many workers, in words."""
    return f"{workers} worker{'s' * (workers != 1)}"


MARKS = """\
- \\* not every commit is synced to disk: a power loss takes the last seconds of what was reported.
- † the steps run in the client's own process: nothing is handed to a worker, and there is no second one."""


def rates_table(data: Data, workers: int) -> str:
    """Return the steps per second of all with so many workers: the median of the rounds, and their range."""
    rows = [row for row in data["results"] if row["workers"] == workers and "steps_per_second" in row]
    workloads = list(dict.fromkeys(row["workload"] for row in rows))
    best = sorted({row["contestant"] for row in rows}, key=lambda name: -_best(rows, name))
    cells = {(row["contestant"], row["workload"]): _rate(row) for row in rows}
    return table(
        ("steps per second", *workloads),
        [(title_of(data, name), *(cells.get((name, workload), "") for workload in workloads)) for name in best],
    )


def _best(rows: Sequence[Data], name: str) -> float:
    rates: list[list[float]] = [row["steps_per_second"] for row in rows if row["contestant"] == name]
    return max(map(statistics.median, rates))


def _rate(row: Data) -> str:
    rates = row["steps_per_second"]
    fewer = "" if f"{row['in_flight']:,} in flight" in row["workload"] else f", {row['in_flight']} in flight"
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}{fewer})"


def ahead_table(data: Data) -> str:
    """Return how many times as fast as the best of the others this project is, with the fewest workers."""
    fewest = min((row["workers"] for row in data["results"]), default=1)
    rows = [row for row in data["results"] if row["workers"] == fewest and "steps_per_second" in row]
    medians = {(row["contestant"], row["workload"]): statistics.median(row["steps_per_second"]) for row in rows}
    ours = [name for name in dict.fromkeys(row["contestant"] for row in rows) if name.startswith("ours-")]
    cells: list[Sequence[object]] = []
    for workload in dict.fromkeys(row["workload"] for row in rows):
        others = {name: rate for (name, what), rate in medians.items() if what == workload and name not in ours}
        if others:
            best = max(others, key=lambda name: others[name])
            times = (medians.get((name, workload), 0.0) / others[best] for name in ours)
            shown = (f"{each:.1f} times" if each else "" for each in times)
            cells.append((workload, title_of(data, best), f"{others[best]:,.0f}", *shown))
    header = ("workload", "best of the others", "its steps per second", *(title_of(data, name) for name in ours))
    return table(header, cells) if cells else ""


def more_workers_table(data: Data) -> str:
    """Return how many times as fast each is with the most workers as with the fewest, where it has such."""
    counts = sorted({row["workers"] for row in data["results"]})
    rows = [row for row in data["results"] if "steps_per_second" in row]
    medians = {
        (row["contestant"], row["workload"], row["workers"]): statistics.median(row["steps_per_second"]) for row in rows
    }
    workloads = list(dict.fromkeys(row["workload"] for row in rows))
    cells: list[Sequence[object]] = []
    for name in dict.fromkeys(row["contestant"] for row in rows if row["workers"] == counts[-1]):
        pairs = [(medians.get((name, each, counts[-1])), medians.get((name, each, counts[0]))) for each in workloads]
        cells.append((title_of(data, name), *(f"{more / few:.2f}" if more and few else "" for more, few in pairs)))
    if len(counts) == 1 or not cells:
        return ""
    return table((f"{workers_text(counts[-1])} by {workers_text(counts[0])}", *workloads), cells)


def latency_table(data: Data) -> str:
    """Return the latency of one run with nothing else in flight."""
    rows = [row for row in data["results"] if "p50_ms" in row]
    ordered = sorted(rows, key=lambda row: (row["workers"], statistics.median(row["p50_ms"])))
    header = ("a run of 3 steps, nothing else in flight", "workers", "p50, ms", "p99, ms")
    return table(
        header, [(title_of(data, row["contestant"]), row["workers"], *map(_span, _spans(row))) for row in ordered]
    )


def _spans(row: Data) -> tuple[Sequence[float], Sequence[float]]:
    return row["p50_ms"], row["p99_ms"]


def _span(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def limits_table(data: Data) -> str:
    """Return the raw limits."""
    header = ("raw limit, one process", "per second, median", "range")
    rows = [
        (name, f"{statistics.median(rates):,.0f}", f"{min(rates):,.0f} to {max(rates):,.0f}")
        for name, rates in data["limits"].items()
    ]
    return table(header, rows)


def shares_of_limits_table(data: Data) -> str:
    """Return this project's rates beside the smaller of two raw limits, and how much of it they reach.

    One message carries a run of n steps, so n times the relay is what to compare with; and each step is committed.
    """
    header = ("one worker", "workload", "steps per second", "smaller limit", "which", "reached")
    limits = {name: statistics.median(rates) for name, rates in data["limits"].items()}
    rows: list[Sequence[object]] = []
    for row in data["results"]:
        is_plain = "steps_per_second" in row and not row["note_bytes"] and not row["pause"]
        if row["contestant"].startswith("ours-") and row["workers"] == 1 and is_plain:
            store = data["contestants"][row["contestant"]]["title"].rpartition(", ")[2]
            bounds = {"grouped commit": limits[f"grouped commit, {store}"]}
            if data["contestants"][row["contestant"]]["is_apart"]:
                bounds[f"{row['steps']} times relay"] = row["steps"] * limits[RELAY]
            which = min(bounds, key=lambda name: bounds[name])
            rate = statistics.median(row["steps_per_second"])
            reached = f"{rate / bounds[which]:.0%}"
            rows.append(
                (
                    title_of(data, row["contestant"]),
                    row["workload"],
                    f"{rate:,.0f}",
                    f"{bounds[which]:,.0f}",
                    which,
                    reached,
                )
            )
    return table(header, rows)


def syncs_table(data: Data) -> str:
    """Return the syncs that happened, for each thousand steps."""
    header = (
        "syncs for each 1,000 steps",
        "workers",
        "steps",
        "PostgreSQL's log (pg_stat_wal)",
        "flushes of the disk, whole machine",
    )
    rows: list[Sequence[object]] = []
    for name, workers in dict.fromkeys((each["contestant"], each["workers"]) for each in data["syncs"]):
        mine = [each for each in data["syncs"] if (each["contestant"], each["workers"]) == (name, workers)]
        steps = sum(each["steps"] for each in mine)
        shares = (f"{1000 * sum(each[kind] for each in mine) / steps:,.0f}" for kind in ("wal_syncs", "disk_flushes"))
        rows.append((title_of(data, name), workers, f"{steps:,}", *shares))
    return table(header, rows)


def processor_table(data: Data, workload: str) -> str:
    """Return who had the processors in one workload: µs of processor time for each step, by part, and the share of
    all processors that they had together.
    """
    rows = [row for row in data["results"] if row["workload"] == workload]
    parts = list(dict.fromkeys(part for row in rows for round_ in row["processor_seconds"] for part in round_))
    cells: list[Sequence[object]] = []
    for row in rows:
        steps = row["runs"] * row["steps"]
        taken = [[round_.get(part, 0.0) / steps * 1e6 for round_ in row["processor_seconds"]] for part in parts]
        shown = (f"{statistics.median(each):,.0f}" for each in taken)
        cells.append((title_of(data, row["contestant"]), row["workers"], *shown, _busy(data, row)))
    return table((f"µs a step: {workload}", "workers", *parts, "processors busy"), cells)


def _busy(data: Data, row: Data) -> str:
    """Return the share of the machine's processors that was had while a row was measured."""
    rounds = zip(row["processor_seconds"], row["steps_per_second"], strict=True)
    seconds = [(sum(taken.values()), row["runs"] * row["steps"] / rate) for taken, rate in rounds]
    return f"{statistics.median(had / (took * data['machine']['cores']) for had, took in seconds):.0%}"


def busy_workloads(data: Data) -> list[str]:
    """Return the workloads of which it is told who had the processors: the first and the last one that is plain."""
    plain = [
        row["workload"]
        for row in data["results"]
        if "steps_per_second" in row and not row["note_bytes"] and not row["pause"]
    ]
    return list(dict.fromkeys([*plain[:1], *plain[-1:]]))


def contest_text(data: Data) -> str:
    """Return all tables of a contest."""
    counts = sorted({row["workers"] for row in data["results"]})
    parts = [f"{workers_text(workers)}\n\n{rates_table(data, workers)}" for workers in counts]
    parts += [ahead_table(data), more_workers_table(data), MARKS]
    if data["results"]:
        parts += [latency_table(data), limits_table(data), shares_of_limits_table(data), syncs_table(data)]
    parts += [processor_table(data, workload) for workload in busy_workloads(data)]
    parts += [parts_text(data), failures_text(data) if data["failures"] else ""]
    return "\n\n".join(part for part in parts if part)


def failures_text(data: Data) -> str:
    """Return who did not finish."""
    lines = [
        f"- {each['contestant']}, {each.get('case') or workers_text(each['workers'])}, round {each['round']}: "
        + each["error"].splitlines()[0]
        for each in data["failures"]
    ]
    return "\n".join(["Did not finish, and was tried again once:", *lines])


def changes_text(changes: Sequence[Change], *, everything: bool = False) -> str:
    """Return what changed beyond noise, the worst first, and by how much the machine itself did."""
    shown = [each for each in changes if everything or each.verdict != "noise"]
    shown.sort(key=lambda each: (("worse", "better", "noise").index(each.verdict), each.name))
    header = ("figure", "unit", "old (range)", "new (range)", "ratio", "verdict")
    rows = [
        (
            each.name, each.unit, f"{each.old.median:,.1f} ({each.old.least:,.1f} to {each.old.most:,.1f})",
            f"{each.new.median:,.1f} ({each.new.least:,.1f} to {each.new.most:,.1f})", f"{each.ratio:.2f}",
            each.verdict,
        )
        for each in shown
    ]  # fmt: skip
    machine = machine_ratio(changes)
    lines = [table(header, rows)] if rows else []
    if machine is not None:
        lines.append(f"The raw limits are {machine:.2f} times what they were: read the ratios against that.")
    noise = sum(each.verdict == "noise" for each in changes)
    lines.append(f"{len(changes)} figures compared, {noise} of them within their noise.")
    return "\n\n".join(lines)
