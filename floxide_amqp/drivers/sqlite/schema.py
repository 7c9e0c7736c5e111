"""The file's tables, its schema version, what brings an older file to it, and how a connection to it is set up.

Every table is clustered on its key (WITHOUT ROWID): one B-tree per kind of thing, so a write touches one page, and
what belongs to one run lies together. But SQLite reads the whole of a row that it passes on its way to another one, all
pages of a large value too. So large values lie apart, in `large_values`, and their rows have the id there; a trigger
takes a large value away with its row.

The version stands in the file's header (`user_version`), beside an application id that tells a store from any other
SQLite file. An older file is brought to this version when it is opened.
"""

# ruff: noqa: S608 - every text is put together from constants of this module; all data goes through parameters

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from enum import Enum
from pathlib import Path

from floxide_amqp.drivers.sqlite.forking import CALLS
from floxide_amqp.exceptions import StoreError, StoreSchemaError

SCHEMA_VERSION = 2
"""Raised by every change of the tables below; `_MIGRATIONS` says how a file gets there."""

LARGE_BYTES = 768
"""A value of more bytes lies apart. A page of 4 KiB holds about 1,000 bytes of a row, key and all, before it spills:
with values of 1.1 KB, rows that spill take 2.5 times the room, and half as much time again to be found or passed."""

APPLICATION_ID = 0x464C5831
"""``FLX1``: marks the file as a store of this package."""

PAGE_BYTES = 4096
CACHE_KIBIBYTES = 65_536
CHECKPOINT_PAGES = 8_192
WAL_LIMIT_BYTES = 64 * 1024 * 1024


class Synchronous(Enum):
    """When a commit is synced to disk."""

    FULL = "FULL"
    """Before it is reported: survives a power loss."""
    NORMAL = "NORMAL"
    """Only at checkpoints: survives the death of any process; a power loss may take the last commits."""


_VALUED = {
    "cells": "slot,partition,name",
    "log_entries": "slot,partition,name,position",
    "index_entries": "name,entry,slot",
}
"""The tables with values, each with the columns of its key."""

MIGRATED_AT_ONCE = 1_000
"""Rows whose keys are in memory while an older file is brought to this version."""

TABLES = """
CREATE TABLE cells (
  slot INTEGER NOT NULL, partition TEXT NOT NULL, name TEXT NOT NULL,
  version INTEGER NOT NULL, value BLOB NOT NULL,
  PRIMARY KEY (slot, partition, name)) WITHOUT ROWID;
CREATE TABLE counters (
  slot INTEGER NOT NULL, partition TEXT NOT NULL, name TEXT NOT NULL,
  value INTEGER NOT NULL,
  PRIMARY KEY (slot, partition, name)) WITHOUT ROWID;
CREATE TABLE log_entries (
  slot INTEGER NOT NULL, partition TEXT NOT NULL, name TEXT NOT NULL, position INTEGER NOT NULL,
  value BLOB NOT NULL,
  PRIMARY KEY (slot, partition, name, position)) WITHOUT ROWID;
CREATE TABLE log_starts (
  slot INTEGER NOT NULL, partition TEXT NOT NULL, name TEXT NOT NULL,
  start INTEGER NOT NULL,
  PRIMARY KEY (slot, partition, name)) WITHOUT ROWID;
CREATE TABLE index_entries (
  name TEXT NOT NULL, entry TEXT NOT NULL, slot INTEGER NOT NULL,
  value BLOB NOT NULL,
  PRIMARY KEY (name, entry, slot)) WITHOUT ROWID;
"""
"""`log_starts` has a row only for a log that was trimmed: the position of its first kept entry."""

LARGE_VALUES = """
CREATE TABLE large_values (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
""" + "".join(
    f"CREATE TRIGGER {table}_with_large_value AFTER DELETE ON {table} WHEN typeof(old.value)='integer' "
    "BEGIN DELETE FROM large_values WHERE id=old.value; END;\n"
    for table in _VALUED
)
"""The triggers cost the writer about a hundredth of its time."""

