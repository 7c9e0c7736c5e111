"""The workflow: list the files, parse each on its own, gather the measures, report."""

from __future__ import annotations

import stat
import time
from pathlib import Path
from typing import Annotated

from examples.census.journal import Begun, note_parsed, note_start
from examples.census.listing import list_sources, package_of, unprintable
from examples.census.measuring import measure_source
from examples.census.model import Measure, Report, Survey, Unreadable
from examples.census.reporting import make_report
from floxide_amqp import Context, Fixed, NextAll, Sum, Workflow, WorkflowCtx, gather, node


class CensusContext(Context):
    """The run's shared state.

    `lines` is added up by every parse on every worker: at the end it must equal the report's total.
    """

    journal: Fixed[str]
    delay_ms: Fixed[int] = 0
    folder: str = ""
    package: str = ""
    lines: Annotated[int, Sum()] = 0


@node
def list_files(ctx: WorkflowCtx[CensusContext], survey: Survey) -> NextAll[str]:
    """Fan out: one durable item per file."""
    ctx.state.folder = survey.folder
    ctx.state.package = package_of(survey.folder)
    return NextAll(list_sources(survey))


@node
def measure(ctx: WorkflowCtx[CensusContext], path: str) -> Measure:
    """Parse one file; whatever keeps it from being parsed takes the failure edge."""
    state = ctx.state
    note_start(state.journal, Begun(ctx.item_id, ctx.worker_id, ctx.attempt, path))
    time.sleep(state.delay_ms / 1000)
    try:
        measured = measure_source(path, _read(Path(state.folder, unprintable(path))), package=state.package)
    finally:
        note_parsed(state.journal, path)
    state.lines += measured.lines
    return measured


@node
def set_aside(ctx: WorkflowCtx[CensusContext], path: str) -> Unreadable:
    """Report a file that could not be parsed instead of losing it."""
    if ctx.failure is None:
        raise ValueError(f"set_aside({path!r}) is for the failure edge of measure")
    reason = ctx.failure.message.replace(f"{ctx.state.folder}/", "")
    return Unreadable(path=path, error=ctx.failure.error_type, reason=reason)


@node
def report(found: list[Measure | Unreadable]) -> Report:
    """Add everything up."""
    return make_report(found)


class CodeCensus(Workflow[Survey, Report, CensusContext], version="1"):
    start = list_files
    edges = (
        list_files >> measure >> gather(report),
        measure.on_failure >> set_aside >> gather(report),
    )


def _read(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):  # reading a named pipe would wait for ever
        raise OSError("not a regular file")
    return path.read_bytes()
