"""Listing the records of a slot that lies in memory."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from floxide_amqp.drivers.record_cursor import COUNTER_BYTES, KINDS, cursor_after, place_of
from floxide_amqp.ports.key_value import Key, RecordInfo, RecordKind, RecordPage

__all__ = ["COUNTER_BYTES", "Listed", "listed_page"]

Listed: TypeAlias = Mapping[RecordKind, tuple[Iterable[Key], Callable[[Key], tuple[int, int]]]]
"""For each kind its keys, and what tells the size and the number of the record of a key."""


def listed_page(listed: Listed, partition: str | None, after: bytes, limit: int) -> RecordPage:
    """Return up to `limit` (at least 1) records behind a cursor, by kind and then by key."""
    kind_number, behind = place_of(after, store="memory")
    limit = max(limit, 1)
    found: list[RecordInfo] = []
    for kind in KINDS[kind_number:]:
        keys, measure = listed.get(kind, ((), _unmeasured))
        wanted = (
            key for key in keys if (partition is None or key[0] == partition) and (behind is None or key > behind)
        )
        found += (RecordInfo(key, kind, *measure(key)) for key in heapq.nsmallest(limit - len(found), wanted))
        if len(found) >= limit:
            return RecordPage(tuple(found), cursor_after(kind, found[-1].key))
        behind = None
    return RecordPage(tuple(found), None)


def _unmeasured(key: Key) -> tuple[int, int]:
    raise KeyError(key)
