"""Connections that only read; their methods run in the reader threads."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.sqlite import schema, statements
from floxide_amqp.drivers.sqlite.errors import patiently, store_error
from floxide_amqp.drivers.sqlite.forking import CALLS
from floxide_amqp.drivers.sqlite.listing import record_page
from floxide_amqp.drivers.sqlite.statements import address_of
from floxide_amqp.ports.key_value import Cell, Entry, IndexRange, LogPage, LogRange, Read, RecordPage, Snapshot

_FOREIGN = (sqlite3.Error, UnicodeError, OverflowError, TypeError)

_ResultT = TypeVar("_ResultT")


class Readers:
    """A fixed number of connections, each lent to one call at a time."""

    def __init__(self, path: Path, count: int, *, store: str, lock_timeout: float) -> None:
        self._path = path
        self._count = count
        self._store = store
        self._lock_timeout = lock_timeout
        self._idle: SimpleQueue[sqlite3.Connection | None] = SimpleQueue()
        """Each a connection, or the room for one that is not open."""
        for _ in range(count):
            self._idle.put(None)

    def open(self) -> None:
        """Open the connections to a file that is a store.

        Raises:
            StoreError: It cannot be opened.
        """
        with CALLS:
            CALLS.keeps(self)
        for _ in range(self._count):
            self._patiently(lambda _: None)

    def close(self) -> None:
        """Close the connections; none may be lent."""
        with CALLS:
            self.suspend()

    def suspend(self) -> None:
        """Close the connections, each until it is next lent, while none is."""
        for _ in range(self._count):
            connection = self._idle.get()
            if connection is not None:
                connection.close()
            self._idle.put(None)

    def read(self, reads: Sequence[Read]) -> tuple[Snapshot, ...]:
        """Answer all reads from one snapshot of the file."""
        return self._patiently(lambda connection: _in_one_snapshot(connection, reads))

    def scan(self, asked: IndexRange) -> tuple[Entry, ...]:
        """Read a range of an index over all slots."""
        return self._patiently(lambda connection: _index_range(connection, asked, None))

    def records(self, slot: Slot, partition: str | None, after: bytes, limit: int) -> RecordPage:
        """List records of a slot, each page as of one moment."""

        def page(connection: sqlite3.Connection) -> RecordPage:
            connection.execute("BEGIN")
            try:
                return record_page(connection, slot, partition, after, limit, store=self._store)
            finally:
                if connection.in_transaction:
                    connection.execute("COMMIT")

        return self._patiently(page)

    def _patiently(self, action: Callable[[sqlite3.Connection], _ResultT]) -> _ResultT:
        try:
            return patiently(lambda: self._lend(action), timeout=self._lock_timeout)
        except _FOREIGN as error:
            raise store_error(error, store=self._store) from error

    def _lend(self, action: Callable[[sqlite3.Connection], _ResultT]) -> _ResultT:
        with CALLS:
            connection = self._idle.get()
            try:
                connection = connection or self._connect()
                return action(connection)
            finally:
                self._idle.put(connection)

    def _connect(self) -> sqlite3.Connection:
        connection = schema.connect(self._path)
        try:
            schema.set_up_connection(connection, schema.Synchronous.NORMAL)
            connection.execute("PRAGMA query_only=ON")
        except BaseException:
            connection.close()
            raise
        return connection


def _in_one_snapshot(connection: sqlite3.Connection, reads: Sequence[Read]) -> tuple[Snapshot, ...]:
    # One statement alone is a snapshot of its own, without two more for whose sake the event loop may have the lock.
    if _is_one_statement(reads):
        return _snapshots(connection, reads)
    connection.execute("BEGIN")
    try:
        return _snapshots(connection, reads)
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def _is_one_statement(reads: Sequence[Read]) -> bool:
    if any(read.logs or read.indexes for read in reads):
        return False
    cells, counters = sum(len(read.cells) for read in reads), sum(len(read.counters) for read in reads)
    return statements.is_one_statement(cells, counters)


def _snapshots(connection: sqlite3.Connection, reads: Sequence[Read]) -> tuple[Snapshot, ...]:
    cell_addresses = [address_of(read.slot, key) for read in reads for key in read.cells]
    counter_addresses = [address_of(read.slot, key) for read in reads for key in read.counters]
    log_addresses = [address_of(read.slot, asked.log) for read in reads for asked in read.logs]
    found = statements.look_up(
        connection,
        (statements.CELL, cell_addresses),
        (statements.COUNTER, counter_addresses),
        (statements.LOG, log_addresses),
    )
    cells, counters = statements.cells_of(found[0]), statements.versions_of(found[1])
    bounds = statements.bounds_of(found[2])
    return tuple(
        [
            Snapshot(
                cells=tuple([Cell(*next(cells)) for _ in read.cells]),
                counters=tuple([next(counters) for _ in read.counters]),
                logs=tuple([_log_page(connection, read.slot, asked, *next(bounds)) for asked in read.logs]),
                indexes=tuple([_index_range(connection, asked, read.slot) for asked in read.indexes]),
            )
            for read in reads
        ]
    )


def _log_page(connection: sqlite3.Connection, slot: Slot, asked: LogRange, kept_from: int, length: int) -> LogPage:
    first = max(asked.start, kept_from)
    if first >= length or asked.limit <= 0:
        return LogPage(first, (), length)
    parameters = (*address_of(slot, asked.log), first, asked.limit)
    rows = statements.read_rows(connection, statements.LOG_QUERY, "value", parameters)
    return LogPage(first, tuple([value for (value,) in rows]), length)


def _index_range(connection: sqlite3.Connection, asked: IndexRange, slot: Slot | None) -> tuple[Entry, ...]:
    parameters: list[str | int] = [asked.index, asked.after]
    if asked.before is not None:
        parameters.append(asked.before)
    if slot is not None:
        parameters.append(slot)
    parameters.append(max(asked.limit, 0))
    query = statements.index_query(bounded=asked.before is not None, one_slot=slot is not None, reverse=asked.reverse)
    rows = statements.read_rows(connection, query, "entry,value,slot", parameters)
    return tuple([Entry(entry.decode(), value, Slot(int(home))) for entry, value, home in rows])
