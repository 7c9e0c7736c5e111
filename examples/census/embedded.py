"""The census in one process: a SQLite file, an in-process queue, threads."""

from __future__ import annotations

import asyncio

from examples.census.application import make_app
from examples.census.model import Report, Survey
from examples.census.output import Output
from examples.census.runs import begin, choose_run, files_done, follow


async def run_embedded(
    survey: Survey, output: Output, stop: asyncio.Event, *, fresh: bool, delay_ms: int
) -> Report | None:
    """Count, and return the report; None if `stop` came first."""
    app = make_app(broker=None, store=output.store_url)
    async with app.orchestrator(with_worker=False) as orchestrator:
        plan = await choose_run(orchestrator, survey, output, store=output.store_url, fresh=fresh, is_alone=True)
        if plan.is_there:
            done = await files_done(orchestrator, plan.run_id)
            print(f"Going on with run {plan.run_id}: {done:,} of {plan.total:,} files are done.", flush=True)
        else:
            print(f"Run {plan.run_id}: {plan.total:,} files in {survey.folder}.", flush=True)
    async with app.orchestrator() as orchestrator:
        handle = await begin(orchestrator, plan, output, delay_ms=delay_ms)
        report = await follow(orchestrator, handle, plan, stop)
    if report is None:
        async with app.orchestrator(with_worker=False) as orchestrator:
            done = await files_done(orchestrator, plan.run_id)
        print(f"Interrupted: {done:,} of {plan.total:,} files are done and stored.", flush=True)
    return report
