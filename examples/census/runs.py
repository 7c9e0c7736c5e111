"""Which run to go on with or to start, and waiting for its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from examples.census import journal
from examples.census.listing import fingerprint, list_sources
from examples.census.model import Report, Survey
from examples.census.output import Note, Output
from examples.census.progress import Progress
from examples.census.workflow import CensusContext, CodeCensus
from floxide_amqp import FloxideError, Orchestrator, RunHandle, RunNotFoundError, RunStatus

POLL_SECONDS = 0.2
"""Between two looks at the run's counters."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done: the run's id, and whether it is there already."""

    survey: Survey
    run_id: str
    is_there: bool
    total: int


async def choose_run(
    orchestrator: Orchestrator, survey: Survey, output: Output, *, store: str, fresh: bool, is_alone: bool
) -> Plan:
    """Decide between going on and beginning, and make the output folder ready for it.

    The run's id comes from the folder as it is, so a census of the same files goes on where it was. One that is over
    is followed by a new one. Nothing may be at work on the run yet: the side files are cleared here.

    Args:
        orchestrator: Reads the store.
        survey: What to count.
        output: Where everything goes.
        store: The store's URL, for the checker.
        fresh: Whether to give up on a run that is under way.
        is_alone: Whether the store is nobody else's, so that what is left in it may be cancelled.
    """
    base = f"census-{fingerprint(survey)}"
    number, run_id = 1, base
    status = await _status(orchestrator, run_id)
    while status is not None and (status in (RunStatus.COMPLETED, RunStatus.CANCELLED) or fresh):
        await orchestrator.cancel(run_id, reason="given up for a fresh census")
        number, run_id = number + 1, f"{base}-{number + 1}"
        status = await _status(orchestrator, run_id)
    if is_alone:
        await _cancel_others(orchestrator, run_id)
    plan = Plan(survey=survey, run_id=run_id, is_there=status is not None, total=len(list_sources(survey)))
    if not plan.is_there:
        journal.clear(output.folder)
        output.remove_report()
    before = output.read_note()
    is_same = plan.is_there and before is not None and before.run_id == run_id  # the id alone may be of another store
    killed = before.killed if before is not None and is_same else {}
    output.write_note(Note(run_id=run_id, folder=survey.folder, skip=survey.skip, store=store, killed=killed))
    return plan


async def begin(orchestrator: Orchestrator, plan: Plan, output: Output, *, delay_ms: int) -> RunHandle[Report]:
    """Start the run, or go on with it."""
    if plan.is_there:
        await orchestrator.resume(plan.run_id)
        return orchestrator.handle(CodeCensus, plan.run_id)
    context = CensusContext(journal=str(output.folder), delay_ms=delay_ms)
    return await orchestrator.start(CodeCensus, plan.survey, context=context, run_id=plan.run_id)


async def follow(
    orchestrator: Orchestrator, handle: RunHandle[Report], plan: Plan, stop: asyncio.Event
) -> Report | None:
    """Show the run's progress until it ends; return its report, or None if `stop` came first."""
    result = asyncio.create_task(handle.result())
    stopped = asyncio.create_task(stop.wait())
    shown = asyncio.create_task(_show(orchestrator, plan))
    try:
        await asyncio.wait({result, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return result.result() if result.done() else None
    finally:
        for task in (result, stopped, shown):
            task.cancel()
        await asyncio.gather(result, stopped, shown, return_exceptions=True)


async def files_done(orchestrator: Orchestrator, run_id: str) -> int:
    """Return for how many files the run has a measure or a reason why not; listing is one item more."""
    return max(0, (await orchestrator.metrics(run_id)).completed_items - 1)


async def _show(orchestrator: Orchestrator, plan: Plan) -> None:
    with Progress(plan.total) as progress:
        try:
            while True:
                try:
                    metrics = await orchestrator.metrics(plan.run_id)
                except FloxideError:  # the store is busy; the next look will do
                    continue
                finally:
                    await asyncio.sleep(POLL_SECONDS)
                progress.show(metrics.completed_items - 1, metrics.failed_attempts)
        finally:
            progress.show(await files_done(orchestrator, plan.run_id), None)


async def _status(orchestrator: Orchestrator, run_id: str) -> RunStatus | None:
    try:
        return await orchestrator.status(run_id)
    except RunNotFoundError:
        return None


async def _cancel_others(orchestrator: Orchestrator, run_id: str) -> None:
    """Give up on censuses of the folder as it was before, and of other folders."""
    cursor = ""
    while True:
        page = await orchestrator.list_runs(workflow=CodeCensus.graph.workflow, cursor=cursor)
        for run in page.runs:
            if not run.status.is_terminal and run.run_id != run_id:
                await orchestrator.cancel(run.run_id, reason="the census has moved on to other files")
        cursor = page.next_cursor
        if not cursor:
            return
