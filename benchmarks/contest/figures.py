"""Figures of several rounds: their median and range, and whether two results differ by more than their noise."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEAST_CHANGE = 0.05
"""Smaller changes of a median are none, however narrow the ranges are."""

FEW_ROUNDS = 3
"""A range of fewer rounds says little."""

LEAST_CHANGE_OF_FEW = 0.5
"""Smaller changes are none where one side has few rounds."""

RELAY = "relay, messages"
"""The name of the limit that a run's one message is held against: a relay through the driver that carries it."""

UNITS = {"us": "µs", "mib": "MiB", "kib": "KiB", "seconds": "s"}
"""Words in the names of a part's figures."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A figure as it was in each round.

    Attributes:
        name: What was measured, and of whom.
        unit: Of the values.
        more_is_better: Whether a larger value is a better one.
        least: The smallest value of all rounds.
        most: The largest one.
        rounds: How many there were.
    """

    name: str
    unit: str
    more_is_better: bool
    median: float
    least: float
    most: float
    rounds: int


def reading(name: str, unit: str, values: Sequence[float], *, more_is_better: bool = True) -> Reading:
    """Return the median and the range of at least one value."""
    return Reading(name, unit, more_is_better, statistics.median(values), min(values), max(values), len(values))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that so large a share (0 to 1) of them does not exceed: the nearest rank, none in between."""
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 1)
    return ordered[min(len(ordered), max(1, int(rank))) - 1]


@dataclass(frozen=True, slots=True)
class Change:
    """How a figure changed.

    Attributes:
        ratio: The new median divided by the old one.
        verdict: ``better``, ``worse`` or ``noise``.
    """

    name: str
    unit: str
    old: Reading
    new: Reading
    ratio: float
    verdict: str


def compare(old: Sequence[Reading], new: Sequence[Reading]) -> list[Change]:
    """Return the change of each figure that both have.

    A change is beyond noise where the ranges of all rounds have nothing in common and the larger median is larger by
    `LEAST_CHANGE` or more; by `LEAST_CHANGE_OF_FEW` where one side has fewer than `FEW_ROUNDS`.
    """
    before = {each.name: each for each in old}
    return [_change(before[each.name], each) for each in new if each.name in before]


def _change(old: Reading, new: Reading) -> Change:
    ratio = new.median / old.median if old.median else float("inf")
    least = LEAST_CHANGE if min(old.rounds, new.rounds) >= FEW_ROUNDS else LEAST_CHANGE_OF_FEW
    by = max(ratio, 1 / ratio) - 1 if ratio else float("inf")
    is_noise = (new.least <= old.most and old.least <= new.most) or by < least
    verdict = "noise" if is_noise else "better" if (ratio > 1) == new.more_is_better else "worse"
    return Change(new.name, new.unit, old, new, ratio, verdict)


def machine_ratio(changes: Sequence[Change]) -> float | None:
    """Return by how much the raw limits moved together, the median of their ratios; None where there are none.

    Another machine, or a busier one, moves them as it moves everything else.
    """
    ratios = [each.ratio for each in changes if each.name.startswith("limit: ")]
    return statistics.median(ratios) if ratios else None


def readings(path: Path) -> list[Reading]:
    """Return the figures of a file in benchmarks/results that holds rounds.

    Raises:
        ValueError: It holds none that could be compared.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    rows: list[Mapping[str, Any]] = data["results"]
    found = [each for row in rows for each in _readings_of(row)]
    found += [each for row in data.get("parts", []) for each in _readings_of_part(row)]
    found += [reading(f"limit: {name}", "1/s", values) for name, values in data.get("limits", {}).items()]
    if not found:
        raise ValueError(f"{path} holds no rounds that could be compared")
    return found


def _readings_of_part(row: Mapping[str, Any]) -> list[Reading]:
    """Return the figures of a part; of all of them less is better."""
    name = f"{row['part']}, {row['contestant']}, {row['case']}"
    return [
        reading(f"{name}: {figure}", _unit_in(figure), values, more_is_better=False)
        for figure, values in row["figures"].items()
    ]


def _unit_in(figure: str) -> str:
    return next((UNITS[word] for word in figure.split("_") if word in UNITS), "")


def _readings_of(row: Mapping[str, Any]) -> list[Reading]:
    if "median_ms" in row:
        name = f"{row['place']}, {row['case']}"
        return [Reading(name, "ms", False, row["median_ms"], row["least_ms"], row["most_ms"], row["rounds"])]
    if "workload" not in row:
        return []
    name = f"{row['contestant']}, {row['workers']} worker{'s' * (row['workers'] != 1)}, {row['workload']}"
    if "steps_per_second" in row:
        return [reading(name, "steps/s", row["steps_per_second"])]
    return [
        reading(f"{name}, {which}", "ms", row[f"{which}_ms"], more_is_better=False)
        for which in ("p50", "p99")
        if f"{which}_ms" in row
    ]
