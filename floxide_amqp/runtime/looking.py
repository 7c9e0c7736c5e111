"""The orchestrator's part that looks: at runs and their items, and at workers and versions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any, cast

from typing_extensions import TypeVar

from floxide_amqp.core.attributes import Attributes
from floxide_amqp.core.context import Context
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.runtime import queries, run_events, showing, views
from floxide_amqp.runtime.kin_views import ChildPage, list_children
from floxide_amqp.runtime.registry import graph_of
from floxide_amqp.runtime.run_events import RunEvent
from floxide_amqp.runtime.run_filter import RunFilter
from floxide_amqp.runtime.run_view import RunView, view_of
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.version_views import VersionInfo, list_versions
from floxide_amqp.runtime.waiting import Waiters
from floxide_amqp.stores.checkpoints import Checkpoint, CheckpointStore

C = TypeVar("C", bound=Context)


class Looking:
    """What an `Orchestrator` shows of runs, read from the store when it is asked; nothing is changed."""

    services: Services
    _waiters: Waiters

    async def versions(self, *, workflow: str | None = None) -> Sequence[VersionInfo]:
        """Return the versions of workflows: how many open runs each has, which workers serve it, what is parked.

        Args:
            workflow: Only versions of this workflow.
        """
        return await list_versions(self.services, workflow=workflow)

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
        return showing.metrics((await self.services.runs.load(RunId(run_id))).counts)

    async def errors(self, run_id: str, *, start: int = 0, limit: int = 100) -> Sequence[views.AttemptError]:
        """Return failed attempts of a run in the order they happened, from position `start` on."""
        return [
            showing.attempt_error(record)
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
