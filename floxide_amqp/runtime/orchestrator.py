"""The API client: starts runs, waits for them, steers them, and shows what is going on.

It holds no state of its own: what it says, it reads from the store. Any number of orchestrators may work on the same
runs.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Generic, cast

from typing_extensions import TypeVar

from floxide_amqp.core.attributes import Attributes
from floxide_amqp.core.context import Context
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.priorities import Priority
from floxide_amqp.core.records import Quarantined
from floxide_amqp.core.signals import Signal
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.runtime import (
    control_actions,
    dead_letter_actions,
    queries,
    resuming,
    retention,
    run_events,
    signals,
    starting,
    views,
)
from floxide_amqp.runtime.dedupe import DedupeKey, claim_all, note_started, renamed
from floxide_amqp.runtime.kin_views import ChildPage, list_children
from floxide_amqp.runtime.letter_kinds import KINDS
from floxide_amqp.runtime.letters import delivering
from floxide_amqp.runtime.limit_views import LimitKeys
from floxide_amqp.runtime.registry import graph_of
from floxide_amqp.runtime.run_events import RunEvent
from floxide_amqp.runtime.run_filter import RunFilter
from floxide_amqp.runtime.run_handle import RunHandle
from floxide_amqp.runtime.run_view import RunView, view_of
from floxide_amqp.runtime.schedules import Schedules
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.set_aside_items import SetAsideItems
from floxide_amqp.runtime.signals import SignalReport
from floxide_amqp.runtime.sources import Sources, opened
from floxide_amqp.runtime.start_times import StartTimes
from floxide_amqp.runtime.steering import Steering
from floxide_amqp.runtime.version_views import VersionInfo, list_versions
from floxide_amqp.runtime.waiting import Waiters
from floxide_amqp.stores.checkpoints import Checkpoint, CheckpointStore
from floxide_amqp.stores.exporting import RunExport
from floxide_amqp.stores.importing import RunImport
from floxide_amqp.stores.run_file import RunFileHead

__all__ = ["Orchestrator", "RunHandle", "Start"]

InT = TypeVar("InT")
OutT = TypeVar("OutT")
C = TypeVar("C", bound=Context)
SentT = TypeVar("SentT")


@dataclass(frozen=True, slots=True)
class Start(Generic[InT]):
    """One run for `Orchestrator.start_many`: input, and optionally context, id, attributes and times."""

    input: InT
    context: Context | None = None
    run_id: str | None = None
    attributes: Attributes | None = None
    delay: timedelta | float | None = None
    start_at: datetime | None = None
    timeout: timedelta | float | None = None
    dedupe_key: str | None = None
    dedupe_for: timedelta | float | None = None
    priority: Priority = Priority.NORMAL

    @property
    def dedupe(self) -> DedupeKey | None:
        """What tells it apart from other starts, where that is a key."""
        return DedupeKey.of(self.dedupe_key, self.dedupe_for)

    @property
    def times(self) -> StartTimes:
        """When the run begins, and how long it may take."""
        return StartTimes(delay=self.delay, start_at=self.start_at, timeout=self.timeout)


class Orchestrator(Steering):
    """Starts and steers runs. Get one from ``Floxide.orchestrator()``.

    Args:
        services: The process's parts.
        hears_all: Listen to the ends of all runs, not only of those started here.
        key: Routing key of this client's events; by default one that nobody else has.
    """

    def __init__(self, services: Services, *, hears_all: bool = False, key: str = "") -> None:
        self.services = services
        self._waiters = Waiters(services, key or f"client.{uuid.uuid4().hex}", hears_all=hears_all)

    @property
    def limits(self) -> LimitKeys:
        """Concurrency keys: who holds them, who waits, and how many may."""
        return LimitKeys(self.services)

    async def versions(self, *, workflow: str | None = None) -> Sequence[VersionInfo]:
        """Return the versions of workflows: how many open runs each has, which workers serve it, what is parked.

        Args:
            workflow: Only versions of this workflow.
        """
        return await list_versions(self.services, workflow=workflow)

    @property
    def set_aside(self) -> SetAsideItems:
        """Items whose stored data the code that met them cannot decode: list them, requeue them."""
        return SetAsideItems(self.services)

    @property
    def schedules(self) -> Schedules:
        """What is started again and again: put it, pause it, trigger it, look at it."""
        return Schedules(self.services)

    @property
    def sources(self) -> Sources:
        """What starts runs of messages and of items: look at it, pause it, resume it."""
        return Sources(self.services)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Orchestrator]:
        """Listen for the ends of runs, and deliver letters that are written here, while the block is open."""
        async with self._waiters.listening(), delivering(self.services, KINDS):
            yield self

    # --- starting

    async def start(
        self,
        workflow: type[WorkflowDefinition[InT, OutT, C]],
        input: InT,
        *,
        context: C | None = None,
        run_id: str | None = None,
        attributes: Attributes | None = None,
        delay: timedelta | float | None = None,
        start_at: datetime | None = None,
        timeout: timedelta | float | None = None,
        dedupe_key: str | None = None,
        dedupe_for: timedelta | float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> RunHandle[OutT]:
        """Store a run and send its first message; returns once the run is as durable as the store.

        Starting again with the same id, workflow, input and context returns the same run. Of a run that was deleted
        not long ago there is nothing to return: its id is refused.

        Args:
            workflow: The workflow.
            input: Its input.
            context: The run's initial state; may be left out where every field has a default.
            run_id: The caller's id, 1 to 200 printable characters; a random one if left out.
            attributes: What the run may be found by (`list_runs`), such as ``{"tenant": "acme"}``: up to 32 texts,
                numbers, bools and instants. They are stored as they are, also where payloads are encrypted. A repeated
                start leaves them as they are.
            delay: How long the run waits before it begins, `timedelta` or seconds; it is there at once, and waits
                without occupying anybody. A repeated start leaves its times as they are.
            start_at: When it begins, aware, in place of `delay`; a time that is over is now.
            timeout: How long the run may take once it has begun, in place of what its workflow says.
            dedupe_key: What tells this start from others of the workflow, 1 to 1,000 characters. While the key of an
                earlier start holds, that start's run is returned, whatever id, input and context are given here, and
                its handle is `deduplicated`.
            dedupe_for: How long the key holds, `timedelta` or seconds, 1 second to 366 days; a day if left out.
            priority: The level of its steps, of a workflow with ``priorities=True``; a repeated start leaves it as it
                is.

        Raises:
            RunConflictError: A run with this id was started with something else.
            RunDeletedError: The same run ended and was deleted not long ago; nothing runs. Who starts a run again to
                be sure that it ran may take this for a yes; who wants it to run once more uses another id.
            InvalidRunIdError: The id cannot be one.
            CodecError: The input is not of the workflow's type.
            InvalidAttributeError: An attribute cannot be one.
            DefinitionError: A time is out of range or has no time zone.
        """
        one = Start(
            input, context, run_id, attributes, delay=delay, start_at=start_at, timeout=timeout, dedupe_key=dedupe_key,
            dedupe_for=dedupe_for, priority=priority,
        )  # fmt: skip
        (handle,) = await self.start_many(workflow, [one])
        return handle

    async def start_many(
        self, workflow: type[WorkflowDefinition[InT, OutT, C]], starts: Iterable[Start[InT]]
    ) -> list[RunHandle[OutT]]:
        """Store many runs in grouped commits and send their first messages; each start is idempotent on its own.

        Raises:
            RunConflictError: One of the ids is taken by another run; the others are started all the same.
            RunDeletedError: One of the runs ended and was deleted not long ago; the others are started all the same.
        """
        services, graph = self.services, graph_of(workflow)
        named = [(RunId(each.run_id or uuid.uuid4().hex), each) for each in starts]
        await services.session.learn_times(run_id for run_id, _ in named)
        requests = [
            starting.prepare(
                services,
                graph,
                each.input,
                each.context,
                run_id,
                self._waiters.key,
                attributes=each.attributes,
                times=each.times,
                priority=each.priority,
            )
            for run_id, each in named
        ]
        claimed = await claim_all(services, graph.workflow, [(run_id, each.dedupe) for run_id, each in named])
        requests = [renamed(*each) for each in zip(requests, claimed, strict=True)]
        new = [request for request, claim in zip(requests, claimed, strict=True) if not claim.is_there]
        await starting.store_all(services, graph, new)
        await note_started(services, claimed)
        return [
            RunHandle(services, self._waiters, claim.run_id, graph, deduplicated=claim.is_earlier) for claim in claimed
        ]

    def handle(self, workflow: type[WorkflowDefinition[Any, OutT, Any]], run_id: str) -> RunHandle[OutT]:
        """Return a handle of a run started elsewhere; nothing is read until it is used."""
        return RunHandle(self.services, self._waiters, run_id, graph_of(workflow))

    def handle_of(self, graph: Graph, run_id: str) -> RunHandle[Any]:
        """Return a handle of a run by its workflow's graph, for whoever has no class of that version at hand."""
        return RunHandle(self.services, self._waiters, run_id, graph)

    # --- waiting

    async def wait(self, run_id: str, timeout: timedelta | float | None = None) -> RunStatus:
        """Wait for a run's end and return its status.

        Raises:
            RunNotFoundError: There is no such run.
            ResultTimeoutError: It has not ended within `timeout`; it goes on.
        """
        return (await self._waiters.wait_for_end(RunId(run_id), timeout)).state.status

    # --- steering

    async def cancel(self, run_id: str, *, reason: str = "", by: str = "") -> bool:
        """Cancel a run: steps in flight are interrupted, queued ones never run, late commits are refused.

        What nodes with a compensation have done is undone before the run is over. That goes for a run that has failed,
        too, where something is left to undo.

        Returns:
            Whether it was alive; cancelling a run that is over, or undoes what it did, does nothing.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return await control_actions.cancel_run(self.services, RunId(run_id), reason=reason, by=by)

    async def pause(self, run_id: str, *, reason: str = "", by: str = "") -> None:
        """Pause a run: steps in flight end and are committed, nothing new begins.

        Raises:
            RunNotFoundError: There is no such run.
            InvalidRunStateError: The run is over, or undoes what it did.
        """
        await control_actions.pause_run(self.services, RunId(run_id), reason=reason, by=by)

    async def resume(self, run_id: str, *, reason: str = "", by: str = "") -> bool:
        """Let a paused or failed run go on; failed items become pending again, their attempts reset.

        Returns:
            Whether it was paused or had failed. Any other is left as it is: one that waits for a retry, a hold or a
            worker waits as before (`run_info` says for what).

        Raises:
            RunNotFoundError: There is no such run.
            InvalidRunStateError: The run is completed or cancelled, or what it did has been undone.
        """
        request = control_actions.Request(by=by, reason=reason)
        return await resuming.resume_run(self.services, RunId(run_id), request=request)

    async def signal(self, run_id: str, signal: Signal[SentT], value: SentT, *, signal_id: str = "") -> bool:
        """Send a run a value; it is as durable as the store once this returns.

        It goes to the item that waits for this signal (``Hold(until=signal)``), the one that has waited longest; where
        none does, it is kept until a node receives it.

        Args:
            run_id: The run; it need not have begun.
            signal: Which signal.
            value: Its value.
            signal_id: Tells this signal from all others of the run, so that it may be repeated: at most 200 printable
                characters; a random one if left out.

        Returns:
            Whether it is new; one whose id the run has accepted before changes nothing.

        Raises:
            RunNotFoundError: There is no such run; a `RunDeletedError` if it was deleted.
            InvalidRunStateError: The run is over.
            UnknownSignalError: Its workflow says which signals it takes, and this is none of them.
            SignalConflictError: The run has accepted another value under this id.
            MailboxFullError: The run has too many values that no node has received.
            CodecError: The value is not of the signal's type.
        """
        return await signals.send(self.services, signals.prepare(self.services, run_id, signal, value, signal_id))

    async def signal_many(
        self, signal: Signal[SentT], values: Mapping[str, SentT], *, signal_id: str = ""
    ) -> SignalReport:
        """Send many runs a value each, in grouped commits; what keeps one from getting it is reported.

        Args:
            signal: Which signal.
            values: The value for each run, by its id.
            signal_id: The id in each of the runs; with one, sending again what was cut short is safe.

        Raises:
            CodecError: A value is not of the signal's type; those before it were sent.
        """
        sendings = (
            signals.prepare(self.services, run_id, signal, value, signal_id) for run_id, value in values.items()
        )
        return await signals.send_all(self.services, sendings)

    async def delete(self, run_id: str) -> bool:
        """Delete a run that has ended, with everything the store has of it.

        What stays for a while is that it existed: its id is free again once `Retention.tombstone` is over.

        Returns:
            Whether it was there; deleting a run that was deleted does nothing.

        Raises:
            RunNotFoundError: There is no such run.
            InvalidRunStateError: The run has not ended.
        """
        return await retention.delete_run(self.services, RunId(run_id))

    # --- taking runs elsewhere

    async def export_run(self, run_id: str, path: str | Path) -> RunFileHead:
        """Write a run that is paused or has ended into a new file, with everything the store has of it.

        The run stays as it is. A paused one goes on from the file wherever it is imported: delete or cancel one of the
        two, or both go on.

        Raises:
            RunNotFoundError: There is no such run.
            InvalidRunStateError: It neither is paused nor has ended.
            RunChangedError: Workers still committed steps of it; wait, then repeat.
            RunFileError: There is such a file, or it cannot be written.
        """
        return await RunExport(self.services.session, self.services.store_id).write(RunId(run_id), Path(path))

    async def import_run(self, path: str | Path) -> RunFileHead:
        """Put an exported run into this store, as it was: paused, to be resumed, or ended.

        Until it is whole, it is not there. After an error or a crash it may be repeated.

        Raises:
            RunFileError: The file is none, is damaged, or of a newer release; the store was not touched.
            RunImportError: There is a run of this id, or was one not long ago.
        """
        return await RunImport(self.services.session).read(Path(path))

    # --- looking

    async def status(self, run_id: str) -> RunStatus:
        """Return a run's status.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return (await self.services.runs.load(RunId(run_id))).status

    async def run_info(self, run_id: str) -> views.RunInfo:
        """Return what is to be said of a run.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return await queries.run_info(self.services, RunId(run_id))

    async def list_runs(
        self,
        *,
        status: RunStatus | None = None,
        workflow: str | None = None,
        attributes: Attributes | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        limit: int = 50,
        cursor: str = "",
    ) -> views.RunPage:
        """Return runs, newest first, one page at a time; each page costs the same however many runs there are.

        A page that finds little among much ends early: it has fewer runs than asked for, even none, and the next one
        goes on behind them. Only an empty `next_cursor` is the end.

        Args:
            status: Only runs with this status.
            workflow: Only runs of this workflow.
            attributes: Only runs that have all of these, such as ``{"tenant": "acme"}``.
            started_after: Only runs started then or later; an aware instant.
            started_before: Only runs started earlier; the same.
            limit: Runs on the page, 1 to 1,000.
            cursor: `next_cursor` of the page before, with the same filters.

        Raises:
            InvalidAttributeError: No run can have such an attribute.
            DefinitionError: An instant has no time zone.
        """
        where = RunFilter(
            status=status, workflow=workflow, attributes=attributes or {}, started_after=started_after,
            started_before=started_before,
        )  # fmt: skip
        return await queries.list_runs(self.services, where, limit=limit, cursor=cursor)

    async def query(self, workflow: type[WorkflowDefinition[Any, Any, C]], run_id: str) -> RunView[C]:
        """Return a run seen from all sides: status, context, attributes, what it waits for, counters, live items.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return await view_of(self.services, RunId(run_id), cast("type[C]", graph_of(workflow).context))

    def events(self, run_id: str, *, after: str = "", follow: bool = True) -> AsyncGenerator[RunEvent]:
        """Go through what happens to a run, from its start until it has ended, as it happens.

            async for event in orchestrator.events("order-17"):
                match event:
                    case ItemCompleted(node="ship"):
                        print("shipped at", event.at)
                    case RunEnded(status=status):
                        print("it has", status)

        Events come once each and in the order of their commits; where workers' clocks differ, those of different
        kinds may be out of order by as much. A failed run ends the events; taken up again, it goes on behind them.

        Args:
            run_id: The run.
            after: `RunEvent.position` of the last event seen, to go on behind it, also in another process.
            follow: Whether to wait for what is yet to happen; else it ends with what has happened so far.

        Raises:
            RunNotFoundError: There is no such run, any more.
            DefinitionError: `after` is no position.
        """
        return run_events.events(self.services, self._waiters, RunId(run_id), after=after, follow=follow)

    async def children(self, run_id: str, *, limit: int = 100, cursor: str = "") -> ChildPage:
        """Return the runs that a run has started, in that order, one page at a time.

        Args:
            run_id: The parent.
            limit: Children on the page, 1 to 1,000.
            cursor: `next_cursor` of the page before.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return await list_children(self.services, RunId(run_id), limit=limit, cursor=cursor)

    async def metrics(self, run_id: str) -> views.RunMetrics:
        """Return a run's counters.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return views.metrics((await self.services.runs.load(RunId(run_id))).counts)

    async def errors(self, run_id: str, *, start: int = 0, limit: int = 100) -> Sequence[views.AttemptError]:
        """Return failed attempts of a run in the order they happened, from position `start` on."""
        return [
            views.attempt_error(record)
            for record in await self.services.items.errors(RunId(run_id), start=start, limit=limit)
        ]

    async def work_items(self, run_id: str, *, start: int = 0, limit: int = 100) -> Sequence[views.WorkItemInfo]:
        """Return a run's items from position `start` on: those that ended, in that order, then the live ones.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return await queries.work_items(self.services, RunId(run_id), start=start, limit=limit)

    async def pending_work(self, run_id: str, *, start: int = 0, limit: int = 100) -> Sequence[views.WorkItemInfo]:
        """Return a run's items that have not ended, from position `start` on.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return await queries.pending_work(self.services, RunId(run_id), start=start, limit=limit)

    async def context(self, workflow: type[WorkflowDefinition[Any, Any, C]], run_id: str) -> C:
        """Return a run's context as merged so far.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return (await self.checkpoint(workflow, run_id)).context

    async def checkpoint(self, workflow: type[WorkflowDefinition[Any, Any, C]], run_id: str) -> Checkpoint[C]:
        """Return what a run goes on from: its record, its context and its live items.

        Raises:
            RunNotFoundError: There is no such run.
        """
        kind = cast("type[C]", graph_of(workflow).context)
        services = self.services
        return await CheckpointStore(services.session, services.contexts, services.sealing).load(RunId(run_id), kind)

    async def workers(self) -> Sequence[views.WorkerInfo]:
        """Return every worker with how fresh its heartbeat is."""
        return await queries.workers(self.services)

    async def check_worker_liveness(self, worker_id: str) -> views.Liveness:
        """Return whether a worker is alive, stale or dead; an unknown one is dead."""
        for worker in await self.workers():
            if worker.worker_id == worker_id:
                return worker.liveness
        return views.Liveness.DEAD

    # --- dead letters

    async def dead_letters(self, *, after: str = "", limit: int = 100) -> Sequence[views.DeadLetterInfo]:
        """Return messages that the broker gave up on while an item waits for them, and those nobody could read.

        Args:
            after: Id of the last one seen; they come oldest first.
            limit: How many at most, 1 to 1,000.
        """
        limit = max(1, min(limit, queries.MAX_PAGE))
        return await dead_letter_actions.list_letters(self.services, after=after, limit=limit)

    async def dead_letter(self, letter_id: str) -> views.DeadLetterInfo:
        """Return one dead letter.

        Raises:
            DeadLetterNotFoundError: There is none of this id, or its item has gone on.
        """
        return await dead_letter_actions.show_letter(self.services, letter_id)

    async def requeue_dead_letter(self, letter_id: str) -> None:
        """Put the item of a dead letter on its way again; an unreadable message is published as it is.

        Raises:
            DeadLetterNotFoundError: There is none of this id, or its item has gone on.
            InvalidRunStateError: Its run is over.
            BrokerUnavailableError: An unreadable message could not be published; it stays where it is.
        """
        await dead_letter_actions.requeue_letter(self.services, letter_id)

    async def drop_dead_letter(self, letter_id: str) -> None:
        """Give the item of a dead letter up: it fails with `DeadLetterError`; an unreadable message is deleted.

        The failure takes the item's fallback edge, or fails the run.

        Raises:
            DeadLetterNotFoundError: There is none of this id, or its item has gone on.
            UnknownWorkflowError: This application lacks the run's workflow, which says what follows from a failure.
        """
        await dead_letter_actions.drop_letter(self.services, letter_id)

    async def quarantine(self, *, after: str = "", limit: int = 100) -> Sequence[Quarantined]:
        """Return messages nobody could read, oldest first, with their reasons; of long ones only the beginning."""
        return await self.services.quarantine.list(after=after, limit=limit)

    async def quarantined(self, quarantine_id: str) -> Quarantined | None:
        """Return a message nobody could read with all that is kept of it, or None where there is none of this id."""
        found = await self.services.quarantine.find(quarantine_id)
        return None if found is None else opened(self.services, found)
