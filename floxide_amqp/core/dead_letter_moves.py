"""What becomes of an item whose message the broker gave up on: published again, later, or kept for somebody to decide.

Pure, like `moves`: each function returns a `Decision`. A letter stands beside its item and changes with it, in the
same commit, so that the letter's turn tells whether the item has gone on since.
"""

from __future__ import annotations

from dataclasses import replace

from floxide_amqp.core import moves, publish_moves
from floxide_amqp.core.changes import Change, Count, DropDeadLetter, PutDeadLetter, PutItem
from floxide_amqp.core.commit_conditions import EpochIs, TurnIs
from floxide_amqp.core.decisions import Decision, MessageAnchor, Outgoing
from floxide_amqp.core.ids import WorkerId
from floxide_amqp.core.message_records import DeadLetter
from floxide_amqp.core.place_changes import DropTimer
from floxide_amqp.core.records import RunHeader, RunState, WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind


def publish_at_once(
    item: WorkItem, letter: DeadLetter, now_ms: int, publisher: WorkerId, message: MessageAnchor
) -> Decision:
    """The first letter of an item: a new message takes the place of the lost one; the item's turn stays."""
    decision = publish_moves.republish(item, letter.turn, now_ms, publisher, moves.forget_message(message))
    return _with(decision, PutDeadLetter(letter))


def publish_later(
    item: WorkItem, turn: int, letter: DeadLetter, header: RunHeader, message: MessageAnchor, note: str
) -> Decision:
    """One more letter of the same item: a timer publishes it again when the letter's `due_ms` has come."""
    out = Outgoing(item, turn, message.entry)
    decision = publish_moves.defer_publish(item, turn, letter.due_ms, header, note, out)
    return _with(decision, PutDeadLetter(replace(letter, turn=turn + 1)))


def keep(item: WorkItem, turn: int, epoch: int, letter: DeadLetter, message: MessageAnchor, note: str) -> Decision:
    """One letter too many: the item waits, with the reason, for somebody who requeues or drops the letter."""
    parked = replace(item, status=WorkItemStatus.PARKED, note=note, parked_ms=letter.last_at_ms)
    return Decision(
        conditions=(TurnIs(item.item_id, turn), EpochIs(epoch)),
        changes=(
            PutItem(parked, is_listed=True),
            Count("waiting", 1),
            *moves.forget_message(message),
            PutDeadLetter(replace(letter, turn=turn + 1, due_ms=0, is_kept=True)),
        ),
        epoch_after=epoch,
    )


def requeue(
    item: WorkItem, letter: DeadLetter, run: RunState, epoch: int, now_ms: int, publisher: WorkerId
) -> Decision:
    """Somebody wants the item to be tried again: it gets a new message, and its letters count from zero."""
    drop = DropDeadLetter(letter.letter_id, letter.item_id)
    if not letter.is_kept:
        forget: tuple[Change, ...] = (drop, *drop_timer(letter))
        return publish_moves.republish(item, letter.turn, now_ms, publisher, forget)
    return moves.unpark(item, letter.turn, run, epoch, now_ms, publisher, drop)


def give_up(failed: Decision, letter: DeadLetter) -> Decision:
    """Somebody drops the letter: its item fails by `failed`, the decision of a step, and waits no more."""
    changes: tuple[Change, ...] = (DropDeadLetter(letter.letter_id, letter.item_id), *drop_timer(letter))
    return _with(failed, *changes, *((Count("waiting", -1),) if letter.is_kept else ()))


def drop_timer(letter: DeadLetter) -> tuple[Change, ...]:
    """The change that takes away the timer of a letter, where it has set one."""
    if not letter.due_ms:
        return ()
    timer = Timer(
        due_ms=letter.due_ms, run_id=letter.run_id, item_id=letter.item_id, kind=TimerKind.REPUBLISH, turn=letter.turn
    )
    return (DropTimer(timer),)


def _with(decision: Decision, *more: Change) -> Decision:
    return replace(decision, changes=(*decision.changes, *more))
