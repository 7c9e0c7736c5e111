"""Results as a table for people and as JSON for comparing: benchmarks/results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.flatness import LIMIT, ratios

RESULTS = Path(__file__).parent / "results"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, aligned so that it reads as text too."""
    cells = [[str(each) for each in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def throughput_table(rows: Sequence[dict[str, Any]]) -> str:
    header = ("queue and store", "case", "steps", "median ms", "range ms", "µs per step", "steps per s")
    return table(
        header,
        [
            (
                row["place"], row["case"], row["steps"], row["median_ms"], f"{row['least_ms']} to {row['most_ms']}",
                row["us_per_step"], row["steps_per_second"],
            )
            for row in rows
        ],
    )  # fmt: skip


def flatness_table(rows: Sequence[dict[str, Any]]) -> str:
    small, large = rows[0]["sizes"]
    header = (
        "queue and store", "shape", f"µs per step, {small:,}", f"µs per step, {large:,}", *ratios(rows[0]),
        "by processor time", f"all ≤ {LIMIT}",
    )  # fmt: skip
    return table(
        header,
        [
            (
                row["place"], row["shape"], _with_range(row, small), _with_range(row, large), *ratios(row).values(),
                ", ".join(str(ratio) for ratio in ratios(row, "processor_").values()),
                "yes" if max(ratios(row).values()) <= LIMIT else "NO",
            )
            for row in rows
        ],
    )  # fmt: skip


def _with_range(row: dict[str, Any], size: int) -> str:
    least, most = row[f"us_per_step_{size}_range"]
    return f"{row[f'us_per_step_{size}']} ({least} to {most})"


def write(name: str, machine: dict[str, object], rows: Sequence[dict[str, object]], text: str) -> Path:
    """Write both forms; return the table's path."""
    RESULTS.mkdir(exist_ok=True)
    file = name.replace(" ", "-")
    (RESULTS / f"{file}.json").write_text(
        json.dumps({"machine": machine, "results": rows}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    path = RESULTS / f"{file}.md"
    path.write_text(f"# {name.capitalize()}\n\n{fact_lines(machine)}\n\n{text}\n", encoding="utf-8")
    return path


def fact_lines(machine: dict[str, object]) -> str:
    """Return what it was measured on, as a list."""
    return "\n".join(f"- {key.replace('_', ' ')}: {_shown(value)}" for key, value in machine.items() if value)


def _shown(value: object) -> str:
    return ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else str(value)
