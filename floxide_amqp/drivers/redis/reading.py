"""Reads of one tag, written down for `read.lua`, and what that answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

from floxide_amqp.drivers.redis.layout import (
    CELL,
    COUNTER,
    LOG,
    Layout,
    bounds,
    check_slot,
    entry_of,
    member,
    number_of,
    slot_suffix,
)
from floxide_amqp.drivers.redis.packing import packed, storable
from floxide_amqp.exceptions import StoreCorruptError
from floxide_amqp.ports.key_value import ABSENT, Cell, Entry, IndexRange, Key, LogPage, LogRange, Read, Snapshot

_NO_CELL: Final = Cell(ABSENT, b"")
_MOST: Final = 1 << 53
"""Positions and limits are doubles in the script."""


class Reading:
    """Reads of one tag as an argument of the script.

    Args:
        reads: The reads, all of one tag.
        layout: Where things are.
        store: What errors call the store.

    Raises:
        InvalidBatchError: One of them asks for what no store can do.
    """

    def __init__(self, reads: Sequence[Read], *, layout: Layout, store: str) -> None:
        self._reads = reads
        self._layout = layout
        self._store = store
        self._orders: list[list[int]] = []
        with storable(store):
            self.packed = packed([self._written(read) for read in reads])

    def snapshots(self, found: Sequence[Any]) -> list[Snapshot]:
        """Return the snapshot of each read, from what the script says of each."""
        return [
            self._snapshot(read, order, *said)
            for read, order, said in zip(self._reads, self._orders, found, strict=True)
        ]

    def _written(self, read: Read) -> tuple[list[list[str]], list[Any], list[Any]]:
        slot = read.slot
        check_slot(slot, store=self._store)
        hashes: dict[str, list[str]] = {}
        places: dict[str, list[int]] = {}
        wanted = chain(((key, CELL) for key in read.cells), ((key, COUNTER) for key in read.counters))
        for number, (key, kind) in enumerate(wanted):
            partition, name = key
            fields = hashes.get(partition)
            if fields is None:
                fields = hashes[partition] = [self._layout.records(slot, partition)]
                places[partition] = []
            fields.append(kind + name)
            places[partition].append(number)
        self._orders.append([number for numbers in places.values() for number in numbers])
        logs = [self._log(slot, asked) for asked in read.logs]
        return list(hashes.values()), logs, [self._index(slot, asked) for asked in read.indexes]

    def _log(self, slot: int, asked: LogRange) -> tuple[str, str, str, int, int]:
        partition, name = asked.log
        records, lists = self._layout.records(slot, partition), self._layout.lists(slot, partition)
        return (records, LOG + name, lists + name, max(0, min(asked.start, _MOST)), _limit(asked.limit))

    def _index(self, slot: int, asked: IndexRange) -> tuple[Any, ...]:
        keys = self._layout.index(self._layout.tag_of(slot), asked.index)
        return (*keys, *bounds(asked.after, asked.before), slot_suffix(slot), _limit(asked.limit), asked.reverse)

    def _snapshot(self, read: Read, order: list[int], hashes: Any, logs: Any, indexes: Any) -> Snapshot:
        flat: list[bytes | None] = [value for values in hashes for value in values]
        values: list[bytes | None] = [None] * len(flat)
        for number, value in zip(order, flat, strict=True):
            values[number] = value
        middle = len(read.cells)
        return Snapshot(
            cells=tuple([self._cell(key, value) for key, value in zip(read.cells, values[:middle], strict=True)]),
            counters=tuple([number_of(value) for value in values[middle:]]),
            logs=tuple([LogPage(first, tuple(entries), length) for first, length, entries in logs]),
            indexes=tuple([tuple(entries_of(found)) for found in indexes]),
        )

    def _cell(self, key: Key, value: bytes | None) -> Cell:
        if value is None:
            return _NO_CELL
        at = value.find(b":", 0, 21)
        if at < 1:
            raise StoreCorruptError(store=self._store, reason=f"the cell {key} has no version")
        return Cell(int(value[:at]), value[at + 1 :])


def scan_asked(layout: Layout, tag: int, asked: IndexRange, *, limit: int, beyond: Entry | None, store: str) -> bytes:
    """Return a page of a scan as the script's argument; it answers as to a read of one index.

    Raises:
        InvalidBatchError: The index or a bound is not valid Unicode.
    """
    with storable(store):
        least, greatest = bounds(asked.after, asked.before)
        if beyond is not None:
            here = b"(" + member(beyond.entry, beyond.slot)
            least, greatest = (least, here) if asked.reverse else (here, greatest)
        index = (*layout.index(tag, asked.index), least, greatest, b"", _limit(limit), asked.reverse)
        return packed([((), (), (index,))])


def _limit(limit: int) -> int:
    return max(0, min(limit, _MOST))


def entries_of(found: Sequence[Any]) -> list[Entry]:
    """Return the entries that the script found, from members and values in turn."""
    return [entry_of(found[k], found[k + 1]) for k in range(0, len(found), 2)]
