"""What is left in a fan-out that was closed: read for the step that cancels it."""

from __future__ import annotations

from floxide_amqp.core.changes import Change, LeaveParked
from floxide_amqp.core.decisions import Left, Swept
from floxide_amqp.core.ids import ScopeId
from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores import keys
from floxide_amqp.stores.items import PAGE, StoredItem
from floxide_amqp.stores.sealed_records import key_of


async def read_left(services: Services, admitted: Admitted) -> Swept:
    """Read some of the items that are left in the scope that the item stands for; all of a run's live ones are passed.

    Those of the innermost scopes come in any order: what each scope counts is read with them.
    """
    run_id, item = admitted.run.header.run_id, admitted.item
    path = (*item.scope, ScopeId(item.input.opener))
    depth, after, left, has_more = len(path), "", list[StoredItem](), False
    while not has_more:
        ids = await services.items.live_ids(run_id, after=after, limit=PAGE)
        found = await services.items.find(run_id, ids)
        left += (stored for stored in found if stored is not None and stored.item.scope[:depth] == path)
        if len(ids) < PAGE:
            break
        after = ids[-1]
        has_more = len(left) >= PAGE
    around = (stored.item.scope for stored in left)
    paths = sorted({scope[:length] for scope in around for length in range(depth, len(scope) + 1)})
    if path not in paths:
        paths.append(path)
    counted = await services.joins.counts(run_id, paths)
    return Swept(
        left=tuple(Left(item=each.item, turn=each.turn, leads=_leads(each.item)) for each in left),
        counts=tuple((scope, live) for scope, (live, _) in zip(paths, counted, strict=True)),
        waiting=tuple((scope, number) for scope, (_, number) in zip(paths, counted, strict=True)),
        has_more=has_more,
    )


def _leads(item: WorkItem) -> tuple[Change, ...]:
    """An item that waits for a key is listed by that."""
    lacked = key_of(item) if item.status is WorkItemStatus.PARKED else None
    if lacked is None:
        return ()
    return (LeaveParked(item.queue, *keys.kind_of_key(lacked.codec, lacked.key_id), item.item_id),)
