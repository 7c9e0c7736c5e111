"""Connections that only read; their methods run in the reader threads."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.sqlite import schema, statements
from floxide_amqp.drivers.sqlite.errors import patiently, store_error
from floxide_amqp.drivers.sqlite.statements import Address, address_of
from floxide_amqp.ports.key_value import Cell, Entry, IndexRange, LogPage, LogRange, Read, Snapshot

_FOREIGN = (sqlite3.Error, UnicodeError, OverflowError, TypeError)

_ResultT = TypeVar("_ResultT")


class Readers:
    """A fixed number of connections, each lent to one call at a time."""

    def __init__(self, path: Path, count: int, *, store: str, lock_timeout: float) -> None:
        self._path = path
        self._count = count
        self._store = store
        self._lock_timeout = lock_timeout
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()

    def open(self) -> None:
        """Open the connections to a file that is a store.

        Raises:
            StoreError: It cannot be opened.
        """
        try:
            for _ in range(self._count):
                connection = schema.connect(self._path)
                self._idle.put(connection)
                patiently(partial(_set_up, connection), timeout=self._lock_timeout)
        except sqlite3.Error as error:
            self.close()
            raise store_error(error, store=self._store) from error

    def close(self) -> None:
        """Close the connections; none may be lent."""
        while not self._idle.empty():
            self._idle.get().close()

    def read(self, reads: Sequence[Read]) -> tuple[Snapshot, ...]:
        """Answer all reads from one snapshot of the file."""
        return self._lend(lambda connection: _in_one_snapshot(connection, reads))

    def scan(self, asked: IndexRange) -> tuple[Entry, ...]:
        """Read a range of an index over all slots."""
        return self._lend(lambda connection: _index_range(connection, asked, None))

    def _lend(self, action: Callable[[sqlite3.Connection], _ResultT]) -> _ResultT:
        connection = self._idle.get()
        try:
            return patiently(lambda: action(connection), timeout=self._lock_timeout)
        except _FOREIGN as error:
            raise store_error(error, store=self._store) from error
        finally:
            self._idle.put(connection)


def _set_up(connection: sqlite3.Connection) -> None:
    schema.set_up_connection(connection, schema.Synchronous.NORMAL)
    connection.execute("PRAGMA query_only=ON")


def _in_one_snapshot(connection: sqlite3.Connection, reads: Sequence[Read]) -> tuple[Snapshot, ...]:
    connection.execute("BEGIN")
    try:
        cells = statements.read_cells(connection, [address_of(read.slot, key) for read in reads for key in read.cells])
        counters = statements.read_counters(
            connection, [address_of(read.slot, key) for read in reads for key in read.counters]
        )
        return tuple(
            [
                Snapshot(
                    cells=tuple([Cell(*next(cells)) for _ in read.cells]),
                    counters=tuple([next(counters) for _ in read.counters]),
                    logs=_log_pages(connection, read.slot, read.logs),
                    indexes=tuple([_index_range(connection, asked, read.slot) for asked in read.indexes]),
                )
                for read in reads
            ]
        )
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def _log_pages(connection: sqlite3.Connection, slot: Slot, ranges: Sequence[LogRange]) -> tuple[LogPage, ...]:
    addresses: list[Address] = [address_of(slot, asked.log) for asked in ranges]
    pages: list[LogPage] = []
    bounds = list(statements.read_logs(connection, addresses))
    for asked, address, (kept_from, length) in zip(ranges, addresses, bounds, strict=True):
        first = max(asked.start, kept_from)
        entries: tuple[bytes, ...] = ()
        if first < length and asked.limit > 0:
            entries = statements.read_log_entries(connection, address, first, asked.limit)
        pages.append(LogPage(first, entries, length))
    return tuple(pages)


def _index_range(connection: sqlite3.Connection, asked: IndexRange, slot: Slot | None) -> tuple[Entry, ...]:
    parameters: list[str | int] = [asked.index, asked.after]
    if asked.before is not None:
        parameters.append(asked.before)
    if slot is not None:
        parameters.append(slot)
    parameters.append(max(asked.limit, 0))
    query = statements.index_query(bounded=asked.before is not None, one_slot=slot is not None, reverse=asked.reverse)
    rows = connection.execute(query, parameters).fetchall()
    return tuple([Entry(entry, value, Slot(home)) for entry, value, home in rows])
