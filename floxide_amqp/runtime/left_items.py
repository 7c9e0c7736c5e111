"""What is left in a fan-out that was closed: read for the step that cancels it.

A run may have many fan-outs, each with a few items, and a fan-out may have many items. So what a sweep reads is bounded
by both: it follows the items of the fan-out from the one that opened it, each to those that its end created, as long as
these are no more than the run has live ones, and lie no deeper than it takes to read all of those; else it passes over
all of the run's live ones, once. So it does where following cannot find everything: a held item points to nothing that
its commit put, and a record may be damaged.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from floxide_amqp.core.bodies import is_at_work
from floxide_amqp.core.ids import RunId, ScopeId, WorkItemId, derive_item_id
from floxide_amqp.core.outcomes import Left, Swept
from floxide_amqp.core.records import ScopePath
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.core.sweeping import is_live
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.items import PAGE, StoredItem
from floxide_amqp.stores.parked_places import leave_by_key
from floxide_amqp.stores.sealed import Unsealed
from floxide_amqp.stores.sealed_records import input_of

ENDED = (WorkItemStatus.COMPLETED, WorkItemStatus.FAILED, WorkItemStatus.CANCELLED)
"""Statuses of items, of a run that goes on, that are not left."""


DEPTH: Final = 10
"""Round trips in which the items of a fan-out are followed, besides as many as passing over a run's live ones takes."""


@dataclass(frozen=True, slots=True)
class _Counted:
    """Of some scopes, how many items are live in each and how many joins wait, and which of them were closed."""

    counts: dict[ScopePath, tuple[int, int]]
    closed: frozenset[ScopePath]

    def are(self, path: ScopePath, left: list[StoredItem]) -> bool:
        """Whether these are all items that are counted: those of each scope, and one for each open one in it."""
        own = Counter(each.item.scope for each in left if is_live(each.item))
        stands = (scope for scope, (live, _) in self.counts.items() if live and scope not in self.closed)
        nested = Counter(scope[:-1] for scope in stands if scope != path)
        return all(live == own[scope] + nested[scope] for scope, (live, _) in self.counts.items())


async def read_left(services: Services, admitted: Admitted) -> Swept:
    """Read some of the items that are left in the scope that the item stands for.

    Those of the innermost scopes come in any order: what each scope counts is read with them.
    """
    run_id, item = admitted.run.header.run_id, admitted.item
    path = (*item.scope, ScopeId(item.input.opener))
    after = input_of(services.sealing, run_id, item).decode() if item.input.payload else ""
    left, rest = None if after else await _followed(services, run_id, path), None
    counted = None if left is None else await _counted(services, run_id, path, left)
    if left is None or counted is None or not counted.are(path, left):
        left, rest = await _passed(services, run_id, path, after)
        counted = await _counted(services, run_id, path, left)
    idle = [stored for stored in left if not is_at_work(stored.item)]
    return Swept(
        left=tuple(Left(item=each.item, turn=each.turn, leads=leave_by_key(each.item)) for each in idle),
        counts=tuple((scope, live) for scope, (live, _) in counted.counts.items()),
        waiting=tuple((scope, number) for scope, (_, number) in counted.counts.items()),
        closed=counted.closed,
        at_work=tuple(stored.item.item_id for stored in left if is_at_work(stored.item)),
        after=None if rest is None else Unsealed(rest.encode()),
    )


async def _counted(services: Services, run_id: RunId, path: ScopePath, left: list[StoredItem]) -> _Counted:
    """Return what is counted in a scope, and in those in it around some items."""
    around = {each.item.scope[:length] for each in left for length in range(len(path), len(each.item.scope) + 1)}
    paths = sorted(around | {path})
    counts = dict(zip(paths, await services.joins.counts(run_id, paths), strict=True))
    return _Counted(counts, await services.joins.closed(run_id, paths) if len(paths) > 1 else frozenset())


async def _followed(services: Services, run_id: RunId, path: ScopePath) -> list[StoredItem] | None:
    """Return what is left in a scope, found from its opener on; None where passing over live items takes less.

    So it does where what has ended cannot be read, and behind items that are held and that nothing wakes. The opener of
    a forked run's fan-out is in another run.
    """
    run = await services.runs.find(run_id)
    live = 0 if run is None else run.counts.live + run.counts.held
    most, rounds = live + PAGE, DEPTH + 2 * (live // PAGE)
    start = _start(run_id, path[-1])
    ahead, seen, left = [start], {start}, list[StoredItem]()
    while ahead:
        page, ahead, rounds = ahead[:PAGE], ahead[PAGE:], rounds - 1
        try:
            found = await services.items.find(run_id, page)
        except UnreadableRecordError:
            return None
        for item_id, stored in zip(page, found, strict=True):
            is_inside = stored is not None and stored.item.scope[: len(path)] == path
            if stored is None or not (is_inside or item_id == start):
                continue
            if is_inside and stored.item.status not in ENDED:
                if not is_live(stored.item):
                    return None
                left.append(stored)
            successors = dict.fromkeys(stored.item.successors)  # one may be named twice
            fresh = [each for each in successors if each not in seen]
            seen.update(fresh)
            ahead += fresh
        is_deep = bool(ahead) and rounds <= 0
        if not seen - {start} or is_deep or len(seen) > most or len(left) > PAGE:
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
