"""Reads as columns for the server, and the server's rows as snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from floxide_amqp.core.ids import Slot
from floxide_amqp.ports.key_value import Cell, Entry, IndexRange, LogPage, LogRange, Read, Snapshot

ABOVE_ALL = b"\xff"
"""Sorts above the UTF-8 of any text: the upper end of a range that has none."""

_CELL, _COUNTER, _LOG, _LOG_ENTRY, _INDEX_ENTRY = range(1, 6)

Row: TypeAlias = tuple[int, int, int, int, bytes, bytes]
"""Kind, number, two numbers, a key and a value; what they mean depends on the kind (``migrations/0001.sql``)."""


def read_arguments(reads: Sequence[Read]) -> tuple[object, ...]:
    """Return what the server's function takes for a group of reads.

    Raises:
        UnicodeEncodeError: A key is not valid Unicode.
    """
    return (
        *_columns(3, [_at(read.slot, *key) for read in reads for key in read.cells]),
        *_columns(3, [_at(read.slot, *key) for read in reads for key in read.counters]),
        *_columns(5, [_log_range(read.slot, asked) for read in reads for asked in read.logs]),
        *_columns(6, [_index_range(read.slot, asked) for read in reads for asked in read.indexes]),
    )


def scan_arguments(asked: IndexRange) -> tuple[object, ...]:
    """Return what the server's function takes for one range over all slots.

    Raises:
        UnicodeEncodeError: A key is not valid Unicode.
    """
    return (*_columns(11, []), *_columns(6, [_index_range(None, asked)]))


def _columns(width: int, rows: list[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def _at(slot: int, partition: str, name: str) -> tuple[object, ...]:
    return slot, partition.encode(), name.encode()


def _log_range(slot: int, asked: LogRange) -> tuple[object, ...]:
    return *_at(slot, *asked.log), asked.start, max(asked.limit, 0)


def _index_range(slot: int | None, asked: IndexRange) -> tuple[object, ...]:
    before = ABOVE_ALL if asked.before is None else asked.before.encode()
    return slot, asked.index.encode(), asked.after.encode(), before, max(asked.limit, 0), asked.reverse


def snapshots(reads: Sequence[Read], rows: Iterable[Row]) -> tuple[Snapshot, ...]:
    """Return what the server's rows, without the first, say of each read."""
    found = _Found(rows)
    return tuple([found.snapshot(read) for read in reads])


def entries_of(rows: Iterable[Row]) -> tuple[Entry, ...]:
    """Return the entries of a scan, from the server's rows without the first."""
    return tuple([_entry(row) for row in rows])


def _entry(row: Row) -> Entry:
    return Entry(row[4].decode(), row[5], Slot(row[2]))


class _Found:
    """The rows, by what they are, handed out in the order they were asked for."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._values: dict[tuple[int, int], Any] = {}
        self._lists: dict[tuple[int, int], list[Any]] = {}
        self._next = {_CELL: 1, _COUNTER: 1, _LOG: 1, _INDEX_ENTRY: 1}
        for row in rows:
            kind, number = row[0], row[1]
            if kind == _CELL:
                self._values[kind, number] = Cell(row[2], row[5])
            elif kind == _COUNTER:
                self._values[kind, number] = row[2]
            elif kind == _LOG:
                self._values[kind, number] = (row[2], row[3])
            else:
                self._lists.setdefault((kind, number), []).append(row[5] if kind == _LOG_ENTRY else _entry(row))

    def snapshot(self, read: Read) -> Snapshot:
        return Snapshot(
            cells=tuple([self._values[self._following(_CELL)] for _ in read.cells]),
            counters=tuple([self._values[self._following(_COUNTER)] for _ in read.counters]),
            logs=tuple([self._log_page(self._following(_LOG)) for _ in read.logs]),
            indexes=tuple([tuple(self._lists.get(self._following(_INDEX_ENTRY), ())) for _ in read.indexes]),
        )

    def _following(self, kind: int) -> tuple[int, int]:
        number = self._next[kind]
        self._next[kind] += 1
        return kind, number

    def _log_page(self, at: tuple[int, int]) -> LogPage:
        first, length = self._values[at]
        return LogPage(first, tuple(self._lists.get((_LOG_ENTRY, at[1]), ())), length)
