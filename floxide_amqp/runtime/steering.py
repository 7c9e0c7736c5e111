"""The orchestrator's part that steers runs beyond cancel, pause and resume: by hand, from the past, many at once."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any, Unpack

from typing_extensions import TypeVar

from floxide_amqp.core.context import Context
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.runtime import by_hand, control_actions, showing, views
from floxide_amqp.runtime.bulk import BulkAction, BulkReport, ManyOptions, act_on_many
from floxide_amqp.runtime.by_hand import NOT_GIVEN, NotGiven
from floxide_amqp.runtime.control_actions import Request
from floxide_amqp.runtime.forking import ForkRequest, fork_run
from floxide_amqp.runtime.registry import graph_of
from floxide_amqp.runtime.run_filter import RunFilter
from floxide_amqp.runtime.run_handle import RunHandle
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.waiting import Waiters
from floxide_amqp.stores.audits import AuditStore

OutT = TypeVar("OutT")
C = TypeVar("C", bound=Context)


class Steering:
    """What an `Orchestrator` does to runs on somebody's word; each action is noted in the run's audit log.

    Everywhere `by` says who wants it, in the caller's own words (a user's name), and `reason` why.
    """

    services: Services
    _waiters: Waiters

    async def terminate(self, run_id: str, *, reason: str = "", by: str = "") -> bool:
        """End a run at once, as cancelled: as `cancel`, but nothing of what was done is undone, now or later.

        Returns:
            Whether it was alive; one that is over stays as it is.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return await control_actions.terminate_run(self.services, RunId(run_id), reason=reason, by=by)

    async def retry(self, run_id: str, *, input: Any | NotGiven = NOT_GIVEN, reason: str = "", by: str = "") -> None:
        """Let a failed run go on from what failed, its attempts counted anew.

        Args:
            run_id: The run.
            input: Another input for the item that failed, of the type its node takes; by default the one it had.
            reason: Why.
            by: Who wants it.

        Raises:
            RunNotFoundError: There is no such run.
            InvalidRunStateError: It has not failed, or what it did has been undone.
            WorkItemNotFoundError: An input is given, and no item of the run has failed: it failed by its timeout.
            CodecError: The input is not of the node's type.
            UnknownWorkflowError: An input is given, and this application lacks the run's workflow.
        """
        await by_hand.retry_run(self.services, RunId(run_id), Request(by=by, reason=reason), input)

    async def complete(self, run_id: str, output: Any, *, reason: str = "", by: str = "") -> None:
        """Complete a run by hand: with this output, whatever its items came to. What is in flight is interrupted.

        Args:
            run_id: The run; one that has failed, too.
            output: Its output, of the workflow's type; the list of all, where there may be several.
            reason: Why.
            by: Who wants it.

        Raises:
            RunNotFoundError: There is no such run.
            InvalidRunStateError: It is completed or cancelled, or what it did is undone or has been.
            CodecError: The output is not of the workflow's type.
            UnknownWorkflowError: This application lacks the run's workflow.
        """
        await by_hand.complete_run(self.services, RunId(run_id), output, Request(by=by, reason=reason))

    async def complete_item(self, run_id: str, item_id: str, output: Any, *, reason: str = "", by: str = "") -> None:
        """Give an item of a paused or failed run its output by hand: once resumed, the run goes on from there.

        The item's body does not run any more. One that is at work on it, unclaimed, is interrupted; what it comes to is
        refused.

        Args:
            run_id: The run, paused or failed.
            item_id: An item that has not ended; of a failed run, the one that failed, for instance.
            output: What its node would return.
            reason: Why.
            by: Who wants it.

        Raises:
            RunNotFoundError: There is no such run.
            WorkItemNotFoundError: The run has no such item, or it has ended.
            InvalidRunStateError: The run is neither paused nor failed, or a worker has the item.
            CodecError: The output is not of the node's type.
            UnknownWorkflowError: This application lacks the run's workflow.
        """
        request = Request(by=by, reason=reason)
        await by_hand.complete_item(self.services, RunId(run_id), WorkItemId(item_id), output, request)

    async def edit_context(
        self,
        workflow: type[WorkflowDefinition[Any, Any, C]],
        run_id: str,
        edit: Callable[[C], object],
        *,
        reason: str = "",
        by: str = "",
    ) -> None:
        """Change the context of a paused or failed run by hand, as one of its nodes would.

        Args:
            workflow: The run's workflow.
            run_id: The run, paused or failed.
            edit: Changes the context it is given. It is called again, with the context as it is then, if a step that
                was in flight has changed it meanwhile.
            reason: Why.
            by: Who wants it.

        Raises:
            RunNotFoundError: There is no such run.
            InvalidRunStateError: It is neither paused nor failed.
            ContextChangeError: No node could change that, such as a fixed field.
        """
        request = Request(by=by, reason=reason)
        await by_hand.edit_context(self.services, graph_of(workflow), RunId(run_id), edit, request)

    async def fork(
        self,
        workflow: type[WorkflowDefinition[Any, OutT, C]],
        run_id: str,
        *,
        from_item: str,
        new_run_id: str | None = None,
        input: Any | NotGiven = NOT_GIVEN,
        context: C | None = None,
        reason: str = "",
        by: str = "",
    ) -> RunHandle[OutT]:
        """Start a new run that begins with an item of another run's past, with the context as its body saw it.

        What came before the item is not repeated, nor what ran beside it. In a fan-out, its join gets what had arrived
        from the other elements. Forking again with the same ids returns the same run. The other run stays as it is.

        Args:
            workflow: The workflow of both.
            run_id: The run; it may be over or go on.
            from_item: One of its items that has ended; `work_items` lists them.
            new_run_id: The new run's id; a random one if left out.
            input: Another input for the item, of the type its node takes; by default the one it had.
            context: Another context; by default the one as of then.
            reason: Why.
            by: Who wants it.

        Raises:
            RunNotFoundError: There is no such run.
            ForkError: No run can begin there: the item has not ended, its input was not kept, the context as of then is
                trimmed away; the error says what can be done.
            RunConflictError: There is another run of the new id.
            CodecError: The input is not of the node's type.
        """
        graph = graph_of(workflow)
        asked = ForkRequest(
            run_id=RunId(run_id), item_id=WorkItemId(from_item), new_run_id=RunId(new_run_id or uuid.uuid4().hex),
            input=input, context=context, reply_to=self._waiters.key, request=Request(by=by, reason=reason),
        )  # fmt: skip
        await fork_run(self.services, graph, asked)
        return RunHandle(self.services, self._waiters, asked.new_run_id, graph)

    # --- many at once

    async def cancel_many(self, where: RunFilter, **how: Unpack[ManyOptions]) -> BulkReport:
        """Cancel all runs that a filter means, as `cancel` does, newest first; runs started meanwhile may be left out.

        A run for which it cannot be done keeps no other from its turn. It may be repeated, and so go on where it
        broke off: what is done already is left unchanged.

        Args:
            where: Which runs.
            how: See `ManyOptions`: a rate, a rehearsal, whom to tell of the progress, who wants it and why.

        Raises:
            ConfigurationError: The rate is none.
            StoreError: The runs could not be listed; what was done stays done.
        """
        return await act_on_many(self.services, BulkAction.CANCEL, where, **how)

    async def terminate_many(self, where: RunFilter, **how: Unpack[ManyOptions]) -> BulkReport:
        """Terminate all runs that a filter means, as `terminate` does; arguments and errors as of `cancel_many`."""
        return await act_on_many(self.services, BulkAction.TERMINATE, where, **how)

    async def pause_many(self, where: RunFilter, **how: Unpack[ManyOptions]) -> BulkReport:
        """Pause all runs that a filter means, as `pause` does; arguments and errors as of `cancel_many`."""
        return await act_on_many(self.services, BulkAction.PAUSE, where, **how)

    async def resume_many(self, where: RunFilter, **how: Unpack[ManyOptions]) -> BulkReport:
        """Resume all runs that a filter means, as `resume` does; arguments and errors as of `cancel_many`."""
        return await act_on_many(self.services, BulkAction.RESUME, where, **how)

    async def retry_many(self, where: RunFilter, **how: Unpack[ManyOptions]) -> BulkReport:
        """Retry all failed runs that a filter means, as `retry` does; arguments and errors as of `cancel_many`."""
        return await act_on_many(self.services, BulkAction.RETRY, where, **how)

    async def delete_many(self, where: RunFilter, **how: Unpack[ManyOptions]) -> BulkReport:
        """Delete all ended runs that a filter means, as `delete` does; arguments and errors as of `cancel_many`."""
        return await act_on_many(self.services, BulkAction.DELETE, where, **how)

    # --- looking

    async def audit_log(self, run_id: str, *, start: int = 0, limit: int = 100) -> Sequence[views.AuditEntry]:
        """Return what somebody did to a run, in the order it was done, from position `start` on.

        Raises:
            RunNotFoundError: There is no such run.
        """
        await self.services.runs.load(RunId(run_id))
        records = await AuditStore(self.services.session).read(RunId(run_id), start=start, limit=limit)
        return [showing.audit_entry(record) for record in records]
