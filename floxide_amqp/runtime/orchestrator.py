"""The API client: starts runs, waits for them, steers them, and shows what is going on.

It holds no state of its own: what it says, it reads from the store. Any number of orchestrators may work on the same
runs.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, cast

from typing_extensions import TypeVar

from floxide_amqp.core.context import Context
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.records import Quarantined
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.exceptions import ResultTimeoutError, UnreadableRecordError
from floxide_amqp.runtime import control_actions, dead_letter_actions, resuming, retention, starting, views
from floxide_amqp.runtime.deaths import is_gone
from floxide_amqp.runtime.messages import ControlKind
from floxide_amqp.runtime.publishing import publish_many
from floxide_amqp.runtime.registry import graph_of
from floxide_amqp.runtime.results import result_of
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.waiting import Waiters
from floxide_amqp.stores import keys
from floxide_amqp.stores.checkpoints import Checkpoint, CheckpointStore
from floxide_amqp.stores.runs import StoredRun

InT = TypeVar("InT")
OutT = TypeVar("OutT")
O_co = TypeVar("O_co", covariant=True)
C = TypeVar("C", bound=Context)

STALE_BEATS = 3
"""Heartbeats missed after which a worker is shown as stale."""

ANNOUNCED = 500
"""Runs that one start message names at most, so that it stays small."""

MAX_PAGE = 1_000
"""Runs, items or errors on one page at most."""


@dataclass(frozen=True, slots=True)
class Start(Generic[InT]):
    """One run for `Orchestrator.start_many`: input, and optionally context and id."""

    input: InT
    context: Context | None = None
    run_id: str | None = None


class RunHandle(Generic[O_co]):
    """A run, to wait for and to steer."""

    def __init__(self, orchestrator: Orchestrator, run_id: str, graph: Graph) -> None:
        self._orchestrator = orchestrator
        self.graph = graph
        self.run_id = run_id

    def __repr__(self) -> str:
        return f"<RunHandle {self.run_id!r} of {self.graph.workflow}>"

    async def result(self, timeout: timedelta | float | None = None) -> O_co:
        """Wait for the run's end and return its output.

        Args:
            timeout: Longest wait, `timedelta` or seconds; None for as long as it takes.

        Raises:
            RunFailedError: The run failed; the attributes tell node, item, error and attempts.
            RunTimeoutError: The run failed by its own timeout.
            RunCancelledError: The run was cancelled.
            RunDeletedError: The run ended and was deleted since, with its result.
            ResultTimeoutError: It has not ended within `timeout`; it goes on.
        """
        run = await self._orchestrator.wait_stored(RunId(self.run_id), timeout)
        return cast("O_co", await result_of(self._orchestrator.services, self.graph, run))

    async def wait(self, timeout: timedelta | float | None = None) -> RunStatus:
        """Wait for the run's end and return its status.

        Raises:
            ResultTimeoutError: It has not ended within `timeout`; it goes on.
        """
        return (await self._orchestrator.wait_stored(RunId(self.run_id), timeout)).state.status

    async def status(self) -> RunStatus:
        """Return the run's status now."""
        return await self._orchestrator.status(self.run_id)

    async def cancel(self, reason: str = "") -> bool:
        """Cancel the run; see `Orchestrator.cancel`."""
        return await self._orchestrator.cancel(self.run_id, reason=reason)

    async def pause(self, reason: str = "") -> None:
        """Pause the run; see `Orchestrator.pause`."""
        await self._orchestrator.pause(self.run_id, reason=reason)

    async def resume(self) -> None:
        """Resume the run; see `Orchestrator.resume`."""
        await self._orchestrator.resume(self.run_id)

    async def delete(self) -> None:
        """Delete the run, which has ended; see `Orchestrator.delete`."""
        await self._orchestrator.delete(self.run_id)


