"""The parts of a contest besides chains as tables for people."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contest.parts import EMBEDDED, PARTS, Part
from benchmarks.peers.ours import TITLES
from benchmarks.report import table

Data = Mapping[str, Any]


def measured_parts(data: Data) -> list[Part]:
    """Return those of which there are figures."""
    names = {row["part"] for row in data["parts"]}
    return [part for part in PARTS if part.name in names]


def store_title(contestant: str) -> str:
    """Return what a contestant of this project is called: by its store, marked where there is no worker apart."""
    store = contestant.partition("-")[2]
    return f"{TITLES[store]}{' †' if store in EMBEDDED else ''}"


def part_table(data: Data, part: Part) -> str:
    """Return the figures of a part: of each the median of the rounds, and their range."""
    rows = [row for row in data["parts"] if row["part"] == part.name]
    rows.sort(key=lambda row: (row["contestant"], row["kind"], row["size"]))
    shown = [
        (store_title(row["contestant"]), row["case"], *(_span(row["figures"].get(name, ())) for name in part.figures))
        for row in rows
    ]
    return table((part.title.lower(), part.size_name, *part.figures.values()), shown)


def parts_text(data: Data) -> str:
    """Return the tables of all parts that were measured."""
    return "\n\n".join(part_table(data, part) for part in measured_parts(data))


def _span(values: Sequence[float]) -> str:
    if not values:
        return ""
    middle = _shown(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({_shown(min(values))} to {_shown(max(values))})"


def _shown(value: float) -> str:
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