_CONNECTION_PRAGMAS = {
    "cache_size": -CACHE_KIBIBYTES,  # 64 MiB; the default of 2 MB makes inner pages be read again on every commit
    "temp_store": "MEMORY",  # no temporary files beside the store
    "recursive_triggers": "ON",  # so that a large value goes when another takes its place too
    "secure_delete": "OFF",  # Debian builds it on: every delete would write zeroes over freed pages
    "wal_autocheckpoint": CHECKPOINT_PAGES,  # 32 MiB; the default of 4 MB checkpoints every third busy group
    "journal_size_limit": WAL_LIMIT_BYTES,  # a log grown by a long reader shrinks again at the next reset
}


def version_of(path: Path) -> int:
    """Return the schema version of a file that is there, changing nothing; 0 of one that is no store.

    Raises:
        sqlite3.Error: It is no database, or cannot be read.
    """
    with CALLS, closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            return 0
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection that begins no transactions by itself and never waits inside SQLite.

    It may be used from any one thread at a time. Waiting is left to `patiently`, whose pauses are random: SQLite's own
    are the same in every process.
    """
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=512)


def set_up_connection(connection: sqlite3.Connection, synchronous: Synchronous) -> None:
    """Set what SQLite keeps per connection."""
    connection.execute(f"PRAGMA synchronous={synchronous.value}")
    for name, value in _CONNECTION_PRAGMAS.items():
        connection.execute(f"PRAGMA {name}={value}")


def set_up_file(connection: sqlite3.Connection, *, store: str) -> None:
    """Create the tables in an empty file; check that any other file is a store of this schema version and writable.

    May be repeated after an error.

    Raises:
        StoreSchemaError: The file belongs to another program or another release.
        StoreError: The file's folder cannot hold a write-ahead log.
        sqlite3.Error: As SQLite reports it.
    """
    connection.execute(f"PRAGMA page_size={PAGE_BYTES}")  # only heeded by a new file
    _check_or_create(connection, store)
    # Persistent; readers and the writer do not block each other, and a commit is one sequential write and one sync.
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(
            f"The store {store} cannot use a write-ahead log (journal mode {mode!r}). "
            "Put the file on a local disk: network file systems lack the shared memory it needs.",
            store=store,
        )


def _check_or_create(connection: sqlite3.Connection, store: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not tables and not application and not version:
            _run(connection, TABLES)
            version = 1
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        elif application != APPLICATION_ID:
            _refuse(store, f"an SQLite database of another program (application id {application:#x})")
        elif not 1 <= version <= SCHEMA_VERSION:
            _refuse(store, f"schema version {version}")
        for migrate in _MIGRATIONS[version - 1 :]:
            migrate(connection)
        if version != SCHEMA_VERSION:
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Execute statements within a transaction, which `executescript` would end."""
    for statement in script.strip().split(";\n"):
        connection.execute(statement)


def _set_large_values_apart(connection: sqlite3.Connection) -> None:
    """Make version 2 of version 1."""
    _run(connection, LARGE_VALUES)
    for table, key in _VALUED.items():
        columns = key.split(",")
        marks, at = ",".join("?" * len(columns)), " AND ".join(f"{column}=?" for column in columns)
        is_large = f"length(value)>{LARGE_BYTES} AND ({key})>({marks})"
        large = f"SELECT {key} FROM {table} WHERE {is_large} ORDER BY {key} LIMIT {MIGRATED_AT_ONCE}"
        last: tuple[object, ...] = tuple(-(1 << 63) if column in _NUMBERS else "" for column in columns)
        while rows := connection.execute(large, last).fetchall():
            for row in rows:
                move = f"INSERT INTO large_values(data) SELECT value FROM {table} WHERE {at}"
                number = connection.execute(move, row).lastrowid
                connection.execute(f"UPDATE {table} SET value=? WHERE {at}", (number, *row))
            last = rows[-1]


_NUMBERS = frozenset({"slot", "position"})
_MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_set_large_values_apart,)
"""What makes each version of the one before, from version 2 on; within the transaction in which the file is opened."""


def _refuse(store: str, found: str) -> None:
    raise StoreSchemaError(store=store, found=found, expected=f"schema version {SCHEMA_VERSION}")