class Orchestrator:
    """Starts and steers runs. Get one from ``Floxide.orchestrator()``.

    Args:
        services: The process's parts.
        hears_all: Listen to the ends of all runs, not only of those started here.
        key: Routing key of this client's events; by default one that nobody else has.
    """

    def __init__(self, services: Services, *, hears_all: bool = False, key: str = "") -> None:
        self.services = services
        self._waiters = Waiters(services, key or f"client.{uuid.uuid4().hex}", hears_all=hears_all)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Orchestrator]:
        """Listen for the ends of runs while the block is open."""
        async with self._waiters.listening():
            yield self

    # --- starting

    async def start(
        self,
        workflow: type[WorkflowDefinition[InT, OutT, C]],
        input: InT,
        *,
        context: C | None = None,
        run_id: str | None = None,
    ) -> RunHandle[OutT]:
        """Store a run and send its first message; returns once the run is as durable as the store.

        Starting again with the same id, workflow, input and context returns the same run. Of one that was deleted not
        long ago it returns a handle too, whose methods say so; nothing runs then.

        Args:
            workflow: The workflow.
            input: Its input.
            context: The run's initial state; may be left out where every field has a default.
            run_id: The caller's id, 1 to 200 printable characters; a random one if left out.

        Raises:
            RunConflictError: A run with this id was started with something else.
            InvalidRunIdError: The id cannot be one.
            CodecError: The input is not of the workflow's type.
        """
        (handle,) = await self.start_many(workflow, [Start(input, context, run_id)])
        return handle

    async def start_many(
        self, workflow: type[WorkflowDefinition[InT, OutT, C]], starts: Iterable[Start[InT]]
    ) -> list[RunHandle[OutT]]:
        """Store many runs in grouped commits and send their first messages; each start is idempotent on its own.

        Raises:
            RunConflictError: One of the ids is taken by another run; the others are started all the same.
        """
        services, graph = self.services, graph_of(workflow)
        requests = [
            starting.prepare(
                services, graph, each.input, each.context, RunId(each.run_id or uuid.uuid4().hex), self._waiters.key
            )
            for each in starts
        ]
        stored = await asyncio.gather(
            *(starting.store(services, request) for request in requests), return_exceptions=True
        )
        outgoing = [
            (request.header, out)
            for request, out in zip(requests, stored, strict=True)
            if out is not None and not isinstance(out, BaseException)
        ]
        if outgoing:
            for first in range(0, len(outgoing), ANNOUNCED):
                ids = [header.run_id for header, _ in outgoing[first : first + ANNOUNCED]]
                await services.broadcast(ControlKind.START, *ids, workflow=graph.workflow, version=graph.version)
            await publish_many(services, outgoing)
        for result in stored:
            if isinstance(result, BaseException):
                raise result
        return [RunHandle(self, request.header.run_id, graph) for request in requests]

    def handle(self, workflow: type[WorkflowDefinition[Any, OutT, Any]], run_id: str) -> RunHandle[OutT]:
        """Return a handle of a run started elsewhere; nothing is read until it is used."""
        return RunHandle(self, run_id, graph_of(workflow))

    # --- waiting

    async def wait(self, run_id: str, timeout: timedelta | float | None = None) -> RunStatus:
        """Wait for a run's end and return its status.

        Raises:
            RunNotFoundError: There is no such run.
            ResultTimeoutError: It has not ended within `timeout`; it goes on.
        """
        return (await self.wait_stored(RunId(run_id), timeout)).state.status

    async def wait_stored(self, run_id: RunId, timeout: timedelta | float | None = None) -> StoredRun:
        """Wait for a run's end and return it as stored; events wake, the store tells."""
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        loop = asyncio.get_running_loop()
        until = None if seconds is None else loop.time() + seconds
        async with self._waiters.expecting(run_id) as heard:
            while True:
                run = await self.services.runs.load(run_id)
                if run.state.status.is_terminal:
                    return run
                pause = self.services.timeouts.result_backstop
                if until is not None:
                    left = until - loop.time()
                    if left <= 0:
                        raise ResultTimeoutError(run_id=run_id, timeout_seconds=seconds or 0.0, status=run.status.value)
                    pause = min(pause, max(left, 0.001))  # a clock may be too coarse for less, and this would spin
                try:
                    await asyncio.wait_for(heard.wait(), pause)
                except TimeoutError:
                    continue
                heard.clear()

    # --- steering

    async def cancel(self, run_id: str, *, reason: str = "") -> bool:
        """Cancel a run: steps in flight are interrupted, queued ones never run, late commits are refused.

        Returns:
            Whether it was alive; cancelling a run that is over does nothing.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return await control_actions.cancel_run(self.services, RunId(run_id), reason=reason)

    async def pause(self, run_id: str, *, reason: str = "") -> None:
        """Pause a run: steps in flight end and are committed, nothing new begins.

        Raises:
            RunNotFoundError: There is no such run.
            InvalidRunStateError: The run is over.
        """
        await control_actions.pause_run(self.services, RunId(run_id), reason=reason)

    async def resume(self, run_id: str) -> None:
        """Let a paused or failed run go on; failed items become pending again, their attempts reset.

        A run that is running is left as it is.

        Raises:
            RunNotFoundError: There is no such run.
            InvalidRunStateError: The run is completed or cancelled.
        """
        await resuming.resume_run(self.services, RunId(run_id))

    async def delete(self, run_id: str) -> None:
        """Delete a run that has ended, with everything the store has of it.

        What stays for a while is that it existed: its id is free again once `Retention.tombstone` is over. Deleting a
        run that was deleted does nothing.

        Raises:
            RunNotFoundError: There is no such run.
            InvalidRunStateError: The run has not ended.
        """
        await retention.delete_run(self.services, RunId(run_id))

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
        return views.run_info(await self.services.runs.load(RunId(run_id)))

    async def list_runs(
        self, *, status: RunStatus | None = None, workflow: str | None = None, limit: int = 50, cursor: str = ""
    ) -> views.RunPage:
        """Return runs, newest first, one page at a time; each page costs the same however many runs there are.

        Args:
            status: Only runs with this status.
            workflow: Only runs of this workflow.
            limit: Runs on the page, 1 to 1,000.
            cursor: `next_cursor` of the page before.
        """
        found: list[views.RunInfo] = []
        unreadable: list[views.UnreadableRun] = []
        limit = max(1, min(limit, MAX_PAGE))
        after = cursor
        while len(found) < limit:
            entries = await self.services.runs.list_ids(status=status, workflow=workflow, after=after, limit=limit)
            runs = await asyncio.gather(*(self._find_or_why(keys.run_of(entry)) for entry, _ in entries))
            for (entry, _), run in zip(entries, runs, strict=True):
                after = entry
                if isinstance(run, views.UnreadableRun):
                    unreadable.append(run)
                    continue
                fits = run is not None and status in (None, run.status) and workflow in (None, run.header.workflow)
                if run is not None and fits:
                    found.append(views.run_info(run))
                if len(found) == limit:
                    return views.RunPage(runs=found, next_cursor=after, unreadable=unreadable)
            if len(entries) < limit:
                return views.RunPage(runs=found, next_cursor="", unreadable=unreadable)
        return views.RunPage(runs=found, next_cursor=after, unreadable=unreadable)

    async def _find_or_why(self, run_id: RunId) -> StoredRun | views.UnreadableRun | None:
        try:
            return await self.services.runs.find(run_id)
        except UnreadableRecordError as error:
            return views.UnreadableRun(run_id=run_id, problem=error.problem)

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
        ended = await self.services.items.history(RunId(run_id), start=start, limit=limit)
        shown = [views.ended_item(entry) for entry in ended]
        if len(shown) < limit:
            passed = max(0, start - await self.services.items.history_length(RunId(run_id))) if start else 0
            shown += await self.pending_work(run_id, start=passed, limit=limit - len(shown))
        return shown

    async def pending_work(self, run_id: str, *, start: int = 0, limit: int = 100) -> Sequence[views.WorkItemInfo]:
        """Return a run's items that have not ended, from position `start` on.

        Raises:
            RunNotFoundError: There is no such run.
        """
        run = await self.services.runs.load(RunId(run_id))
        entries = (await self.services.items.live_entries(RunId(run_id), limit=start + limit))[start:]
        try:
            found = await self.services.items.find(RunId(run_id), [item_id for item_id, _ in entries])
        except UnreadableRecordError:
            return await asyncio.gather(*(self._live_or_why(run, *entry) for entry in entries))
        return [views.live_item(each.item, run.state.status) for each in found if each is not None]

    async def _live_or_why(self, run: StoredRun, item_id: WorkItemId, letters: bytes) -> views.WorkItemInfo:
        try:
            (found,) = await self.services.items.find(run.header.run_id, (item_id,))
        except UnreadableRecordError as error:
            return views.unreadable_item(item_id, letters, error.problem)
        if found is None:
            return views.unreadable_item(item_id, letters, "It has ended since the list was read.")
        return views.live_item(found.item, run.state.status)

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
        return await CheckpointStore(self.services.session).load(RunId(run_id), kind)

    async def workers(self) -> Sequence[views.WorkerInfo]:
        """Return every worker with how fresh its heartbeat is."""
        now = self.services.now_ms()
        return [
            views.worker_info(record, self._liveness(now - record.at_ms, gone=is_gone(record)))
            for record in await self.services.liveness.all()
        ]

    async def check_worker_liveness(self, worker_id: str) -> views.Liveness:
        """Return whether a worker is alive, stale or dead; an unknown one is dead."""
        for worker in await self.workers():
            if worker.worker_id == worker_id:
                return worker.liveness
        return views.Liveness.DEAD

    def _liveness(self, silent_ms: int, *, gone: bool) -> views.Liveness:
        timeouts = self.services.timeouts
        if gone or silent_ms >= timeouts.dead_after * 1000:
            return views.Liveness.DEAD
        return views.Liveness.STALE if silent_ms >= STALE_BEATS * timeouts.heartbeat * 1000 else views.Liveness.ALIVE

    # --- dead letters

    async def dead_letters(self, *, after: str = "", limit: int = 100) -> Sequence[views.DeadLetterInfo]:
        """Return messages that the broker gave up on while an item waits for them, and those nobody could read.

        Args:
            after: Id of the last one seen; they come oldest first.
            limit: How many at most, 1 to 1,000.
        """
        limit = max(1, min(limit, MAX_PAGE))
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
        return await self.services.quarantine.find(quarantine_id)
