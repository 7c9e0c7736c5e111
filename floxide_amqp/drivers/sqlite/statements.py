"""SQL for many rows at once.

The `sqlite3` module gives up the interpreter lock at every step of every statement, and where another thread computes
(a busy event loop, a synchronous node) it gets it back only 5 ms later. A statement per row pays that again and again.
So what a group asks about comes as few, wide rows of scalar subqueries, each kind of thing is written by one statement
of many rows, and a range comes back folded into one row.

Statements come in a few sizes, filled up with rows of NULLs, so that their texts are few and stay prepared. Nothing is
found at NULL, and nothing is put there: filling up with a row that is there, to put it twice, would cost as much as
any other.

Large values lie in a table of their own, and their rows have the id there (see `schema`).
"""

# ruff: noqa: S608 - every text is put together from constants of this module; all data goes through parameters

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from floxide_amqp.drivers.sqlite.schema import LARGE_BYTES
from floxide_amqp.ports.key_value import Clear, Key

Address: TypeAlias = tuple[int, str, str]
"""Slot, partition and name: where a cell, a counter or a log is."""


def address_of(slot: int, key: Key) -> Address:
    """Return where a key of a slot is."""
    return (slot, key[0], key[1])


SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Rows of a statement: steps of at most a half, so that at most a third of the rows are filling."""
MOST_ROWS = SIZES[-1]
"""Keeps the widest row far below SQLite's 2,000 columns."""
FEW_ROWS = 24
"""Lookups that share one statement, of whatever kinds; a statement of many more subqueries is slow to prepare."""

_AT = "slot=? AND partition=? AND name=?"


@cache
def _rows(count: int, width: int) -> str:
    return ",".join(["(" + ",".join("?" * width) + ")"] * count)


@cache
def _any_of(condition: str, count: int) -> str:
    """Several rows' conditions; unlike a row-value ``IN (VALUES …)``, SQLite searches the key for each."""
    return " OR ".join([f"({condition})"] * count)


@cache
def _put(table: str, count: int, width: int) -> str:
    return f"INSERT OR REPLACE INTO {table} SELECT * FROM (VALUES {_rows(count, width)}) WHERE column1 IS NOT NULL"


def put_cells(count: int) -> str:
    """Rows of slot, partition, name, version, value."""
    return _put("cells", count, 5)


def put_counters(count: int) -> str:
    """Rows of slot, partition, name, value."""
    return _put("counters", count, 4)


def append_entries(count: int) -> str:
    """Rows of slot, partition, name, position, value."""
    return _put("log_entries", count, 5)


def put_log_starts(count: int) -> str:
    """Rows of slot, partition, name, start."""
    return _put("log_starts", count, 4)


def enter_index(count: int) -> str:
    """Rows of index, entry, slot, value."""
    return _put("index_entries", count, 4)


def leave_index(count: int) -> str:
    """Rows of index, entry, slot."""
    return "DELETE FROM index_entries WHERE " + _any_of("name=? AND entry=? AND slot=?", count)


def delete_from(table: str) -> Callable[[int], str]:
    """Rows of slot, partition, name."""
    return lambda count: f"DELETE FROM {table} WHERE {_any_of(_AT, count)}"


TRIM_LOG = f"DELETE FROM log_entries WHERE {_AT} AND position<?"


class Lookup(NamedTuple):
    """What to find out about an address, as `columns` of scalar subqueries that each take the address."""

    sql: str
    columns: int


VALUE = "CASE typeof(value) WHEN 'blob' THEN value ELSE (SELECT data FROM large_values WHERE id=value) END"
"""A row's value, wherever it lies."""
SIZE = f"length({VALUE})"

CELL = Lookup(f"(SELECT version FROM cells WHERE {_AT}),(SELECT {VALUE} FROM cells WHERE {_AT})", 2)
COUNTER = Lookup(f"(SELECT value FROM counters WHERE {_AT})", 1)
LOG = Lookup(f"(SELECT start FROM log_starts WHERE {_AT}),(SELECT max(position)+1 FROM log_entries WHERE {_AT})", 2)


def filled(rows: Sequence[tuple[Any, ...]], sizes: Sequence[int] = SIZES) -> list[tuple[Any, ...]]:
    """Return the rows (at most the last of the sizes) and rows of NULLs until one of the sizes is reached."""
    if not rows:
        return []
    size = sizes[bisect_left(sizes, len(rows))]
    return [*rows, *[(None,) * len(rows[0])] * (size - len(rows))]


