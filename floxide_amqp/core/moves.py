"""Transitions of items and runs that no node decides: claims, wakes, returns, control actions.

Each function is pure and returns a `Decision` like those of `decide`: conditions, changes, effects. They check the
item's turn, and the run's epoch where the run's status matters.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from floxide_amqp.core.changes import (
    Arrive,
    Change,
    Count,
    CountScope,
    DropDeadLetter,
    DropTimer,
    EnterBegun,
    EnterMessage,
    EnterOwner,
    EnterParked,
    EpochIs,
    LeaveMessage,
    LeaveOwner,
    LeaveParked,
    NotDeleted,
    PutHeader,
    PutItem,
    PutRun,
    ScopeIsOpen,
    SetTimer,
    TurnIs,
)
from floxide_amqp.core.compensation import begin, end_or_undo, undo_timer
from floxide_amqp.core.decisions import RUN_ITSELF, Decision, Effects, MessageAnchor, Outgoing, message_entry
from floxide_amqp.core.ids import RunId, ScopeId, WorkerId
from floxide_amqp.core.kin import waits_for_child
from floxide_amqp.core.plan import drop_deadline
from floxide_amqp.core.rates import waits_for_rate
from floxide_amqp.core.records import BY_HAND, Compensable, RunFailure, RunHeader, RunState, Timer, TimerKind, WorkItem
from floxide_amqp.core.signal_waits import leave_waits
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus

if TYPE_CHECKING:
    from floxide_amqp.core.graph import GraphNode


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
        CountScope(RUN_ITSELF, 1),
        Count("live", 1),
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
    conditions = (TurnIs(item.item_id, 0), EpochIs(0), NotDeleted())
    return Decision(conditions=conditions, changes=tuple(changes), effects=effects, epoch_after=1)


def claim(
    item: WorkItem,
    turn: int,
    epoch: int,
    worker: WorkerId,
    *,
    at_most_once: bool = False,
    spared: bool = False,
    lead: Sequence[Change] = (),
    nodes: Mapping[str, GraphNode] | None = None,
    scopes: Sequence[ScopeId] = (),
) -> Decision:
    """A worker becomes the owner of an item before it runs it, held by the message in its hands.

    `lead` enters an entry for that message where it came without one.

    A claim of an `at_most_once` node counts as a death until it ends: whoever finds the item later need not know how
    its owner was lost to know that the body may have run.

    With `spared` the death of this owner will not count: the item is suspect, but not alone.

    By `nodes`, of its graph, it is noted what undoes the item, since its body may run from now on; None if it will not.

    Refused where one of `scopes` was closed: what is left in it is about to be cancelled.
    """
    deaths = max(item.deaths, 1) if at_most_once else item.deaths
    owned = replace(
        item, status=WorkItemStatus.IN_PROGRESS, owner=worker, anchored=False, note="", deaths=deaths, spared=spared
    )
    owned, begun = (owned, ()) if nodes is None else begin(owned, nodes)
    return Decision(
        conditions=(TurnIs(item.item_id, turn), EpochIs(epoch), *map(ScopeIsOpen, scopes)),
        changes=(PutItem(owned, is_listed=True), *begun, *lead),
        effects=Effects(keep=owned),
        epoch_after=epoch,
    )


def anchor(item: WorkItem, turn: int, worker: WorkerId, message: MessageAnchor) -> Decision:
    """An owner entry takes the message's place, so that the message can be acknowledged while the item runs on."""
    owned = replace(item, status=WorkItemStatus.IN_PROGRESS, owner=worker, anchored=True)
    return Decision(
        conditions=(TurnIs(item.item_id, turn),),
        changes=(PutItem(owned, is_listed=True), EnterOwner(worker, item.item_id), *forget_message(message)),
        effects=Effects(keep=owned),
    )


def have_company(item: WorkItem, turn: int) -> Decision:
    """An item that ran alone for long goes on beside others: its owner's death counts no more."""
    owned = replace(item, spared=True)
    return Decision(
        conditions=(TurnIs(item.item_id, turn),), changes=(PutItem(owned, is_listed=True),), effects=Effects(keep=owned)
    )


def forget_message(message: MessageAnchor) -> tuple[Change, ...]:
    """The changes that forget a message's entry."""
    return (LeaveMessage(message.queue, message.entry),) if message.entry else ()


