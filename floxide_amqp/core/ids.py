"""Identifiers: how they are named, derived and spread over slots.

Ids are deterministic. A successor's id follows from its run, its parent, the edge and the index, so a step
that is repeated collides with itself instead of multiplying.
"""

from __future__ import annotations

import functools
import hashlib
from typing import NewType

RunId = NewType("RunId", str)
WorkItemId = NewType("WorkItemId", str)
ScopeId = NewType("ScopeId", str)
WorkerId = NewType("WorkerId", str)
Slot = NewType("Slot", int)

SLOT_COUNT = 64
"""Runs hash to this many slots; slots, not runs, map to servers. Fixed for the life of a store."""

SYSTEM_SLOT = Slot(-1)
"""Where records that belong to a server rather than to a run live: heartbeats, the maintenance lease, quarantine."""

_DIGEST = hashlib.blake2b(digest_size=16)
"""Copied for each id: a new one reads its options each time, a quarter of what an id costs."""

MAX_RUN_ID_LENGTH = 200
"""Characters of a run id: long enough for any business key, short enough for an index entry."""


@functools.lru_cache(maxsize=8192)  # each commit, read and clock of a run asks
def slot_of(run_id: RunId) -> Slot:
    """Return the slot of a run, 0 to 63; the same for every process and every release."""
    return Slot(int.from_bytes(hashlib.blake2b(run_id.encode(), digest_size=4).digest(), "big") % SLOT_COUNT)


def derive_item_id(run_id: RunId, parent: str, edge: str, order: tuple[int, ...] = ()) -> WorkItemId:
    """Return the id of the item that `edge` creates from `parent`: 32 hexadecimal characters.

    Args:
        run_id: The run of both items.
        parent: The id of the causing item or scope.
        edge: The edge's stable id.
        order: Position among the items the same edge creates from the same parent.
    """
    place = ".".join(map(str, order)) if order else ""
    digest = _DIGEST.copy()
    digest.update(f"{run_id}\x1f{parent}\x1f{edge}\x1f{place}".encode())
    return WorkItemId(digest.hexdigest())
