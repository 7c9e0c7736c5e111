"""The API client: starts runs, waits for them, steers them, and shows what is going on.

It holds no state of its own: what it says, it reads from the store. Any number of orchestrators may work on the same
runs.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from typing_extensions import TypeVar

from floxide_amqp.core.attributes import Attributes
from floxide_amqp.core.context import Context
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.priorities import Priority
from floxide_amqp.core.signals import Signal
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.exceptions import UnknownWorkflowError
from floxide_amqp.runtime import control_actions, resuming, retention, signals
from floxide_amqp.runtime.letter_kinds import KINDS
from floxide_amqp.runtime.letters import delivering
from floxide_amqp.runtime.limit_views import LimitKeys
from floxide_amqp.runtime.looking import Looking
from floxide_amqp.runtime.many_starts import check_all, store_parts
from floxide_amqp.runtime.registry import graph_of
from floxide_amqp.runtime.run_handle import RunHandle
from floxide_amqp.runtime.salvaging import Salvaging
from floxide_amqp.runtime.schedules import Schedules
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.set_aside_items import SetAsideItems
from floxide_amqp.runtime.signals import SignalReport
from floxide_amqp.runtime.sources import Sources
from floxide_amqp.runtime.start import Start
from floxide_amqp.runtime.steering import Steering
from floxide_amqp.runtime.waiting import Waiters
from floxide_amqp.stores.exporting import RunExport
from floxide_amqp.stores.importing import RunImport
from floxide_amqp.stores.run_file import RunFileHead

InT = TypeVar("InT")
OutT = TypeVar("OutT")
C = TypeVar("C", bound=Context)
SentT = TypeVar("SentT")


class Orchestrator(Steering, Looking, Salvaging):
    """Starts and steers runs. Get one from ``Floxide.orchestrator()``.

    Args:
        services: The process's parts.
        hears_all: Listen to the ends of all runs, not only of those started here.
        is_alone: Whether nobody else has the store, so that nobody runs what this application lacks.
        key: Routing key of this client's events; by default one that nobody else has.
    """

    def __init__(self, services: Services, *, hears_all: bool = False, is_alone: bool = False, key: str = "") -> None:
        self.services = services
        self._is_alone = is_alone
        self._waiters = Waiters(services, key or f"client.{secrets.token_hex(16)}", hears_all=hears_all)

    @property
    def limits(self) -> LimitKeys:
        """Concurrency keys: who holds them, who waits, and how many may."""
        return LimitKeys(self.services)

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

        Ids, inputs, contexts, attributes and times are checked first: where one of them cannot be one, no run is
        stored. Then the runs are stored a few thousand at a time.

        Args:
            workflow: The workflow of all of them.
            starts: Taken once. What is made as it is taken, by a generator, is let go as soon as it is encoded.

        Returns:
            A handle for each start, in their order.

        Raises:
            RunConflictError: One of the ids is taken by another run; the others are started all the same.
            RunDeletedError: One of the runs ended and was deleted not long ago; the others are started all the same.
            UnknownWorkflowError: The application, which has neither broker nor lasting store, lacks the workflow.
            InvalidRunIdError, CodecError, InvalidAttributeError, DefinitionError: As `start`, for the first that cannot
                be started; nothing is stored.
            StoreUnavailableError: The store went away; some of the runs may be started, those behind them are not.
        """
        services, graph = self.services, graph_of(workflow)
        if self._is_alone and not services.registry.has(graph.workflow, graph.version):
            raise UnknownWorkflowError(workflow=f"{graph.workflow}@{graph.version}", known=services.registry.names())
        checked = await check_all(services, graph, starts, self._new_run_id)
        claimed = await store_parts(services, graph, checked, self._waiters.key)
        return [
            RunHandle(services, self._waiters, claim.run_id, graph, deduplicated=claim.is_earlier) for claim in claimed
        ]

    def _new_run_id(self) -> RunId:
        run_id = RunId(secrets.token_hex(16))
        self._waiters.begins(run_id)
        return run_id

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
        return (await self._waiters.wait_for_end(RunId(run_id), timeout)).status

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
            InvalidRunStateError: The run has not ended, or what it has to tell other runs cannot be delivered yet.
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
