"""Listing the records of a slot: where a page begins, and what a page of `list.lua` says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from floxide_amqp.drivers.record_cursor import COUNTER_BYTES
from floxide_amqp.drivers.redis.layout import Layout, number_of
from floxide_amqp.drivers.redis.packing import packed, storable, unpacked
from floxide_amqp.exceptions import InvalidBatchError
from floxide_amqp.ports.key_value import Key, RecordInfo, RecordKind, RecordPage

_KINDS: Final = {b"c": RecordKind.CELL, b"n": RecordKind.COUNTER, b"l": RecordKind.LOG}
_GLOB: Final = str.maketrans({character: f"\\{character}" for character in "*?[]^-\\"})
"""What has a meaning in Redis's patterns."""


def page_asked(layout: Layout, slot: int, partition: str | None, after: bytes, limit: int, *, store: str) -> bytes:
    """Return a page's beginning as the script takes it.

    Raises:
        InvalidBatchError: The partition is not valid Unicode, or `after` is no cursor of this driver.
    """
    cursor: Any = "0"
    pending: Any = []
    within: Any = "0"
    if after:
        try:
            cursor, pending, within = unpacked(after)
        except ValueError as error:
            raise InvalidBatchError(store=store, reason="the listing goes on behind what is no cursor of it") from error
    elif partition is not None:
        cursor, pending = "", [layout.records(slot, partition)]
    pattern = layout.records(slot, "").translate(_GLOB) + "*"
    with storable(store):
        return packed((pattern, max(1, limit), cursor, pending, within))


def page_of(layout: Layout, slot: int, said: Sequence[Any]) -> RecordPage:
    """Return a page, from what the script says."""
    cursor, pending, within, hashes = said
    base = len(layout.records(slot, "").encode())
    records: list[RecordInfo] = []
    for key, *found in hashes:
        partition = key[base:].decode()
        records += [_record(partition, *found[n : n + 3]) for n in range(0, len(found), 3)]
    is_end = not cursor and not pending
    return RecordPage(tuple(records), None if is_end else packed((cursor, pending, within)))


def _record(partition: str, field: bytes, size: Any, number: Any) -> RecordInfo:
    key, kind = Key(partition, field[1:].decode()), _KINDS[field[:1]]
    if kind is RecordKind.COUNTER:
        return RecordInfo(key, kind, COUNTER_BYTES, number_of(number))
    if kind is RecordKind.LOG:
        held, _, count = size.partition(b":")
        return RecordInfo(key, kind, int(held), int(number) + int(count))
    return RecordInfo(key, kind, int(size), int(number))
