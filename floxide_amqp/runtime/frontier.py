"""The walk along a chain: from an item that ended, over the successors its worker went on with, to where it stands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.stores.items import ItemStore, StoredItem

ENDED = (WorkItemStatus.COMPLETED, WorkItemStatus.FAILED)


async def _pass_by(item: WorkItem) -> None:
    del item


async def find_frontier(
    items: ItemStore,
    run_id: RunId,
    stored: StoredItem | None,
    *,
    on_ended: Callable[[WorkItem], Awaitable[None]] = _pass_by,
) -> StoredItem | None:
    """Return the item at which a chain stands; None where it has ended.

    Args:
        items: Reads them.
        run_id: Their run.
        stored: Where the walk begins; None for an item that is not there.
        on_ended: Awaited for every ended item on the way.
    """
    while stored is not None and stored.item.status in ENDED:
        await on_ended(stored.item)
        kept = stored.item.kept
        stored = (await items.find(run_id, (kept,)))[0] if kept else None
    return stored
