"""The results of a contest as pictures, PNG and SVG; needs the extra ``bench``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.contest.part_tables import measured_parts, store_title
from benchmarks.contest.parts import Part
from benchmarks.contest.tables import title_of
from floxide_amqp.exceptions import ConfigurationError

KINDS = ("png", "svg")

_OURS, _THEIRS, _EDGE = "#1f6f8b", "#c9c9c9", "#303030"


def draw(data: Mapping[str, Any], folder: Path, name: str) -> list[Path]:
    """Draw a picture of the rates, one of the latencies, and one of costs by size; return the files.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    try:
        matplotlib: Any = import_module("matplotlib")
    except ModuleNotFoundError:
        raise ConfigurationError("Plots need matplotlib. Install it: pip install 'floxide-amqp[bench]'") from None
    matplotlib.use("Agg")
    # Text stays text, and the same results give the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": name})
    pyplot: Any = import_module("matplotlib.pyplot")
    fewest = min((row["workers"] for row in data["results"]), default=1)
    rows = [row for row in data["results"] if row["workers"] == fewest]
    rates = [row for row in rows if "steps_per_second" in row]
    files = _panels(pyplot, data, rates, "steps_per_second", "steps per second", folder / f"{name}-rates")
    idle = [row for row in rows if "p50_ms" in row]
    files += _panels(pyplot, data, idle, "p50_ms", "p50 of one run, ms, logarithmic", folder / f"{name}-latency")
    return files + _growth(pyplot, data, folder / f"{name}-growth")


def _growth(pyplot: Any, data: Mapping[str, Any], path: Path) -> list[Path]:
    """Draw the first figure of each part that has several sizes, by size: a line for each store and kind."""
    parts = [part for part in measured_parts(data) if len(_sizes(data, part)) > 1]
    if not parts:
        return []
    size = (4.6 * len(parts), 3.4)
    picture, axes = pyplot.subplots(1, len(parts), figsize=size, squeeze=False, layout="constrained")
    for panel, part in zip(axes.flat, parts, strict=True):
        figure, label = next(iter(part.figures.items()))
        mine = [row for row in data["parts"] if row["part"] == part.name]
        for contestant, kind in dict.fromkeys((row["contestant"], row["kind"]) for row in mine):
            line = [row for row in mine if (row["contestant"], row["kind"]) == (contestant, kind)]
            line.sort(key=lambda row: row["size"])
            values = [row["figures"][figure] for row in line]
            middles = [statistics.median(each) for each in values]
            ranges = [[m - min(v) for m, v in zip(middles, values, strict=True)],
                      [max(v) - m for m, v in zip(middles, values, strict=True)]]  # fmt: skip
            name = f"{store_title(contestant)}{', ' if kind else ''}{kind}"
            panel.errorbar([row["size"] for row in line], middles, yerr=ranges, marker="o", ms=4, capsize=2, label=name)
        panel.set_xscale("log")
        panel.set_ylim(bottom=0)
        panel.set_title(part.title, fontsize=10)
        panel.set_xlabel(f"{part.size_name}, logarithmic", fontsize=8)
        panel.set_ylabel(label, fontsize=8)
        panel.tick_params(labelsize=7)
        panel.legend(fontsize=7)
    return _save(pyplot, picture, path)


def _sizes(data: Mapping[str, Any], part: Part) -> set[int]:
    return {row["size"] for row in data["parts"] if row["part"] == part.name}


def _save(pyplot: Any, picture: Any, path: Path) -> list[Path]:
    files = [path.with_suffix(f".{kind}") for kind in KINDS]
    for file in files:
        picture.savefig(file, dpi=110, metadata={"Date": None} if file.suffix == ".svg" else None)
    pyplot.close(picture)
    return files


def _panels(
    pyplot: Any,
    data: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    figure: str,
    label: str,
    path: Path,
) -> list[Path]:
    """Draw a panel for each workload: medians, with the range of all rounds, the best one on top."""
    workloads = list(dict.fromkeys(row["workload"] for row in rows))
    if not workloads:
        return []
    most = max(sum(row["workload"] == workload for row in rows) for workload in workloads)
    columns = min(2, len(workloads))
    lines = -(-len(workloads) // columns)
    size = (6.5 * columns, lines * (0.34 * most + 1.1))
    picture, axes = pyplot.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained")
    for panel, workload in zip(axes.flat, workloads, strict=False):
        mine = [row for row in rows if row["workload"] == workload]
        mine.sort(key=lambda row: statistics.median(row[figure]), reverse=figure.endswith("_ms"))
        _panel(panel, data, mine, figure)
        panel.set_title(workload, fontsize=10)
        panel.set_xlabel(label, fontsize=8)
    for panel in axes.flat[len(workloads) :]:
        panel.set_visible(False)
    return _save(pyplot, picture, path)


def _panel(panel: Any, data: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], figure: str) -> None:
    medians = [statistics.median(row[figure]) for row in rows]
    below = [middle - min(row[figure]) for middle, row in zip(medians, rows, strict=True)]
    above = [max(row[figure]) - middle for middle, row in zip(medians, rows, strict=True)]
    colours = [_OURS if row["contestant"].startswith("ours-") else _THEIRS for row in rows]
    places = range(len(rows))
    if figure.endswith("_ms"):  # dots, for a bar says nothing where the axis has no zero
        panel.errorbar(medians, places, xerr=[below, above], fmt="none", ecolor=_EDGE, capsize=2, zorder=1)
        panel.scatter(medians, places, c=colours, s=40, edgecolors=_EDGE, zorder=2)
        panel.set_xscale("log")
    else:
        panel.barh(places, medians, xerr=[below, above], color=colours, ecolor=_EDGE, capsize=2)
    panel.set_yticks(places, [title_of(data, row["contestant"]) for row in rows], fontsize=8)
    panel.margins(x=0.15)
    for place, middle, up in zip(places, medians, above, strict=True):
        text = f"{middle:,.0f}" if middle >= 100 else f"{middle:.1f}"
        panel.annotate(text, (middle + up, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7)
    panel.tick_params(axis="x", labelsize=7)
