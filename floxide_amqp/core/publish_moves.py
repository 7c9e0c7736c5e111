"""Publishing an item's message once more: in place of one that is lost, or of one that no queue took."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from floxide_amqp.core.changes import Change, PutItem
from floxide_amqp.core.commit_conditions import TurnIs
from floxide_amqp.core.decisions import Decision, Effects, Outgoing, message_entry
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import WorkerId
from floxide_amqp.core.place_changes import DropTimer, EnterMessage, LeaveMessage, SetTimer
from floxide_amqp.core.records import RunHeader, WorkItem
from floxide_amqp.core.timers import Timer, TimerKind


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


def noted_until(decision: Decision, out: Outgoing, publisher: WorkerId) -> Decision:
    """Return a decision of `defer_publish` by which the message keeps an entry, at the time of its timer.

    So whoever looks after task queues that nobody serves finds the item, of which nothing lies in any queue.
    """
    timer = decision.effects.timer
    if timer is None:
        return decision
    entry = EnterMessage(
        out.item.queue, entry_of_repeat(timer), out.item.item_id, timer.turn, publisher, out.tries
    )  # fmt: skip
    return replace(decision, changes=(*decision.changes, entry))
