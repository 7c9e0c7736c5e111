"""From measures to the report, and from the report to JSON and text: the same bytes for the same measures, always."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence

from examples.census.model import Hub, Measure, Report, Size, Totals, Unreadable

SHOWN = 20
"""Rows of the tables of the largest modules and of the hubs."""


def make_report(found: Sequence[Measure | Unreadable]) -> Report:
    """Add up what was found; the order in which it arrived makes no difference."""
    measures = sorted((each for each in found if isinstance(each, Measure)), key=lambda each: each.path)
    unreadable = sorted((each for each in found if isinstance(each, Unreadable)), key=lambda each: each.path)
    imports = import_graph(measures)
    return Report(
        totals=Totals(
            files=len(found),
            parsed=len(measures),
            unreadable=len(unreadable),
            lines=sum(each.lines for each in measures),
            functions=sum(each.functions for each in measures),
            classes=sum(each.classes for each in measures),
            branches=sum(each.branches for each in measures),
            imports=sum(len(targets) for targets in imports.values()),
        ),
        largest=tuple(
            Size(path=each.path, lines=each.lines, functions=each.functions, branches=each.branches)
            for each in sorted(measures, key=lambda each: (-each.lines, each.path))[:SHOWN]
        ),
        hubs=_hubs(imports),
        unreadable=tuple(unreadable),
        digest=_digest([*measures, *unreadable]),
    )


def import_graph(measures: Iterable[Measure]) -> dict[str, set[str]]:
    """Return which modules of the folder each module imports; the same name at two paths is one module."""
    measures = list(measures)
    modules = {each.module for each in measures}
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for each in measures:
        graph[each.module] |= {name for name in each.imports if name in modules and name != each.module}
    return graph


def to_json(report: Report) -> str:
    """Return the report for programs."""
    return json.dumps(dataclasses.asdict(report), indent=2, ensure_ascii=True) + "\n"


def to_text(report: Report) -> str:
    """Return the report for people."""
    totals = report.totals
    sizes = [(each.path, each.lines, each.functions, each.branches) for each in report.largest]
    hubs = [(each.module, each.imported_by, each.imports) for each in report.hubs]
    parts = [
        "CODE CENSUS\n",
        _table(("total", "count"), list(dataclasses.asdict(totals).items())),
        "\nLARGEST MODULES\n",
        _table(("path", "lines", "functions", "branches"), sizes),
        "\nHUBS OF THE IMPORT GRAPH\n",
        _table(("module", "imported by", "imports"), hubs),
        "\nFILES THAT COULD NOT BE PARSED\n",
        "".join(f"{each.path}: {each.error}: {each.reason}\n" for each in report.unreadable) or "none\n",
        f"\nsha256 of all measures: {report.digest}\n",
    ]
    return "".join(parts)


def _hubs(imports: dict[str, set[str]]) -> tuple[Hub, ...]:
    imported = Counter(target for targets in imports.values() for target in targets)
    most = sorted(imported.items(), key=lambda each: (-each[1], each[0]))[:SHOWN]
    return tuple(Hub(module=module, imported_by=count, imports=len(imports[module])) for module, count in most)


def _digest(found: Iterable[Measure | Unreadable]) -> str:
    digest = hashlib.sha256()
    for each in found:
        digest.update(json.dumps(dataclasses.asdict(each), sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _table(head: Sequence[str], rows: Sequence[Sequence[str | int]]) -> str:
    """Return rows under a head, the first column to the left, numbers to the right."""
    cells = [tuple(head), *(tuple(f"{cell:,}" if isinstance(cell, int) else cell for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]]) + "\n"
