"""SQL for many rows at once.

The `sqlite3` module gives up the interpreter lock at every step of every statement, and gets it back only when the
event loop's thread lets go of it: a statement per row would wait for a busy loop once per row. So a group is read and
written with one statement per kind of thing. Their texts come in sizes that are powers of two, so that few are ever
prepared.
"""

# ruff: noqa: S608 - every text is put together from constants of this module; all data goes through parameters

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any, TypeAlias

from floxide_amqp.ports.key_value import Key

Address: TypeAlias = tuple[int, str, str]
"""Slot, partition and name: where a cell, a counter or a log is."""


def address_of(slot: int, key: Key) -> Address:
    """Return where a key of a slot is."""
    return (slot, key[0], key[1])


MOST_ROWS = 64
"""Rows of the largest statement; more gained nothing."""

_AT = "slot=? AND partition=? AND name=?"


@cache
def _rows(count: int, width: int) -> str:
    return ",".join(["(" + ",".join("?" * width) + ")"] * count)


@cache
def _any_of(condition: str, count: int) -> str:
    """Several rows' conditions; unlike a row-value ``IN (VALUES …)``, SQLite searches the key for each."""
    return " OR ".join([f"({condition})"] * count)


@cache
def _repeated(columns: str, count: int) -> str:
    return "SELECT " + ",".join([columns] * count)


def put_cells(count: int) -> str:
    """Rows of slot, partition, name, version, value."""
    return f"INSERT OR REPLACE INTO cells VALUES {_rows(count, 5)}"


def put_counters(count: int) -> str:
    """Rows of slot, partition, name, value."""
    return f"INSERT OR REPLACE INTO counters VALUES {_rows(count, 4)}"


def append_entries(count: int) -> str:
    """Rows of slot, partition, name, position, value."""
    return f"INSERT INTO log_entries VALUES {_rows(count, 5)}"


def put_log_starts(count: int) -> str:
    """Rows of slot, partition, name, start."""
    return f"INSERT OR REPLACE INTO log_starts VALUES {_rows(count, 4)}"


def enter_index(count: int) -> str:
    """Rows of index, entry, slot, value."""
    return f"INSERT OR REPLACE INTO index_entries VALUES {_rows(count, 4)}"


def leave_index(count: int) -> str:
    """Rows of index, entry, slot."""
    return "DELETE FROM index_entries WHERE " + _any_of("name=? AND entry=? AND slot=?", count)


def delete_from(table: str) -> Callable[[int], str]:
    """Rows of slot, partition, name."""
    return lambda count: f"DELETE FROM {table} WHERE {_any_of(_AT, count)}"


TRIM_LOG = f"DELETE FROM log_entries WHERE {_AT} AND position<?"

_VERSION = f"(SELECT version FROM cells WHERE {_AT})"
_CELL = f"{_VERSION},(SELECT value FROM cells WHERE {_AT})"
_COUNTER = f"(SELECT value FROM counters WHERE {_AT})"
_LOG = f"(SELECT start FROM log_starts WHERE {_AT}),(SELECT max(position)+1 FROM log_entries WHERE {_AT})"


def split(total: int) -> Iterator[tuple[int, int]]:
    """Yield (first row, rows) of statements that cover `total` rows, each a power of two and at most `MOST_ROWS`."""
    first = 0
    while first < total:
        count = min(MOST_ROWS, 1 << ((total - first).bit_length() - 1))
        yield first, count
        first += count


def write_rows(
    connection: sqlite3.Connection, statement: Callable[[int], str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Execute `statement` for all rows."""
    for first, count in split(len(rows)):
        connection.execute(statement(count), tuple(chain.from_iterable(rows[first : first + count])))


def _lookup(connection: sqlite3.Connection, columns: str, parameters: Sequence[tuple[int | str, ...]]) -> Iterator[Any]:
    """Yield the values of scalar subqueries, once per tuple of parameters, in one result row per statement."""
    for first, count in split(len(parameters)):
        flat = tuple(chain.from_iterable(parameters[first : first + count]))
        yield from connection.execute(_repeated(columns, count), flat).fetchone()


def read_versions(connection: sqlite3.Connection, addresses: Sequence[Address]) -> Iterator[int]:
    """Yield the version of each cell, 0 where absent."""
    return (version or 0 for version in _lookup(connection, _VERSION, addresses))


def read_cells(connection: sqlite3.Connection, addresses: Sequence[Address]) -> Iterator[tuple[int, bytes]]:
    """Yield version and value of each cell, 0 and empty where absent."""
    found = _lookup(connection, _CELL, [address + address for address in addresses])
    return ((version or 0, value or b"") for version, value in zip(found, found, strict=True))


def read_counters(connection: sqlite3.Connection, addresses: Sequence[Address]) -> Iterator[int]:
    """Yield each counter, 0 where absent."""
    return (value or 0 for value in _lookup(connection, _COUNTER, addresses))


def read_logs(connection: sqlite3.Connection, addresses: Sequence[Address]) -> Iterator[tuple[int, int]]:
    """Yield the first kept position and the next position of each log."""
    found = _lookup(connection, _LOG, [address + address for address in addresses])
    for start, end in zip(found, found, strict=True):
        first = start or 0
        yield first, first if end is None else end


def read_log_entries(connection: sqlite3.Connection, address: Address, start: int, limit: int) -> tuple[bytes, ...]:
    """Return at most `limit` entries of a log from a position on."""
    rows = connection.execute(
        f"SELECT value FROM log_entries WHERE {_AT} AND position>=? ORDER BY position LIMIT ?",
        (*address, start, limit),
    )
    return tuple([row[0] for row in rows.fetchall()])


def index_query(*, bounded: bool, one_slot: bool, reverse: bool) -> str:
    """Select entry, value, slot of a range; parameters: index, after, [before], [slot], limit."""
    before = " AND entry<?" if bounded else ""
    slot = " AND slot=?" if one_slot else ""
    order = "DESC" if reverse else "ASC"
    return (
        f"SELECT entry,value,slot FROM index_entries WHERE name=? AND entry>?{before}{slot} "
        f"ORDER BY entry {order},slot {order} LIMIT ?"
    )
