"""Transitions of items that no node decides: claims, wakes, returns, what is parked or begins anew.

Each function is pure and returns a `Decision` like those of `decide`: conditions, changes, effects. They check the
item's turn, and the run's epoch where the run's status matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from floxide_amqp.core.changes import Change, Count, CountScope, DropDeadLetter, PutItem
from floxide_amqp.core.commit_conditions import EpochIs, ScopeIsOpen, TurnIs
from floxide_amqp.core.compensation import begin
from floxide_amqp.core.decisions import Decision, Effects, MessageAnchor, Outgoing, message_entry
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import RunId, ScopeId, WorkerId
from floxide_amqp.core.kin import waits_for_child
from floxide_amqp.core.place_changes import (
    DropTimer,
    EnterMessage,
    EnterOwner,
    EnterParked,
    LeaveMessage,
    LeaveOwner,
    LeaveParked,
)
from floxide_amqp.core.rates import waits_for_rate
from floxide_amqp.core.records import RunState, WorkItem
from floxide_amqp.core.signal_waits import leave_waits
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind

if TYPE_CHECKING:
    from floxide_amqp.core.graph import GraphNode


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
    item: WorkItem,
    turn: int,
    run: RunState,
    epoch: int,
    now_ms: int,
    publisher: WorkerId,
    *,
    run_id: RunId,
    forget: Sequence[Change] = (),
    dropped: bytes = b"",
) -> Decision:
    """An item of a run that is resumed becomes pending again; its attempts start from zero if it had failed.

    `forget` takes it off the lists of parked items; `dropped` is the input that it had, where it has another one now.
    """
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
    cleanup: list[Change] = list(forget)
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
    return repend(item, pending, turn, run, epoch, now_ms, publisher, cleanup=cleanup, dropped=dropped)


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
    dropped: bytes = b"",
) -> Decision:
    """Put an item pending, with a message unless its run is paused (then resuming the run publishes it)."""
    changes: list[Change] = [PutItem(pending, is_listed=True, dropped=dropped), *cleanup]
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
