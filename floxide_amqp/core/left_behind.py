"""What an item that is cancelled with its fan-out leaves behind beyond itself: a value it was given, a child it called.

The value goes back to its run's mailbox, and the child is cancelled unless it is abandoned. Both are told by letters,
so that the commit which cancels the item reaches nothing in another slot.
"""

from __future__ import annotations

from collections.abc import Iterable

from floxide_amqp.core.changes import Change, PostLetter
from floxide_amqp.core.child_workflow import is_child
from floxide_amqp.core.decisions import Step
from floxide_amqp.core.kin import OnClose, waits_for_child
from floxide_amqp.core.kin_letters import CANCEL, OF_BRANCH
from floxide_amqp.core.letters import Letter, derive_letter_id
from floxide_amqp.core.outcomes import Left
from floxide_amqp.core.records import Mail, WorkItem
from floxide_amqp.core.signal_moves import come_back


def leave_behind(step: Step, left: Iterable[Left]) -> tuple[list[Change], list[Letter]]:
    """Return what follows from cancelling some items, and the letters among it."""
    run_id, letters, mail = step.header.run_id, list[Letter](), list[Mail]()
    for each in left:
        if each.item.mail is not None:
            mail.append(each.item.mail)
        child_id = waits_for_child(each.item.waits_for)
        if child_id is not None and _ends_with(step, each.item):
            letters.append(
                Letter(
                    letter_id=derive_letter_id(CANCEL, run_id, child_id), kind=CANCEL, to_run=child_id,
                    from_run=run_id, posted_at_ms=step.now_ms, body=OF_BRANCH,
                )
            )  # fmt: skip
    kept, offers = come_back(mail, run_id, step.item, step.turn, step.now_ms)
    letters += offers
    return [*kept, *map(PostLetter, letters)], letters


def _ends_with(step: Step, item: WorkItem) -> bool:
    """Whether a child ends with the item that called it."""
    node = step.graph.nodes.get(item.node)
    return node is None or not is_child(node.node) or node.node.on_close is OnClose.CANCEL
