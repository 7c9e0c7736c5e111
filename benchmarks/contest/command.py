"""The commands ``peers``, ``compare`` and ``page`` of ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.contest.figures import compare, readings
from benchmarks.contest.page import write_page
from benchmarks.contest.parts import PART_NAMES
from benchmarks.contest.plan import CHAINS, OURS, PEERS, WORKLOADS, Measured, Plan, servers
from benchmarks.contest.plots import draw
from benchmarks.contest.rounds import hold
from benchmarks.contest.tables import changes_text, contest_text
from benchmarks.machine import describe_machine
from benchmarks.peers.arena import ROOT
from benchmarks.report import RESULTS, fact_lines
from floxide_amqp.apps.log_setup import LogLevel, set_up_logging
from floxide_amqp.exceptions import ConfigurationError

COMMANDS = ("peers", "compare", "page")

LATEST = RESULTS / "peers.json"
"""What docs/benchmarks.md is made of: everybody and everything, with one worker and with two."""

PART = RESULTS / "peers-part.json"
"""What comes of less than that; not kept in the repository."""


def add_commands(which: Any) -> None:
    """Add the commands to the command line."""
    one = which.add_parser("peers", help="chains here, and with what else one could have chosen; and ours besides")
    names = (CHAINS, *PART_NAMES)
    one.add_argument("--part", action="append", choices=names, help="what to measure; may be repeated (default: all)")
    one.add_argument("--without", action="append", choices=names, default=[], help="leave this out; may be repeated")
    one.add_argument(
        "--large-rounds", type=int, default=0,
        help="in how many rounds 100,000 items, starts and waiting runs are measured too, which takes minutes each "
        "(default: 0)",
    )  # fmt: skip
    one.add_argument("--only", action="append", choices=(*OURS, *PEERS), help="may be repeated (default: all)")
    one.add_argument("--workers", type=int, action="append", help="processes; may be repeated (default: 1 and 2)")
    one.add_argument("--rounds", type=int, default=5, help="how often each is measured, interleaved (default: 5)")
    one.add_argument("--seconds", type=float, default=3.0, help="of one measurement, about (default: 3)")
    one.add_argument("--idle-runs", type=int, default=200, help="runs of which latency is measured (default: 200)")
    one.add_argument("--limit-messages", type=int, default=5_000, help="that the raw relay takes (default: 5,000)")
    one.add_argument("--tools", default=".venv-peers", help="environment of the others (default: .venv-peers)")
    one.add_argument("--output", type=Path, help="the JSON; a table and plots go beside it")
    one.add_argument("--smoke", action="store_true", help="everything once, ours alone and small; nothing is written")
    one = which.add_parser("compare", help="two files of results: what changed beyond noise")
    one.add_argument("old", type=Path)
    one.add_argument("new", type=Path)
    one.add_argument("--everything", action="store_true", help="show what is within its noise too")
    one = which.add_parser("page", help="make docs/benchmarks.md, and tables and plots, of a file of results")
    one.add_argument("results", type=Path, nargs="?", default=LATEST)
    one.add_argument("--parts", type=Path, help="take what is besides chains from a contest that was of that alone")


def run_command(options: argparse.Namespace) -> int:
    """Do what the command line says; return the exit code."""
    if options.which == "peers":
        return hold_contest(options)
    if options.which == "compare":
        return compare_files(options)
    source: Path = options.results
    data = json.loads(source.read_text(encoding="utf-8"))
    if options.parts:
        data = with_parts(data, json.loads(options.parts.read_text(encoding="utf-8")))
    write_results(source, data)
    print(f"written to {write_page(data, source)}")
    return 0


def with_parts(data: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the results of one contest with what another one measured besides chains, and how often it did."""
    how = {name: other["plan"][name] for name in ("rounds", "large_rounds")}
    return data | {"parts": other["parts"], "parts_plan": how, "failures": data["failures"] + other["failures"]}


