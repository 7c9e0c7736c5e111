"""An item moves to another task queue: a deploy changed its node's, and nobody serves the one it was put into."""

from __future__ import annotations

from collections.abc import Sequence

from floxide_amqp.core.changes import Change, PutItem
from floxide_amqp.core.commit_conditions import TurnIs
from floxide_amqp.core.decisions import Decision, Effects, Outgoing, message_entry
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import WorkerId
from floxide_amqp.core.place_changes import EnterMessage
from floxide_amqp.core.records import WorkItem


def reroute(
    item: WorkItem, turn: int, task_queue: str, now_ms: int, publisher: WorkerId, forget: Sequence[Change]
) -> Decision:
    """A pending item gets a message in another task queue; the one in the old queue, of an old turn, does nothing.

    Args:
        item: The item, pending.
        turn: Its turn.
        task_queue: Where it goes, as its node's options say.
        now_ms: Store time.
        publisher: Who publishes the message.
        forget: What takes away what was noted of the old message.
    """
    moved = replace(item, queue=task_queue)
    out = Outgoing(moved, turn + 1, message_entry(now_ms, item.item_id, turn + 1), recovered=True)
    return Decision(
        conditions=(TurnIs(item.item_id, turn),),
        changes=(
            *forget,
            PutItem(moved, is_listed=True),
            EnterMessage(task_queue, out.entry, item.item_id, turn + 1, publisher),
        ),
        effects=Effects(publish=(out,)),
    )
