"""Dead letters as the store keeps them: which of them still count, and their ids."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress

from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.message_records import DeadLetter
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import side_by_side
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.runs import StoredRun


def is_open(letter: DeadLetter, run: StoredRun | None, stored: StoredItem | None) -> bool:
    """Whether a letter still says something about its item: it stands as it stood when the letter was written."""
    if run is None or stored is None or run.state.status in (RunStatus.COMPLETED, RunStatus.CANCELLED):
        return False
    if run.state.status is RunStatus.COMPENSATING and run.state.is_over_for(stored.item):
        return False
    waits_as = WorkItemStatus.PARKED if letter.is_kept else WorkItemStatus.PENDING
    return stored.turn == letter.turn and stored.item.status is waits_as


async def kept_letters(services: Services, run_id: RunId, items: Sequence[StoredItem]) -> dict[WorkItemId, DeadLetter]:
    """Return the letters of items, as they stand, that wait for somebody; what cannot be read waits for nobody."""
    found: dict[WorkItemId, DeadLetter] = {}

    async def find(stored: StoredItem) -> None:
        with suppress(UnreadableRecordError):
            letter = await services.dead_letter_store.find(run_id, stored.item.item_id)
            if letter is not None and letter.is_kept and letter.turn == stored.turn:
                found[letter.item_id] = letter

    await side_by_side(find, [each for each in items if each.item.status is WorkItemStatus.PARKED])
    return found


def new_letter_id(now_ms: int, run_id: RunId, item_id: WorkItemId) -> str:
    """Return the id of a new letter: ids sort by time, together with those of quarantined messages."""
    digest = hashlib.blake2b(f"{run_id}\x1f{item_id}".encode(), digest_size=8).hexdigest()
    return f"{now_ms:014d}-{digest}"