def plan_of(options: argparse.Namespace) -> Plan:
    """Return how much is asked for."""
    ours = [name for name in options.only or () if name in OURS]
    if options.smoke:
        small = [each for each in WORKLOADS if each.in_flight in {0, 100} and each.steps == 3 and not each.note_bytes]
        return Plan(
            contestants=options.only or ["ours-sqlite"], workers=[1], rounds=1, seconds=0.2, idle_runs=5,
            limit_messages=100, workloads=small, tools=options.tools, parts=parts_of(options),
            part_contestants=ours or ["ours-sqlite", "ours-redis"], is_smoke=True,
        )  # fmt: skip
    return Plan(
        contestants=options.only or (*OURS, *PEERS), workers=options.workers or [1, 2], rounds=options.rounds,
        seconds=options.seconds, idle_runs=options.idle_runs, limit_messages=options.limit_messages,
        tools=options.tools, parts=parts_of(options), part_contestants=ours if options.only else OURS,
        large_rounds=options.large_rounds,
    )  # fmt: skip


def parts_of(options: argparse.Namespace) -> list[str]:
    """Return the names of what is to be measured."""
    return [name for name in options.part or (CHAINS, *PART_NAMES) if name not in options.without]


def hold_contest(options: argparse.Namespace) -> int:
    """Hold a contest, and write and print what came of it; return 1 if somebody did not finish."""
    set_up_logging(LogLevel.ERROR)
    plan = plan_of(options)
    missing = [name for name, _ in plan.entries() if name in PEERS]
    if missing and not (ROOT / plan.tools / "bin" / "python").exists():
        print(f"There is no environment {plan.tools} for the others. Make it: make {plan.tools}/.made", file=sys.stderr)
        return 2
    machine = describe_machine()
    print(fact_lines(machine), flush=True)
    is_part = options.only or options.workers or options.part or options.without
    output: Path = options.output or (PART if is_part else LATEST)

    def keep(so_far: Measured) -> None:
        if not options.smoke:
            write_json(output, as_data(plan, machine, so_far))

    with servers() as shared:
        measured = hold(plan, shared, lambda line: print(line, file=sys.stderr, flush=True), keep)
    data = as_data(plan, machine, measured)
    print(f"\n{contest_text(data)}")
    if not options.smoke:
        write_results(output, data)
        if output == LATEST:
            print(f"written to {write_page(data, output)}", file=sys.stderr)
    return 1 if measured.failures else 0


def as_data(plan: Plan, machine: dict[str, object], measured: Measured) -> dict[str, Any]:
    """Return everything that came of a contest as plain data; a workload that nobody finished once has no row.

    Everything is in the order of the plan, whatever that of the rounds was.
    """
    names, workloads = list(plan.contestants), [each.name for each in plan.workloads]
    rows = [row for row in measured.rows.values() if row["processor_seconds"]]
    rows.sort(key=lambda row: (row["workers"], names.index(row["contestant"]), workloads.index(row["workload"])))
    syncs = sorted(measured.syncs, key=lambda each: (each["workers"], names.index(each["contestant"])))
    return {
        "machine": machine, "servers": measured.servers, "plan": asdict(plan) | {"rounds": measured.rounds},
        "contestants": {name: measured.facts[name] for name in names if name in measured.facts},
        "limits": measured.limits, "results": rows, "syncs": syncs,
        "parts": list(measured.parts.values()), "failures": measured.failures,
    }  # fmt: skip


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write the results themselves; a contest that is interrupted leaves those of its complete rounds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_results(path: Path, data: dict[str, Any]) -> None:
    """Write the JSON, tables and plots beside each other."""
    write_json(path, data)
    table, text = path.with_suffix(".md"), contest_text(data)
    table.write_text(f"# Peers\n\n{fact_lines(data['machine'] | data['servers'])}\n\n{text}\n", encoding="utf-8")
    print(f"\nwritten to {path} and {table}", file=sys.stderr)
    try:
        files = draw(data, path.parent, path.stem)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
    else:
        print(f"written to {', '.join(map(str, files))}", file=sys.stderr)


def compare_files(options: argparse.Namespace) -> int:
    """Print what changed between two files of results; return 1 if something is worse beyond noise."""
    try:
        changes = compare(readings(options.old), readings(options.new))
    except (OSError, ValueError, KeyError) as error:
        print(f"These cannot be compared: {error}", file=sys.stderr)
        return 2
    if not changes:
        print("The two files have no figure in common.", file=sys.stderr)
        return 2
    print(changes_text(changes, everything=options.everything))
    return 1 if any(each.verdict == "worse" for each in changes) else 0
