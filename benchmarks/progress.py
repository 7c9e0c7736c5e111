"""How far a long phase is: a bar on a terminal, a line on standard error at its end everywhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def phase(name: str, total: int) -> Generator[Callable[[int], None]]:
    """Show a phase of so many parts; what is given is to be told how many are done."""
    began = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(name, total=total)
        yield lambda done: progress.update(task, completed=done)
    print(f"  {name}: {total:,} in {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