def give_back(
    item: WorkItem,
    turn: int,
    run: RunState,
    epoch: int,
    now_ms: int,
    publisher: WorkerId,
    *,
    died: bool,
    forget: Sequence[Change] = (),
) -> Decision:
    """An owned item becomes pending again, because its owner died or hands it back.

    `died` says whether the owner died on it, since deaths are counted; `forget` takes away what led to it.
    """
    pending = replace(
        item, status=WorkItemStatus.PENDING, owner=WorkerId(""), anchored=False, spared=False,
        deaths=item.deaths + (died and not item.spared), lost=item.lost + died,
    )  # fmt: skip
    cleanup = (LeaveOwner(item.owner, item.item_id), *forget) if item.owner else tuple(forget)
    return repend(item, pending, turn, run, epoch, now_ms, publisher, cleanup=cleanup)


def wake(item: WorkItem, timer: Timer, run: RunState, epoch: int, now_ms: int, publisher: WorkerId) -> Decision:
    """A waiting item becomes pending because its timer is due; of a hold, but not of a late start, it is told so."""
    is_held = item.status is WorkItemStatus.HELD
    is_at_rate = bool(waits_for_rate(item.waits_for))
    knows = item.timed_out and (is_at_rate or not is_held)  # since before it waited for its rate, or its next try
    is_over = is_held and not is_at_rate and (bool(item.waits_for) or not item.note)
    pending = replace(
        item, status=WorkItemStatus.PENDING, due_ms=0, waits_for="", parked_ms=0, note="",
        timed_out=knows or is_over,
    )  # fmt: skip
    cleanup: list[Change] = [DropTimer(timer), Count("waiting", -1), *leave_waits(item)]
    return repend(item, pending, timer.turn, run, epoch, now_ms, publisher, cleanup=cleanup)


def unpark(
    item: WorkItem,
    turn: int,
    run: RunState,
    epoch: int,
    now_ms: int,
    publisher: WorkerId,
    leave: LeaveParked | DropDeadLetter,
) -> Decision:
    """A parked item becomes pending: a worker has its node, or somebody requeued its dead letter."""
    pending = replace(item, status=WorkItemStatus.PENDING, note="", parked_ms=0)
    return repend(item, pending, turn, run, epoch, now_ms, publisher, cleanup=(leave, Count("waiting", -1)))


def reset(
    item: WorkItem, turn: int, run: RunState, epoch: int, now_ms: int, publisher: WorkerId, *, run_id: RunId
) -> Decision:
    """An item of a run that is resumed becomes pending again; its attempts start from zero if it had failed."""
    failed = item.status is WorkItemStatus.FAILED
    child = "" if failed or waits_for_child(item.waits_for) is None else item.waits_for  # it may have ended well
    pending = replace(
        item,
        status=WorkItemStatus.PENDING,
        owner=WorkerId(""),
        anchored=False,
        spared=False,
        lost=0 if failed else item.lost,
        due_ms=0,
        waits_for=child,
        parked_ms=0,
        note="",
        attempt=0 if failed else item.attempt,
        deaths=0 if failed else item.deaths,
    )
    cleanup: list[Change] = []
    if item.status in (WorkItemStatus.WAITING_RETRY, WorkItemStatus.PARKED) or (
        item.status is WorkItemStatus.HELD and item.has_wake
    ):
        cleanup.append(Count("waiting", -1))
        kind = TimerKind.HOLD if item.status is WorkItemStatus.HELD else TimerKind.RETRY
        cleanup.append(DropTimer(Timer(due_ms=item.due_ms, run_id=run_id, item_id=item.item_id, kind=kind, turn=turn)))
    elif item.status is WorkItemStatus.HELD:
        cleanup += (Count("held", -1), Count("live", 1), CountScope(item.scope, 1))
    if item.owner:
        cleanup.append(LeaveOwner(item.owner, item.item_id))
    cleanup += leave_waits(item)
    return repend(item, pending, turn, run, epoch, now_ms, publisher, cleanup=cleanup)


def repend(
    item: WorkItem,
    pending: WorkItem,
    turn: int,
    run: RunState,
    epoch: int,
    now_ms: int,
    publisher: WorkerId,
    *,
    cleanup: Sequence[Change],
) -> Decision:
    """Put an item pending, with a message unless its run is paused (then resuming the run publishes it)."""
    changes: list[Change] = [PutItem(pending, is_listed=True), *cleanup]
    publish: tuple[Outgoing, ...] = ()
    if run.is_at_work_on(pending):
        out = Outgoing(pending, turn + 1, message_entry(now_ms, item.item_id, turn + 1))
        changes.append(EnterMessage(pending.queue, out.entry, item.item_id, out.turn, publisher))
        publish = (out,)
    return Decision(
        conditions=(TurnIs(item.item_id, turn), EpochIs(epoch)),
        changes=tuple(changes),
        effects=Effects(publish=publish),
        epoch_after=epoch,
    )


