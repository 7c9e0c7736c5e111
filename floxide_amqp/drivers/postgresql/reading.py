"""Reads as columns for the server, and the server's rows as snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count, islice
from typing import Final, TypeAlias

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.postgresql.given import BIG_INTEGERS, INTEGERS, TEXTS, Given, integers, parameters
from floxide_amqp.ports.key_value import ABSENT, Cell, Entry, IndexRange, LogPage, Read, Snapshot

ABOVE_ALL = b"\xff"
"""Sorts above the UTF-8 of any text: the upper end of a range that has none."""

_NO_CELL: Final = Cell(ABSENT, b"")

_CELL, _COUNTER, _LOG, _LOG_ENTRY, _INDEX_ENTRY = range(1, 6)

Row: TypeAlias = tuple[int, int, int, int, bytes, bytes]
"""Kind, number, two numbers, a key and a value; what they mean depends on the kind (``migrations/0002.sql``)."""


READ_PARAMETERS: Final = parameters(TEXTS, INTEGERS, INTEGERS, BIG_INTEGERS, BIG_INTEGERS)

_OVER_ALL_SLOTS: Final = 2
"""Added to the way of a range: 0 forwards, 1 backwards."""


def read_arguments(reads: Sequence[Read]) -> tuple[object, ...]:
    """Return what the server's function takes for a group of reads.

    Raises:
        UnicodeEncodeError: A key is not valid Unicode.
    """
    given = Given()
    cells: list[int] = []
    counters: list[int] = []
    logs: list[int] = []
    ranges: list[int] = []
    for read in reads:
        slot = read.slot
        for partition, name in read.cells:
            cells += (slot, given[partition], given[name])
        for partition, name in read.counters:
            counters += (slot, given[partition], given[name])
        for asked in read.logs:
            partition, name = asked.log
            logs += (slot, given[partition], given[name], asked.start, max(asked.limit, 0))
        for index_range in read.indexes:
            ranges += _range(slot, index_range, int(index_range.reverse), given)
    return given.all, integers(cells), integers(counters), integers(logs), integers(ranges)


def scan_arguments(asked: IndexRange) -> tuple[object, ...]:
    """Return what the server's function takes for one range over all slots.

    Raises:
        UnicodeEncodeError: A key is not valid Unicode.
    """
    given = Given()
    row = _range(0, asked, asked.reverse + _OVER_ALL_SLOTS, given)
    return given.all, integers([]), integers([]), integers([]), integers([*row])


def _range(slot: int, asked: IndexRange, way: int, given: Given) -> tuple[int, ...]:
    before = given.value(ABOVE_ALL) if asked.before is None else given[asked.before]
    return slot, given[asked.index], given[asked.after], before, max(asked.limit, 0), way


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
        self._cells: dict[int, Cell] = {}
        self._counters: dict[int, int] = {}
        self._logs: dict[int, tuple[int, int]] = {}
        self._log_entries: dict[int, list[bytes]] = {}
        self._ranges: dict[int, list[Entry]] = {}
        self._next_cell, self._next_counter, self._next_log, self._next_range = count(), count(), count(), count()
        for row in rows:
            kind, number, one, two, _, value = row
            if kind == _CELL:
                self._cells[number] = Cell(one, value)
            elif kind == _COUNTER:
                self._counters[number] = one
            elif kind == _LOG:
                self._logs[number] = (one, two)
            elif kind == _LOG_ENTRY:
                self._log_entries.setdefault(number, []).append(value)
            else:
                self._ranges.setdefault(number, []).append(_entry(row))

    def snapshot(self, read: Read) -> Snapshot:
        cell, counter, entries = self._cells.get, self._counters.get, self._ranges.get
        return Snapshot(
            cells=tuple([cell(number, _NO_CELL) for number in islice(self._next_cell, len(read.cells))]),
            counters=tuple([counter(number, 0) for number in islice(self._next_counter, len(read.counters))]),
            logs=tuple([self._log_page(number) for number in islice(self._next_log, len(read.logs))]),
            indexes=tuple([tuple(entries(number, ())) for number in islice(self._next_range, len(read.indexes))]),
        )

    def _log_page(self, number: int) -> LogPage:
        first, length = self._logs[number]
        return LogPage(first, tuple(self._log_entries.get(number, ())), length)