def write_rows(
    connection: sqlite3.Connection, statement: Callable[[int], str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Execute `statement` for all rows."""
    for first in range(0, len(rows), MOST_ROWS):
        part = filled(rows[first : first + MOST_ROWS])
        connection.execute(statement(len(part)), tuple(chain.from_iterable(part)))


def write_values(
    connection: sqlite3.Connection, statement: Callable[[int], str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Execute `statement` for rows that each end with a value, the large ones of which go where those lie."""
    small = [row for row in rows if len(row[-1]) <= LARGE_BYTES]
    write_rows(connection, statement, small)
    if len(small) == len(rows):
        return
    for row in rows:
        if len(row[-1]) > LARGE_BYTES:
            number = connection.execute("INSERT INTO large_values(data) VALUES(?)", row[-1:]).lastrowid
            connection.execute(statement(1), (*row[:-1], number))


def is_one_statement(*counts: int) -> bool:
    """Tell whether `look_up` makes one statement at most of so many addresses of each kind."""
    together = sum(counts)
    return together <= FEW_ROWS or (together <= MOST_ROWS and together in counts)


def look_up(connection: sqlite3.Connection, *asked: tuple[Lookup, Sequence[Address]]) -> list[list[Any]]:
    """Return, for each kind of lookup, the values of its columns for all its addresses, one after the other.

    Not all are of one moment where these are several statements and the connection is in no transaction.
    """
    if is_one_statement(*[len(addresses) for _, addresses in asked]):
        return _one_row(connection, asked)
    return [
        [
            value
            for first in range(0, len(addresses), MOST_ROWS)
            for value in _one_row(connection, [(kind, addresses[first : first + MOST_ROWS])])[0]
        ]
        for kind, addresses in asked
    ]


def _one_row(connection: sqlite3.Connection, asked: Sequence[tuple[Lookup, Sequence[Address]]]) -> list[list[Any]]:
    fillings = [filled(addresses) for _, addresses in asked]
    shape = tuple([(kind, len(filling)) for (kind, _), filling in zip(asked, fillings, strict=True) if filling])
    if not shape:
        return [[] for _ in asked]
    parameters = [
        address * kind.columns for (kind, _), filling in zip(asked, fillings, strict=True) for address in filling
    ]
    row = connection.execute(_select(shape), tuple(chain.from_iterable(parameters))).fetchone()
    found: list[list[Any]] = []
    start = 0
    for (kind, addresses), filling in zip(asked, fillings, strict=True):
        found.append(list(row[start : start + kind.columns * len(addresses)]))
        start += kind.columns * len(filling)
    return found


@lru_cache(256)
def _select(shape: tuple[tuple[Lookup, int], ...]) -> str:
    return "SELECT " + ",".join([kind.sql for kind, count in shape for _ in range(count)])


NUMBER_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 240)
"""Rows of such a statement: cheap to fill, and of the largest with less than the 999 parameters of older SQLites."""

_THERE = "slot=column2 AND partition=column3 AND name=column4"
_START = f"(SELECT start FROM log_starts WHERE {_THERE})"
_NUMBERS = (
    f"CASE column1 WHEN 0 THEN coalesce((SELECT version FROM cells WHERE {_THERE}),0) "
    f"WHEN 1 THEN coalesce((SELECT value FROM counters WHERE {_THERE}),0) "
    f"WHEN 2 THEN coalesce({_START},0)||','||"
    f"coalesce((SELECT max(position)+1 FROM log_entries WHERE {_THERE}),{_START},0) END"
)
"""Of a row of kind, slot, partition and name: a version, a counter, or the bounds of a log; NULL of a filling row."""


@cache
def numbers(count: int) -> str:
    """Rows of 0 for a cell, 1 for a counter or 2 for a log, slot, partition, name; all numbers come in one text."""
    return f"SELECT group_concat({_NUMBERS}) FROM (VALUES {_rows(count, 4)})"


def look_up_numbers(
    connection: sqlite3.Connection, cells: Sequence[Address], counters: Sequence[Address], logs: Sequence[Address]
) -> tuple[list[int], list[int], Iterator[tuple[int, int]]]:
    """Return versions of cells, values of counters, and of each log the first kept position and the next one.

    One statement for all kinds, of whose sizes each has one text: half as dear as subqueries for each address, and a
    third as many statements, after each of which the event loop may have the interpreter lock.
    """
    rows = [(kind, *at) for kind, addresses in enumerate((cells, counters, logs)) for at in addresses]
    found: list[int] = []
    for first in range(0, len(rows), NUMBER_SIZES[-1]):
        part = filled(rows[first : first + NUMBER_SIZES[-1]], NUMBER_SIZES)
        text: str = connection.execute(numbers(len(part)), tuple(chain.from_iterable(part))).fetchone()[0]
        found += map(int, text.split(","))
    counters_at, logs_at = len(cells), len(cells) + len(counters)
    bounds = zip(found[logs_at::2], found[logs_at + 1 :: 2], strict=True)
    return found[:counters_at], found[counters_at:logs_at], bounds


def versions_of(values: Sequence[Any]) -> Iterator[int]:
    """Yield versions or counters, 0 where absent."""
    return (value or 0 for value in values)


def cells_of(values: Sequence[Any]) -> Iterator[tuple[int, bytes]]:
    """Yield version and value of each cell, 0 and empty where absent."""
    return ((version or 0, value or b"") for version, value in zip(values[::2], values[1::2], strict=True))


def bounds_of(values: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Yield the first kept position and the next position of each log."""
    for start, end in zip(values[::2], values[1::2], strict=True):
        first = start or 0
        yield first, first if end is None else end


LOG_QUERY = f"SELECT {VALUE} AS value FROM log_entries WHERE {_AT} AND position>=? ORDER BY position LIMIT ?"
"""Parameters: slot, partition, name, first position, limit."""


def folded(query: str, columns: str) -> str:
    """Fold the rows of a query, in order, into one text: ``;`` before a row, ``,`` between hexadecimal columns."""
    row = "||','||".join(f"hex({column})" for column in columns.split(","))
    return f"SELECT group_concat(';'||{row},'') FROM ({query})"


def read_rows(
    connection: sqlite3.Connection, query: str, columns: str, parameters: Sequence[int | str]
) -> list[list[bytes]]:
    """Return all rows of a query, every value as bytes."""
    text: str | None = connection.execute(folded(query, columns), parameters).fetchone()[0]
    if text is None:
        return []
    return [[bytes.fromhex(value) for value in row.split(",")] for row in text[1:].split(";")]


def index_query(*, bounded: bool, one_slot: bool, reverse: bool) -> str:
    """Select entry, value, slot of a range; parameters: index, after, [before], [slot], limit."""
    before = " AND entry<?" if bounded else ""
    slot = " AND slot=?" if one_slot else ""
    order = "DESC" if reverse else "ASC"
    return (
        f"SELECT entry,{VALUE} AS value,slot FROM index_entries WHERE name=? AND entry>?{before}{slot} "
        f"ORDER BY entry {order},slot {order} LIMIT ?"
    )


def clear_partition(connection: sqlite3.Connection, slot: int, clear: Clear) -> int:
    """Remove cells, then counters, then logs of a partition, as many as are asked for; return how many went."""
    count = 0
    for table in ("cells", "counters"):
        count += _delete_some(connection, table, slot, clear, clear.limit - count)
    kept = ",".join("?" * len(clear.keep))
    named = f"slot=? AND partition=? AND name NOT IN ({kept})"
    names_of = f"SELECT name FROM {{}} WHERE {named}"
    query = f"{names_of.format('log_entries')} UNION {names_of.format('log_starts')} ORDER BY name LIMIT ?"
    at = (slot, clear.partition, *clear.keep)
    names = connection.execute(query, (*at, *at, max(0, clear.limit - count))).fetchall()
    addresses = [(slot, clear.partition, name) for (name,) in names]
    write_rows(connection, delete_from("log_entries"), addresses)
    write_rows(connection, delete_from("log_starts"), addresses)
    return count + len(addresses)


def _delete_some(connection: sqlite3.Connection, table: str, slot: int, clear: Clear, limit: int) -> int:
    kept = ",".join("?" * len(clear.keep))
    some = f"SELECT name FROM {table} WHERE slot=? AND partition=? AND name NOT IN ({kept}) ORDER BY name LIMIT ?"
    statement = f"DELETE FROM {table} WHERE slot=? AND partition=? AND name IN ({some})"
    at = (slot, clear.partition)
    return connection.execute(statement, (*at, *at, *clear.keep, max(0, limit))).rowcount
