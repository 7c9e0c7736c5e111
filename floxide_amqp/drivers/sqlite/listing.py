"""Listing the records of a slot; everything here runs in a reader thread, within a transaction."""

# ruff: noqa: S608 - every text is put together from constants of this module; all data goes through parameters

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from floxide_amqp.drivers.record_cursor import COUNTER_BYTES, KINDS, cursor_after, place_of
from floxide_amqp.drivers.sqlite.statements import SIZE, read_rows
from floxide_amqp.ports.key_value import Key, RecordInfo, RecordKind, RecordPage

_COLUMNS: Mapping[RecordKind, tuple[str, str]] = {
    RecordKind.CELL: ("cells", f"version AS number,{SIZE} AS size"),
    RecordKind.COUNTER: ("counters", f"value AS number,{COUNTER_BYTES} AS size"),
}
_ENTRIES = ("log_entries", f"max(position)+1 AS number,sum({SIZE}) AS size")
_TRIMMED = ("log_starts", "start AS number,0 AS size")


def record_page(
    connection: sqlite3.Connection, slot: int, partition: str | None, after: bytes, limit: int, *, store: str
) -> RecordPage:
    """Return up to `limit` (at least 1) records behind a cursor, by kind and then by key."""
    kind_number, behind = place_of(after, store=store)
    found: list[RecordInfo] = []
    limit = max(limit, 1)
    for kind in KINDS[kind_number:]:
        listing = _Listing(connection, slot, partition, behind, limit - len(found))
        rows = listing.logs() if kind is RecordKind.LOG else listing.rows(*_COLUMNS[kind])
        found += (RecordInfo(key, kind, size, number) for key, (number, size) in rows.items())
        if len(found) >= limit:
            return RecordPage(tuple(found), cursor_after(kind, found[-1].key))
        behind = None
    return RecordPage(tuple(found), None)


class _Listing:
    """What is behind a key."""

    def __init__(
        self, connection: sqlite3.Connection, slot: int, partition: str | None, behind: Key | None, limit: int
    ) -> None:
        self._connection = connection
        self._limit = limit
        self._where = "slot=?"
        self._parameters: list[int | str] = [slot]
        if partition is not None:
            self._where += " AND partition=?"
            self._parameters.append(partition)
        if behind is not None:
            self._where += " AND (partition,name)>(?,?)"
            self._parameters += behind

    def rows(self, table: str, columns: str, group: str = "") -> dict[Key, tuple[int, int]]:
        """Return number and size of the first records of a table."""
        query = (
            f"SELECT partition,name,{columns} FROM {table} WHERE {self._where} {group} ORDER BY partition,name LIMIT ?"
        )
        parameters = [*self._parameters, self._limit]
        found = read_rows(self._connection, query, "partition,name,number,size", parameters)
        return {Key(partition.decode(), name.decode()): (int(n), int(size)) for partition, name, n, size in found}

    def logs(self) -> dict[Key, tuple[int, int]]:
        """Return next position and size of the first logs: those with entries, and those trimmed to nothing."""
        entries = self.rows(*_ENTRIES, "GROUP BY partition,name")
        logs = self.rows(*_TRIMMED) | entries
        return {key: logs[key] for key in sorted(logs)[: self._limit]}