def park(
    item: WorkItem,
    turn: int,
    epoch: int,
    kind: tuple[str, str, str],
    message: MessageAnchor,
    *,
    note: str,
    now_ms: int,
    at_most_once: bool = False,
) -> Decision:
    """An item waits in the store for a worker that has what `kind` names; whoever held it holds it no more.

    Its body has not run: a claim of an `at_most_once` node is no death.
    """
    parked = replace(
        item, status=WorkItemStatus.PARKED, owner=WorkerId(""), anchored=False, note=note, parked_ms=now_ms,
        deaths=0 if at_most_once else item.deaths,
    )  # fmt: skip
    workflow, version, node = kind
    return Decision(
        conditions=(TurnIs(item.item_id, turn), EpochIs(epoch)),
        changes=(
            PutItem(parked, is_listed=True),
            EnterParked(item.queue, workflow, version, node, item.item_id),
            Count("waiting", 1),
            *((LeaveOwner(item.owner, item.item_id),) if item.owner else ()),
            *forget_message(message),
        ),
        epoch_after=epoch,
    )


def republish(
    item: WorkItem, turn: int, at_ms: int, publisher: WorkerId, forget: Sequence[Change], *, tries: int = 0
) -> Decision:
    """A pending item gets a new message in place of one that is lost; its turn stays.

    Only a probe sent after `at_ms` can find that this one is lost too; `tries` counts the messages lost so far.
    """
    out = Outgoing(item, turn, message_entry(at_ms, item.item_id, turn), recovered=True, tries=tries)
    return Decision(
        conditions=(TurnIs(item.item_id, turn),),
        changes=(*forget, EnterMessage(item.queue, out.entry, item.item_id, turn, publisher, tries)),
        effects=Effects(publish=(out,)),
    )


def next_try_ms(item: WorkItem, now_ms: int, period_ms: int) -> int:
    """Return when an item's message is published again: half a period to one and a half from now.

    The instants of an item lie a period apart and follow from its id, so that the timers and entries of several copies
    of its message become one, and those of several items spread.
    """
    period_ms = max(1, period_ms)
    phase = zlib.crc32(item.item_id.encode()) % period_ms
    return ((now_ms + period_ms // 2 - phase) // period_ms + 1) * period_ms + phase


def repeat_publish(out: Outgoing, due_ms: int, header: RunHeader, publisher: WorkerId) -> Decision:
    """A message that may not have reached its queue: a timer publishes it again if the item is untouched then.

    Its entry moves to the time of the timer, which takes it away: each try would leave one behind else, and a queue
    that comes back would get a message for each of them.
    """
    item, turn = out.item, out.turn
    timer = Timer(due_ms=due_ms, run_id=header.run_id, item_id=item.item_id, kind=TimerKind.REPUBLISH, turn=turn)
    changes: list[Change] = [SetTimer(timer)]
    if out.entry:
        moved = entry_of_repeat(timer)
        changes += (
            LeaveMessage(item.queue, out.entry),
            EnterMessage(item.queue, moved, item.item_id, turn, publisher, out.tries),
        )
    return Decision(
        conditions=(TurnIs(item.item_id, turn),), changes=tuple(changes), effects=Effects(timer=timer)
    )  # fmt: skip


def publish_again(item: WorkItem, timer: Timer, now_ms: int, publisher: WorkerId, *, tries: int = 0) -> Decision:
    """A pending item whose message no queue took, or may not have taken, gets another: its timer is due."""
    forget = (DropTimer(timer), LeaveMessage(item.queue, entry_of_repeat(timer)))
    return republish(item, timer.turn, now_ms, publisher, forget, tries=tries)


def entry_of_repeat(timer: Timer) -> str:
    """Return the entry that a message has until its timer publishes it again."""
    return message_entry(timer.due_ms, timer.item_id, timer.turn)


def defer_publish(item: WorkItem, turn: int, due_ms: int, header: RunHeader, reason: str, out: Outgoing) -> Decision:
    """A message that no queue took: the item stays pending with the reason, and a timer publishes it again."""
    noted = replace(item, note=reason)
    timer = Timer(due_ms=due_ms, run_id=header.run_id, item_id=item.item_id, kind=TimerKind.REPUBLISH, turn=turn + 1)
    return Decision(
        conditions=(TurnIs(item.item_id, turn),),
        changes=(PutItem(noted, is_listed=True), LeaveMessage(item.queue, out.entry), SetTimer(timer)),
        effects=Effects(timer=timer),
    )


# --- the run


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
