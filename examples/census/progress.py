"""What is seen while and after a census runs."""

from __future__ import annotations

import time
from dataclasses import asdict
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from examples.census.model import Report

LINE_EVERY_SECONDS = 2.0
"""Between two lines where there is no terminal to draw a bar on."""

SHOWN = 10
"""Rows of a table on the screen; the files have more."""


class Progress:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int, console: Console | None = None) -> None:
        self._total = total
        self._console = console or Console()
        self._bar = Bar(
            SpinnerColumn(), TextColumn("parsing"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[failed]} unreadable"), TimeElapsedColumn(), console=self._console,
        )  # fmt: skip
        self._task = self._bar.add_task("parsing", total=total, failed=0)
        self._next_line = time.monotonic() + LINE_EVERY_SECONDS

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def show(self, done: int, failed: int | None) -> None:
        """Show how many files are done, and how many of them could not be parsed."""
        done = max(0, min(done, self._total))
        self._bar.update(self._task, completed=done)
        if failed is not None:
            self._bar.update(self._task, failed=failed)
        if not self._console.is_terminal and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY_SECONDS
            print(f"{done:,} of {self._total:,} files", flush=True)


def show_report(report: Report) -> None:
    """Print the report's tables."""
    console = Console()
    totals = Table("total", title="Code census", title_justify="left")
    totals.add_column("count", justify="right")
    for name, count in asdict(report.totals).items():
        totals.add_row(name, f"{count:,}")
    console.print(totals)
    largest = Table("largest module")
    for column in ("lines", "functions", "branches"):
        largest.add_column(column, justify="right")
    for size in report.largest[:SHOWN]:
        largest.add_row(size.path, f"{size.lines:,}", f"{size.functions:,}", f"{size.branches:,}")
    console.print(largest)
    hubs = Table("hub of the import graph")
    for column in ("imported by", "imports"):
        hubs.add_column(column, justify="right")
    for hub in report.hubs[:SHOWN]:
        hubs.add_row(hub.module, f"{hub.imported_by:,}", f"{hub.imports:,}")
    console.print(hubs)
