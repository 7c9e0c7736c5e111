"""Where things are in Redis: the names of keys, the members of indexes, the text of counters.

Every key of a store begins ``<prefix>{<tag>}``. A store has a number of tags, fixed when it is made: one on a server
of its own, so that an index is one ordered set; one per slot on a cluster, so that slots spread over its nodes. Redis
hashes only what stands in the braces, so a script that keeps to one tag keeps to one node.

Invariant: the order of an index's members as bytes is the order of (entry, slot).
"""

from __future__ import annotations

import struct
from binascii import crc_hqx
from functools import cache
from typing import Final

from floxide_amqp.core.ids import SLOT_COUNT, Slot
from floxide_amqp.exceptions import InvalidBatchError
from floxide_amqp.ports.key_value import Entry

FORMAT: Final = b"1"
"""What the layout described here is called in the store."""

CLUSTER_TAGS: Final = SLOT_COUNT
"""Tags of a store on a cluster: with one per slot, any number of nodes up to that share the load evenly."""

HASH_SLOTS: Final = 16_384
"""How many slots a Redis Cluster has; fixed by Redis."""

CELL, COUNTER, LOG = "c", "n", "l"
"""What a field of a partition's hash begins with."""

_EXACT: Final = 1 << 53
_SLOT = struct.Struct(">I")
_SLOT_OFFSET: Final = 1 << 31
SLOT_WIDTH: Final = _SLOT.size
MOST_SLOT: Final = 0xFFFF_FFFF - _SLOT_OFFSET - 0xFF_FFFF
"""Slots are below this: the first byte of one is never 255, which has a meaning in members."""


def hash_slot(tag: bytes) -> int:
    """Return the slot of a Redis Cluster that keys with this tag are in, 0 to 16,383."""
    return crc_hqx(tag, 0) % HASH_SLOTS


@cache
def tag_names(count: int) -> tuple[bytes, ...]:
    """Return the texts of a store's tags; on a cluster they lie evenly over its hash slots.

    Tag number i is the least decimal number in the i-th of `count` equal bands, so that nodes with equal ranges of hash
    slots, which is what Redis gives them, have equal numbers of tags.
    """
    found: dict[int, bytes] = {}
    number = 0
    while len(found) < count:
        text = b"%d" % number
        found.setdefault(hash_slot(text) * count // HASH_SLOTS, text)
        number += 1
    return tuple(found[band] for band in range(count))


class Layout:
    """The keys of one store.

    Args:
        prefix: What all its keys begin with; without braces.
        tags: How many tags it has.
    """

    def __init__(self, prefix: str, tags: int) -> None:
        self.tags = tags
        self.names = tag_names(tags)
        self._bases = [f"{prefix}{{{name.decode()}}}:" for name in self.names]

    def tag_of(self, slot: int) -> int:
        """Return the number of a slot's tag."""
        return slot % self.tags

    def head(self, tag: int) -> str:
        """Return the key of what a tag says of itself: incarnation, sequence, format, number of tags."""
        return self._bases[tag] + "head"

    def records(self, slot: int, partition: str) -> str:
        """Return the key of the hash of a partition's cells, counters and log positions."""
        return f"{self._bases[slot % self.tags]}r:{slot}:{partition}"

    def lists(self, slot: int, partition: str) -> str:
        """Return what the keys of a partition's lists begin with; the log's name follows."""
        return f"{self._bases[slot % self.tags]}l:{slot}:{len(partition)}:{partition}:"

    def index(self, tag: int, index: str) -> tuple[str, str]:
        """Return the keys of an index in a tag: its ordered set, and the hash of its values."""
        base = self._bases[tag]
        return f"{base}i:{index}", f"{base}x:{index}"


def ordered(entry: str) -> bytes:
    """Return an entry key as bytes that sort alike, without its end.

    A zero byte within it is followed by 255, which no slot begins with; so it sorts after the end of a shorter one.
    """
    text = entry.encode()
    return text.replace(b"\0", b"\0\xff") if "\0" in entry else text


def check_slot(slot: int, *, store: str) -> None:
    """Make sure that a slot's number can be written down.

    Raises:
        InvalidBatchError: It cannot.
    """
    if not -_SLOT_OFFSET <= slot < MOST_SLOT:
        raise InvalidBatchError(store=store, reason=f"there is no slot {slot}")


def slot_suffix(slot: int) -> bytes:
    """Return what a member ends with: 4 bytes that sort as slots do."""
    return _SLOT.pack(slot + _SLOT_OFFSET)


def member(entry: str, slot: int) -> bytes:
    """Return the member of an index for an entry of a slot."""
    return ordered(entry) + b"\0" + _SLOT.pack(slot + _SLOT_OFFSET)


def bounds(after: str, before: str | None) -> tuple[bytes, bytes]:
    """Return the range of members, as Redis writes it, whose entries lie strictly between two."""
    return b"[" + ordered(after) + b"\0\xff", b"+" if before is None else b"(" + ordered(before) + b"\0"


def entry_of(found: bytes, value: bytes | None) -> Entry:
    """Return the entry that a member and its value stand for."""
    text = found[: -SLOT_WIDTH - 1]
    if b"\0" in text:
        text = text.replace(b"\0\xff", b"\0")
    (slot,) = _SLOT.unpack(found[-SLOT_WIDTH:])
    return Entry(text.decode(), value or b"", Slot(slot - _SLOT_OFFSET))


def number_text(value: int) -> int | str:
    """Return a counter's value as the scripts know it: below 2^53 a number, from there on two halves as text."""
    if -_EXACT < value < _EXACT:
        return value
    return f"{value >> 32}:{value & 0xFFFFFFFF}"


def number_of(found: int | bytes | None) -> int:
    """Return a counter's value from what a script or the store says of it; 0 where it is absent."""
    if found is None:
        return 0
    if isinstance(found, int):
        return found
    high, colon, low = found.partition(b":")
    return (int(high) << 32) + int(low) if colon else int(found)
