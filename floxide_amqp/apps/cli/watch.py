"""Live progress of one run on standard error: one line that changes on a terminal, a line per change elsewhere."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.run_handle import RunHandle
from floxide_amqp.runtime.views import RunMetrics

LOOK_SECONDS = 0.25
"""Between two looks at a run that is watched on a terminal: reads one record of the store."""

LINE_SECONDS = 1.0
"""Between two looks where each change is a line that stays."""


async def watch(orchestrator: Orchestrator, handle: RunHandle[Any], *, timeout: float | None = None) -> Any:
    """Show a run's progress until it ends, and return its output; raises as `RunHandle.result`."""
    async with _progress(orchestrator, handle.run_id, handle.graph.workflow):
        return await handle.result(timeout)


@asynccontextmanager
async def _progress(orchestrator: Orchestrator, run_id: str, workflow: str) -> AsyncGenerator[None]:
    console = Console(stderr=True, highlight=False, emoji=False, markup=False, soft_wrap=True)
    show = _on_a_terminal if console.is_terminal else _in_lines
    line = _Line(orchestrator, run_id, workflow)
    task = asyncio.create_task(show(line, console), name="floxide.cli.watch")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        last = await line.read()
        if last != line.printed:
            console.print(Text(last))


class _Line:
    def __init__(self, orchestrator: Orchestrator, run_id: str, workflow: str) -> None:
        self._orchestrator = orchestrator
        self._run_id = run_id
        self._workflow = workflow
        self._since = time.monotonic()
        self.printed = ""

    async def read(self) -> str:
        """Return where the run is, in one line."""
        status = await self._orchestrator.status(self._run_id)
        counts = describe_counts(await self._orchestrator.metrics(self._run_id), status)
        return f"{self._workflow} {self._run_id}  {status.value}  {counts}"

    def elapsed(self) -> str:
        """Return for how long it has been watched."""
        return f"{time.monotonic() - self._since:.1f} s"


def describe_counts(metrics: RunMetrics, status: RunStatus) -> str:
    """Return a run's counters in words, zeroes left out; what is left of a run that is over is not live."""
    live = "not finished" if status.is_terminal else "live"
    if metrics.waiting_items and not status.is_terminal:
        live += f" ({metrics.waiting_items} waiting)"
    tries = "failed attempt" if metrics.failed_attempts == 1 else "failed attempts"
    counts = (("done", metrics.completed_items), (live, metrics.live_items), (tries, metrics.failed_attempts))
    return ", ".join(f"{count} {name}" for name, count in counts if count or name == "done")


async def _on_a_terminal(line: _Line, console: Console) -> None:
    spinner = Spinner("dots", Text(await line.read()))
    with Live(spinner, console=console, transient=True, refresh_per_second=10):
        while True:
            spinner.update(text=Text(f"{await line.read()}  {line.elapsed()}"))
            await asyncio.sleep(LOOK_SECONDS)


async def _in_lines(line: _Line, console: Console) -> None:
    while True:
        now = await line.read()
        if now != line.printed:
            console.print(Text(now))
            sys.stderr.flush()
            line.printed = now
        await asyncio.sleep(LINE_SECONDS)
