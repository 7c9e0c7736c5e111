"""The census on a real RabbitMQ, with worker processes that share a store, and with deaths on the way.

The victim is chosen so that it surely dies with work in its hands: a worker is frozen, and only if the side file shows
that it has begun items which the store does not have completed is it killed; else it goes on, and the next is tried.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from examples.census import journal
from examples.census.application import make_app
from examples.census.check import check_census, ended_items, show_findings
from examples.census.model import Report, Survey
from examples.census.output import DEFAULT, Output
from examples.census.processes import WorkerProcess, check_alive, started_workers, wait_until_alive
from examples.census.progress import show_report
from examples.census.runs import Plan, begin, choose_run, files_done, follow
from examples.census.servers import broker_of, kill_broker, kill_store, say, store_of
from floxide_amqp import Orchestrator
from floxide_amqp.apps.settings import BROKER_VARIABLE, STORE_VARIABLE
from floxide_amqp.testing.services import PostgreSQL, RabbitMQ, Redis

KILL_WORKER_AT = 0.1
KILL_STORE_AT = 0.3
KILL_BROKER_AT = 0.4
"""Parts of the files that are done when the deaths begin."""

SETTLE_SECONDS = 5.0
"""Age of the work queue at which the broker is killed at the earliest. RabbitMQ can lose a quorum queue that is killed
in its first seconds; the driver then makes a new one and the engine sends again, but that takes a minute."""

LOOK_SECONDS = 0.02
"""Between two looks for a victim."""

WATCH_SECONDS = 1.0
"""Between two looks at whether the workers are alive."""


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    workers: int
    store: str | None
    kill_broker: bool
    compare: Path | None
    fresh: bool
    delay_ms: int


async def run_cluster(
    survey: Survey, output: Output, stop: asyncio.Event, options: ClusterOptions
) -> tuple[Report | None, bool]:
    """Count and check; return the report (None if `stop` came first) and whether the check found all in order."""
    async with (
        broker_of(kills=options.kill_broker, has_workers=options.workers > 0) as (broker_url, broker),
        store_of(options.store, output.store_url) as (store_url, server),
    ):
        cluster = _Cluster(survey, output, options, (broker_url, broker), (store_url, server))
        report = await cluster.run(stop)
        if report is None:
            return None, False
        output.write_report(report)
        show_report(report)
        compare = options.compare or embedded_report(survey, output)
        findings = await check_census(output, must_kill=options.workers > 1, compare=compare)
    show_findings(findings)
    return report, all(finding.is_good for finding in findings)


class _Cluster:
    """One run with everything around it."""

    def __init__(
        self,
        survey: Survey,
        output: Output,
        options: ClusterOptions,
        broker: tuple[str, RabbitMQ | None],
        store: tuple[str, PostgreSQL | Redis | None],
    ) -> None:
        self._survey = survey
        self._output = output
        self._options = options
        broker_url, self._broker = broker
        self._store, self._store_server = store
        self._app = make_app(broker=broker_url, store=self._store)
        self._environment = {BROKER_VARIABLE: broker_url, STORE_VARIABLE: self._store}

    async def run(self, stop: asyncio.Event) -> Report | None:
        options, output = self._options, self._output
        async with self._app.orchestrator() as orchestrator:
            plan = await choose_run(
                orchestrator, self._survey, output, store=self._store, fresh=options.fresh,
                is_alone=options.workers > 0,
            )  # fmt: skip
            say(f"Run {plan.run_id}: {plan.total:,} files in {self._survey.folder}.")
            async with started_workers(options.workers, self._environment, output.folder) as workers:
                await wait_until_alive(orchestrator, workers)
                for worker in workers:
                    say(f"Worker {worker.name} is at work as process {worker.process.pid}.")
                handle = await begin(orchestrator, plan, output, delay_ms=options.delay_ms)
                followed = asyncio.create_task(follow(orchestrator, handle, plan, stop))
                accidents = asyncio.create_task(self._accidents(orchestrator, plan, workers))
                report = await _first_of(followed, accidents)
            if report is None:
                done = await files_done(orchestrator, plan.run_id)
                say(f"Interrupted: {done:,} of {plan.total:,} files are done and stored.")
            return report

    async def _accidents(self, orchestrator: Orchestrator, plan: Plan, workers: list[WorkerProcess]) -> None:
        """Let happen what is to happen, then watch that no worker dies of anything else."""
        settled_at = asyncio.get_running_loop().time() + SETTLE_SECONDS
        if len(workers) > 1:
            await _until_done(orchestrator, plan, KILL_WORKER_AT)
            victim = await self._kill_one(orchestrator, plan, workers)
            workers = [worker for worker in workers if worker is not victim]
        if self._options.store is not None and self._store_server is not None:
            await _until_done(orchestrator, plan, KILL_STORE_AT)
            await kill_store(self._options.store, self._store_server)
        if self._options.kill_broker and self._broker is not None:
            await _until_done(orchestrator, plan, KILL_BROKER_AT)
            await asyncio.sleep(settled_at - asyncio.get_running_loop().time())
            await kill_broker(self._broker)
        while True:
            check_alive(workers)
            await asyncio.sleep(WATCH_SECONDS)

    async def _kill_one(self, orchestrator: Orchestrator, plan: Plan, workers: list[WorkerProcess]) -> WorkerProcess:
        while True:
            for worker in workers:
                worker.freeze()
                held = await _in_hand(orchestrator, plan, self._output, worker)
                if held:
                    worker.kill()
                    self._note_death(worker, held)
                    return worker
                worker.go_on()
                await asyncio.sleep(LOOK_SECONDS)

    def _note_death(self, worker: WorkerProcess, held: list[str]) -> None:
        say(f"Killed worker {worker.name} (SIGKILL) with {len(held)} items begun and not completed.")
        note = self._output.read_note()
        if note is not None:
            note.killed[worker.name] = held
            self._output.write_note(note)


async def _first_of(followed: asyncio.Task[Report | None], accidents: asyncio.Task[None]) -> Report | None:
    """Return what was followed; an accident that was not planned ends it."""
    try:
        await asyncio.wait({followed, accidents}, return_when=asyncio.FIRST_COMPLETED)
        if accidents.done():
            accidents.result()
        return await followed
    finally:
        for task in (followed, accidents):
            task.cancel()
        await asyncio.gather(followed, accidents, return_exceptions=True)


async def _in_hand(orchestrator: Orchestrator, plan: Plan, output: Output, worker: WorkerProcess) -> list[str]:
    """Return the items a frozen worker has begun and not completed."""
    begun = {each.item_id for each in journal.read_started(output.folder) if each.worker_id == worker.name}
    ended = {item.item_id for item in await ended_items(orchestrator, plan.run_id)}
    return sorted(begun - ended)


async def _until_done(orchestrator: Orchestrator, plan: Plan, part: float) -> None:
    while True:  # what is waited for happens in other processes
        if await files_done(orchestrator, plan.run_id) >= plan.total * part:
            return
        await asyncio.sleep(LOOK_SECONDS)


def embedded_report(survey: Survey, output: Output) -> Path | None:
    """Return the report of the last embedded census, if it was of the same folder and lies in another one than ours."""
    if output.folder == DEFAULT.absolute() or not (DEFAULT / "census.json").exists():
        return None
    embedded = Output(DEFAULT)
    note = embedded.read_note()
    same = note is not None and (note.folder, note.skip) == (survey.folder, survey.skip)
    return embedded.report_json if same and embedded.report_json.exists() else None
