"""When the body of a step has ended: the one rule of everything that must not come before, a sweep or a compensation.

A step whose node has a compensation is claimed before its body runs, and says so in the same commit (`begun`). From
then on its item is in progress until the body has ended, and no other commit takes it out of that state than

* the step's own, with what the body came to;
* that of its worker, which lets go of it once the body has ended in vain (`let_go`);
* that of whoever finds that its worker is dead, or vouches for it no more, and gives it back.

So nothing is undone, and nothing that is left in a closed fan-out is cancelled, while `is_at_work` holds. Both look
again a little later instead.
"""

from __future__ import annotations

from typing import Final

from floxide_amqp.core.changes import PutItem
from floxide_amqp.core.commit_conditions import EpochIs, TurnIs
from floxide_amqp.core.decisions import Decision
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import WorkerId
from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.statuses import WorkItemStatus

LATER_MS: Final = 500
"""When it is looked again at the latest whether a body has ended."""

SOON_MS: Final = 20
"""When it is looked again the first time; the pause doubles from then on."""


def is_at_work(item: WorkItem) -> bool:
    """Whether what the body of an item does may have to be undone, and it may not have ended."""
    return item.begun and item.status is WorkItemStatus.IN_PROGRESS


def look_again_ms(now_ms: int, times: int) -> int:
    """Return when it is looked again whether bodies have ended, after so many times."""
    return now_ms + min(LATER_MS, SOON_MS << min(times, 8))


def let_go(item: WorkItem, turn: int, epoch: int) -> Decision:
    """The body of a step has ended, and its result is void: it may be undone or cancelled now."""
    free = replace(item, status=WorkItemStatus.PENDING, owner=WorkerId(""), anchored=False, spared=False)
    return Decision(
        conditions=(TurnIs(item.item_id, turn), EpochIs(epoch)),
        changes=(PutItem(free, is_listed=True),),
        epoch_after=epoch,
    )
