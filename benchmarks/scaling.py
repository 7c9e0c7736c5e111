"""``python -m benchmarks scaling``: how far one worker goes, what ends the rate then, and what a million steps take.

It predicts from what was measured (`benchmarks.scaling_inputs`), holds the predictions against the rates that were,
and writes the tables of docs/scaling.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.report import table
from benchmarks.scaling_inputs import (
    KEPT,
    PARTS,
    Inputs,
    Kept,
    Rate,
    keep,
    load,
    processor_times,
    rates_of,
)
from benchmarks.scaling_model import Layout, Outcome, limits, shard_names, shares, simulate
from benchmarks.scaling_plan import Goal, Need, plan
from floxide_amqp.core.ids import SLOT_COUNT

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"

TARGET = 1_000_000
"""Steps per second of the arithmetic."""

STEPS = (3, 10, 100)
"""Steps of a run, in the arithmetic."""

SIMULATED_RUNS = 3_000

LADDER = (
    Layout(steps=10, in_flight=200),
    Layout(steps=10, in_flight=400, workers=2),
    Layout(steps=10, in_flight=800, workers=4),
    Layout(steps=10, in_flight=800, workers=4, clients=2),
    Layout(steps=10, in_flight=1_600, workers=8, clients=2),
    Layout(steps=10, in_flight=1_600, workers=8, clients=2, shard_cores=8),
    Layout(steps=10, in_flight=3_200, workers=16, clients=4, shard_cores=8),
    Layout(steps=10, in_flight=3_200, workers=16, clients=4, shard_cores=8, queues=2),
    Layout(steps=10, in_flight=4_800, workers=24, clients=6, shard_cores=8, queues=2),
    Layout(steps=10, in_flight=4_800, workers=24, clients=6, shard_cores=8, queues=3, shards=2),
)
"""From one of each on; more of what the one before ended at, by the inputs at the time of writing."""

_BLOCK = re.compile(r"(<!-- (?P<name>[a-z ]+): python -m benchmarks scaling -->\n).*?(<!-- end -->)", re.DOTALL)


def add_command(which: Any) -> None:
    """Add the command to the command line."""
    one = which.add_parser("scaling", help="what ends the rate with more workers, shards and queues: a model")
    one.add_argument("--inputs", type=Path, default=KEPT, help="the file with all inputs")
    one.add_argument("--take", type=Path, help="take processor times and rates from results of peers, and keep them")
    one.add_argument("--measure", action="store_true", help="measure groups, bytes and memory, and keep them")
    one.add_argument("--note", default="", help="on what it was measured, to keep with the inputs")
    one.add_argument("--page", action="store_true", help="write the tables into docs/scaling.md")
    one.add_argument("--steps", type=int, help="predict one layout: steps of a run, and")
    for name in ("in-flight", "clients", "workers", "shards", "shard-cores", "queues", "concurrency", "machine-cores"):
        one.add_argument(f"--{name}", type=int, help="of that layout")
    one.add_argument("--target", type=float, default=TARGET, help="steps per second of the arithmetic")


def run_scaling(options: argparse.Namespace) -> int:
    """Do what the command line says; return the exit code."""
    try:
        if options.measure or options.take:
            _renew(options)
        kept = load(options.inputs)
    except (OSError, ValueError) as error:
        print(f"The inputs cannot be had: {error}", file=sys.stderr)
        return 2
    if options.steps:
        print(prediction(kept.inputs, layout_of(options)))
        return 0
    for name, make in TABLES.items():
        print(f"{name}\n\n{make(kept) if name != 'arithmetic' else arithmetic_table(kept, options.target)}\n")
    if options.page:
        write_page(kept, PAGE)
        print(f"written to {PAGE}")
    return 0


def _renew(options: argparse.Namespace) -> None:
    if options.measure:
        from benchmarks.scaling_measure import measure  # noqa: PLC0415 - a prediction needs no drivers

        keep(asyncio.run(measure()), options.note, path=options.inputs)
    if options.take:
        contest = json.loads(options.take.read_text(encoding="utf-8"))
        found = processor_times(contest, load(options.inputs).inputs)
        keep(found, options.note, rates_of(contest), path=options.inputs)


def layout_of(options: argparse.Namespace) -> Layout:
    """Return the layout that the command line describes; what it does not say is as in `Layout`."""
    given = {each.name: getattr(options, each.name) for each in fields(Layout)}
    asked = {name: value for name, value in given.items() if value is not None}
    return Layout(**{"in_flight": 200 * asked.get("workers", 1)} | asked)


def prediction(inputs: Inputs, layout: Layout) -> str:
    """Return what a layout is predicted to do, for people."""
    found = simulate(inputs, layout, runs=SIMULATED_RUNS)
    first = (
        f"{found.steps_per_second:,.0f} steps/s, a run takes {found.latency_seconds * 1e3:,.0f} ms, "
        f"{found.group:.1f} commits in a group; {ends_at(found)}"
    )
    lines = [
        f"{name}: at work {found.busy[name]:.0%} of the time, alone it would do {rate:,.0f} steps/s"
        for name, rate in limits(inputs, layout).items()
    ]
    return "\n".join((first, *lines))


def ends_at(found: Outcome) -> str:
    """Return what ends a rate, in words."""
    return "more in flight would give more" if found.saturated == "nothing" else f"ends at: {found.saturated}"


def inputs_table(kept: Kept) -> str:
    """Return all inputs, with the commands that measure them."""
    values: dict[str, float] = {}
    for each in fields(Inputs):
        value = getattr(kept.inputs, each.name)
        if isinstance(value, float | int):
            values[each.name] = value
        else:
            unit = "us" if each.name in PARTS else "bytes"
            values |= {f"{each.name}_{unit}_per_run": value.per_run, f"{each.name}_{unit}_per_step": value.per_step}
    return table(
        ("input", "value", "measured by"),
        [(name.replace("_", " "), f"{value:,g}", kept.sources[name]) for name, value in values.items()],
    )


def check_table(kept: Kept) -> str:
    """Return the predictions beside the rates that were measured on a machine that had room for them."""
    rows: list[tuple[object, ...]] = []
    for rate in (each for each in kept.rates if each.is_alone):
        found = predicted(kept.inputs, rate)
        rows.append((
            rate.workers, rate.steps, f"{rate.in_flight:,}", f"{found.steps_per_second:,.0f}",
            f"{rate.median:,.0f} ({min(rate.rates):,.0f} to {max(rate.rates):,.0f})",
            f"{found.steps_per_second / rate.median:.2f}", found.saturated,
        ))  # fmt: skip
    header = ("workers", "steps", "in flight", "predicted steps/s", "measured (range)", "ratio", "ends at")
    return table(header, rows)


def workers_table(kept: Kept) -> str:
    """Return how many times as fast more workers are than one, as predicted and as measured on the same machine."""
    alone = {(rate.steps, rate.in_flight, rate.load): rate for rate in kept.rates if rate.workers == 1}
    rows: list[tuple[object, ...]] = []
    for rate in kept.rates:
        one = alone.get((rate.steps, rate.in_flight, rate.load))
        if one is not None and rate is not one:
            few, many = (predicted(kept.inputs, each).steps_per_second for each in (one, rate))
            rows.append((
                rate.workers, rate.steps, f"{rate.in_flight:,}", f"{rate.load:.1f}", f"{many / few:.2f}",
                f"{rate.median / one.median:.2f}",
            ))  # fmt: skip
    return table(("workers", "steps", "in flight", "load before", "predicted, times one worker's", "measured"), rows)


def predicted(inputs: Inputs, rate: Rate) -> Outcome:
    """Return what the model says of a rate that was measured."""
    layout = Layout(steps=rate.steps, in_flight=rate.in_flight, workers=rate.workers, machine_cores=rate.cores)
    return simulate(inputs, layout, runs=SIMULATED_RUNS)


def ladder_table(kept: Kept) -> str:
    """Return what more of each part gives, where each has machines of its own."""
    rows: list[tuple[object, ...]] = []
    for layout in LADDER:
        found, bounds = simulate(kept.inputs, layout, runs=SIMULATED_RUNS), limits(kept.inputs, layout)
        rows.append((
            layout.clients, layout.workers, f"{layout.shards} of {layout.shard_cores} cores", layout.queues,
            f"{layout.in_flight:,}", f"{found.steps_per_second:,.0f}", f"{min(bounds.values()):,.0f}",
            ", ".join(f"{name} {found.busy[name]:.0%}" for name in PARTS), found.saturated,
        ))  # fmt: skip
    header = (
        "clients", "workers", "store", "queues", "in flight", "predicted steps/s", "upper limit", "at work", "ends at",
    )  # fmt: skip
    return table(header, rows)


def spread_table(_: Kept) -> str:
    """Return how evenly the slots fall on the servers of a store."""
    rows: list[tuple[object, ...]] = []
    for number in (2, 3, 4, 6, 8, 12, 16, 32):
        usual, best = [f"shard-{each}" for each in range(1, number + 1)], shard_names(number)
        some, least = (max(shares(names).values()) for names in (usual, best))
        rows.append((
            number, f"{some * SLOT_COUNT:.0f} of 64", f"{1 / some:.1f}", f"{best[0]} … {best[-1]}",
            f"{least * SLOT_COUNT:.0f} of 64", f"{1 / least:.1f}",
        ))  # fmt: skip
    header = ("servers", "shard-1, …: slots of the busiest", "worth", "better names", "slots of the busiest", "worth")
    return table(header, rows)


def arithmetic_table(kept: Kept, target: float = TARGET) -> str:
    """Return what a rate takes, for runs of few and of many steps."""
    needs = [plan(kept.inputs, Goal(steps_per_second=target, steps=steps)) for steps in STEPS]
    header = (f"{target:,.0f} steps/s in runs of", *(f"{steps} steps" for steps in STEPS))
    return table(header, [(name, *(show(need) for need in needs)) for name, show in _NEEDS.items()])


_NEEDS: dict[str, Callable[[Need], str]] = {
    "runs per second": lambda need: f"{need.runs_per_second:,.0f}",
    "cells": lambda need: f"{need.cells:,}",
    "client processes": lambda need: f"{need.clients:,}",
    "worker processes": lambda need: f"{need.workers:,}",
    "servers of stores, 16 cores each": lambda need: f"{need.shards:,}",
    "brokers, up to 16 cores each": lambda need: f"{need.brokers:,}",
    "task queues": lambda need: f"{need.queues:,}",
    "cores: client, worker, store, broker": lambda need: ", ".join(f"{need.cores[name]:,.0f}" for name in PARTS),
    "cores in all": lambda need: f"{sum(need.cores.values()):,.0f}",
    "of a worker's time for news": lambda need: f"{need.news:.1%}",
    "memory of clients and workers": lambda need: f"{need.memory_gib:,.0f} GiB",
    "network, all connections": lambda need: f"{need.network * 8 / 1e9:,.1f} Gbit/s",
    "write-ahead logs": lambda need: f"{need.log / 1e6:,.0f} MB/s",
    "of one server": lambda need: f"{need.log / need.shards / 1e6:,.0f} MB/s",
    "tables, until runs are deleted": lambda need: f"{need.stored * 3600 / 1e12:,.1f} TB an hour",
    "servers that delete as fast, at least": lambda need: f"{need.deleting_shards:,}",
}

TABLES: dict[str, Callable[[Kept], str]] = {
    "inputs": inputs_table, "check": check_table, "more workers": workers_table, "ladder": ladder_table,
    "spread": spread_table, "arithmetic": arithmetic_table,
}  # fmt: skip
"""What the page shows, by the names of its blocks."""

COMPUTED = ("inputs", "spread", "arithmetic")
"""Those of which nothing is simulated: they take no time."""


def with_tables(text: str, kept: Kept, names: tuple[str, ...] = tuple(TABLES)) -> str:
    """Return a page with the blocks of these names made anew."""

    def made(found: re.Match[str]) -> str:
        name = found["name"]
        body = f"{found[1]}\n{TABLES[name](kept)}\n\n{found[3]}" if name in names else found[0]
        return body if name != "check" or name not in names else body.replace(found[1], f"{found[1]}\n{kept.note}\n", 1)

    return _BLOCK.sub(made, text)


def write_page(kept: Kept, page: Path) -> None:
    """Make all tables of the page anew."""
    page.write_text(with_tables(page.read_text(encoding="utf-8"), kept), encoding="utf-8")
