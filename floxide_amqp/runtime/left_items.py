"""What is left in a fan-out that was closed: read for the step that cancels it.

A run may have many fan-outs, each with a few items, and a fan-out may have many items. So what a sweep reads is bounded
by both: it follows the items of the fan-out from the one that opened it, each to those that its end created, as long as
these are no more than the run has live ones; else it passes over all of the run's live ones, once.
"""

from __future__ import annotations

from floxide_amqp.core.bodies import is_at_work
from floxide_amqp.core.changes import Change, LeaveParked
from floxide_amqp.core.decisions import Left, Swept
from floxide_amqp.core.ids import RunId, ScopeId, WorkItemId, derive_item_id
from floxide_amqp.core.records import ScopePath, WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores import keys
from floxide_amqp.stores.items import PAGE, StoredItem
from floxide_amqp.stores.sealed import Unsealed
from floxide_amqp.stores.sealed_records import input_of, key_of

ENDED = (WorkItemStatus.COMPLETED, WorkItemStatus.FAILED, WorkItemStatus.CANCELLED)
"""Statuses of items, of a run that goes on, that are not left."""


async def read_left(services: Services, admitted: Admitted) -> Swept:
    """Read some of the items that are left in the scope that the item stands for.

    Those of the innermost scopes come in any order: what each scope counts is read with them.
    """
    run_id, item = admitted.run.header.run_id, admitted.item
    path = (*item.scope, ScopeId(item.input.opener))
    after = input_of(services.sealing, run_id, item).decode() if item.input.payload else ""
    found = None if after else await _followed(services, run_id, path)
    left, rest = await _passed(services, run_id, path, after) if found is None else (found, None)
    idle = [stored for stored in left if not is_at_work(stored.item)]
    around = (stored.item.scope for stored in idle)
    paths = sorted({scope[:length] for scope in around for length in range(len(path), len(scope) + 1)})
    if path not in paths:
        paths.append(path)
    counted = await services.joins.counts(run_id, paths)
    return Swept(
        left=tuple(Left(item=each.item, turn=each.turn, leads=_leads(each.item)) for each in idle),
        counts=tuple((scope, live) for scope, (live, _) in zip(paths, counted, strict=True)),
        waiting=tuple((scope, number) for scope, (_, number) in zip(paths, counted, strict=True)),
        at_work=tuple(stored.item.item_id for stored in left if is_at_work(stored.item)),
        after=None if rest is None else Unsealed(rest.encode()),
    )


async def _followed(services: Services, run_id: RunId, path: ScopePath) -> list[StoredItem] | None:
    """Return what is left in a scope, found from its opener on; None where passing over live items reads less.

    The opener of a forked run's fan-out is in another run.
    """
    run = await services.runs.find(run_id)
    most = PAGE if run is None else run.counts.live + run.counts.held + PAGE
    start = _start(run_id, path[-1])
    ahead, seen, left = [start], {start}, list[StoredItem]()
    while ahead:
        page, ahead = ahead[:PAGE], ahead[PAGE:]
        for item_id, stored in zip(page, await services.items.find(run_id, page), strict=True):
            is_inside = stored is not None and stored.item.scope[: len(path)] == path
            if stored is None or not (is_inside or item_id == start):
                continue
            if is_inside and stored.item.status not in ENDED:
                left.append(stored)
            fresh = [each for each in stored.item.successors if each not in seen]
            seen.update(fresh)
            ahead += fresh
        if not seen - {start} or len(seen) > most or len(left) > PAGE:
            return None
    return left


def _start(run_id: RunId, scope: ScopeId) -> WorkItemId:
    """Return the item that opened a scope: of a fan-out that goes in waves, that of the wave's page."""
    opener, _, wave = scope.partition(".")
    return derive_item_id(run_id, opener, "page", (int(wave),)) if wave else WorkItemId(opener)


async def _passed(
    services: Services, run_id: RunId, path: ScopePath, after: str
) -> tuple[list[StoredItem], str | None]:
    """Return some of what is left in a scope, among the run's live items, and behind which the others are."""
    left: list[StoredItem] = []
    while True:
        ids = await services.items.live_ids(run_id, after=after, limit=PAGE)
        found = await services.items.find(run_id, ids)
        left += (stored for stored in found if stored is not None and stored.item.scope[: len(path)] == path)
        if len(ids) < PAGE:
            return left, None
        after = ids[-1]
        if len(left) >= PAGE:
            return left, after


def _leads(item: WorkItem) -> tuple[Change, ...]:
    """An item that waits for a key is listed by that."""
    lacked = key_of(item) if item.status is WorkItemStatus.PARKED else None
    if lacked is None:
        return ()
    return (LeaveParked(item.queue, *keys.kind_of_key(lacked.codec, lacked.key_id), item.item_id),)
