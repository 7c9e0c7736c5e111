"""Transitions of whole runs that no node decides: their start, control actions, and ends by hand or by timeout.

Each function is pure and returns a `Decision` like those of `decide`. But for the start they check the run's epoch, and
raise it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from floxide_amqp.core.changes import Arrive, Change, Count, CountScope, PutHeader, PutItem, PutRun
from floxide_amqp.core.commit_conditions import EpochIs, NotDeleted, TurnIs
from floxide_amqp.core.compensation import end_or_undo, undo_timer
from floxide_amqp.core.decisions import RUN_ITSELF, Decision, Effects, Outgoing, message_entry
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import WorkerId
from floxide_amqp.core.place_changes import EnterBegun, EnterMessage, SetTimer
from floxide_amqp.core.plan import drop_deadline
from floxide_amqp.core.records import BY_HAND, Compensable, RunFailure, RunHeader, RunState, WorkItem
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.core.timers import Timer, TimerKind

IS_NEW: Final = (EpochIs(0), NotDeleted())
"""There is no such run, and was none not long ago."""

FIRST_COUNTED: Final = (CountScope(RUN_ITSELF, 1), Count("live", 1))
"""A run's first item, in its counters."""


def start_run(header: RunHeader, item: WorkItem, publisher: WorkerId, *, hook: Compensable | None = None) -> Decision:
    """A new run with its first item; refused where the run exists.

    `hook` stands for the node that is to run first, should the run be cancelled.
    """
    now = header.created_at_ms
    out = Outgoing(item, 1, message_entry(now, item.item_id, 1))
    changes: list[Change] = [
        PutHeader(header),
        PutRun(RunState(status=RunStatus.PENDING, updated_at_ms=now, deadline_ms=header.deadline_ms), None),
        PutItem(item, is_listed=True),
        *FIRST_COUNTED,
    ]
    effects = Effects(publish=(out,))
    if item.due_ms:  # it begins later
        timer = Timer(due_ms=item.due_ms, run_id=header.run_id, item_id=item.item_id, kind=TimerKind.HOLD, turn=1)
        effects = Effects(timer=timer)
        changes += (SetTimer(timer), Count("waiting", 1))
    else:
        changes.append(EnterMessage(item.queue, out.entry, item.item_id, 1, publisher))
    if hook is not None:
        changes += (EnterBegun(hook), Count("hooks", 1))
    if header.deadline_ms is not None:
        changes.append(SetTimer(Timer(due_ms=header.deadline_ms, run_id=header.run_id, kind=TimerKind.RUN_TIMEOUT)))
    conditions = (TurnIs(item.item_id, 0), *IS_NEW)
    return Decision(conditions=conditions, changes=tuple(changes), effects=effects, epoch_after=1)


def pause_run(run: RunState, epoch: int, now_ms: int, reason: str) -> Decision:
    """No new step begins from here on."""
    return _control(run, epoch, replace(run, status=RunStatus.PAUSED, updated_at_ms=now_ms, reason=reason))


def resume_run(header: RunHeader, run: RunState, epoch: int, now_ms: int, *, again_at_ms: int) -> Decision:
    """A paused or failed run goes on; its items are brought on their way one by one afterwards.

    A failed run has its whole timeout before it again; a paused one keeps its deadline. The other timer brings the
    items on their way again if whoever resumed the run did not get to the end of it.
    """
    timer = Timer(due_ms=again_at_ms, run_id=header.run_id, kind=TimerKind.RESUME, turn=epoch + 1)
    changes: list[Change] = [SetTimer(timer)]
    deadline_ms = run.deadline_ms
    if run.status is RunStatus.FAILED and header.deadline_ms is not None:
        deadline_ms = now_ms + header.deadline_ms - header.begins_at_ms
        changes.append(SetTimer(Timer(due_ms=deadline_ms, run_id=header.run_id, kind=TimerKind.RUN_TIMEOUT)))
    state = RunState(status=RunStatus.RUNNING, updated_at_ms=now_ms, deadline_ms=deadline_ms, version=run.version)
    decision = _control(run, epoch, state, changes)
    return replace(decision, effects=Effects(timer=timer))


def cancel_run(header: RunHeader, run: RunState, epoch: int, now_ms: int, reason: str) -> Decision:
    """The run ends, once what was done is undone; late commits are refused."""
    state = RunState(
        status=RunStatus.CANCELLED, updated_at_ms=now_ms, finished_at_ms=now_ms, reason=reason, version=run.version
    )
    return _end_or_undo(header, run, epoch, state)


def terminate_run(header: RunHeader, run: RunState, epoch: int, now_ms: int, reason: str) -> Decision:
    """The run ends as it is, and nothing is undone; late commits are refused."""
    state = RunState(
        status=RunStatus.CANCELLED, updated_at_ms=now_ms, finished_at_ms=now_ms, reason=reason,
        was_undone=run.was_undone or run.status is RunStatus.COMPENSATING, version=run.version,
    )  # fmt: skip
    return _control(run, epoch, state, drop_deadline(header.run_id, run))


def fail_run(
    header: RunHeader, run: RunState, epoch: int, now_ms: int, failure: RunFailure, *, undoes: bool = True
) -> Decision:
    """The run fails for a reason that is not an item's own: its timeout.

    Without `undoes` it fails as it is, and resuming it goes on with what it was about, be it to undo what was done.
    """
    state = RunState(
        status=RunStatus.FAILED, updated_at_ms=now_ms, finished_at_ms=now_ms, failure=failure, ends_as=run.ends_as,
        version=run.version,
    )  # fmt: skip
    if undoes and run.ends_as is None:
        return _end_or_undo(header, run, epoch, state)
    return _control(run, epoch, state, drop_deadline(header.run_id, run))


def resume_undoing(header: RunHeader, run: RunState, epoch: int, now_ms: int) -> Decision:
    """A run that has failed while it undid what was done goes on with that."""
    state = replace(run, status=RunStatus.COMPENSATING, updated_at_ms=now_ms, finished_at_ms=None)
    timer = undo_timer(header.run_id, epoch + 1, now_ms)
    return replace(_control(run, epoch, state, (SetTimer(timer),)), effects=Effects(timer=timer))


def complete_run(
    header: RunHeader, run: RunState, epoch: int, now_ms: int, outputs: Sequence[bytes], reason: str
) -> Decision:
    """The run is completed with outputs that somebody gives it, whatever its items came to."""
    state = RunState(
        status=RunStatus.COMPLETED, updated_at_ms=now_ms, finished_at_ms=now_ms, reason=reason, is_by_hand=True,
        version=run.version,
    )  # fmt: skip
    arrived = [Arrive(BY_HAND, (n,), header.start_item, payload) for n, payload in enumerate(outputs)]
    return _control(run, epoch, state, (*arrived, *drop_deadline(header.run_id, run)))


def _end_or_undo(header: RunHeader, run: RunState, epoch: int, state: RunState) -> Decision:
    return Decision(
        conditions=(EpochIs(epoch),),
        changes=end_or_undo(header, run, state, epoch, drop_deadline(header.run_id, run)),
        effects=Effects(finished=state.status),
        epoch_after=epoch + 1,
        undoing=Effects(timer=undo_timer(header.run_id, epoch + 1, state.updated_at_ms)),
    )


def _control(run: RunState, epoch: int, state: RunState, more: Sequence[Change] = ()) -> Decision:
    finished = state.status if state.status.is_terminal else None
    return Decision(
        conditions=(EpochIs(epoch),),
        changes=(PutRun(state, run.status), *more),
        effects=Effects(finished=finished),
        epoch_after=epoch + 1,
    )
