"""The file's tables, its schema version, and how a connection to it is set up.

Every table is clustered on its key (WITHOUT ROWID): one B-tree per kind of thing, so a write touches one page, and
what belongs to one run lies together. The version stands in the file's header (`user_version`), beside an application
id that tells a store from any other SQLite file.
"""

from __future__ import annotations

import sqlite3
from enum import Enum
from pathlib import Path

from floxide_amqp.exceptions import StoreError, StoreSchemaError

SCHEMA_VERSION = 1
"""Raised by every change of the tables below."""

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

_CONNECTION_PRAGMAS = {
    "cache_size": -CACHE_KIBIBYTES,  # 64 MiB; the default of 2 MB makes inner pages be read again on every commit
    "temp_store": "MEMORY",  # no temporary files beside the store
    "secure_delete": "OFF",  # Debian builds it on: every delete would write zeroes over freed pages
    "wal_autocheckpoint": CHECKPOINT_PAGES,  # 32 MiB; the default of 4 MB checkpoints every third busy group
    "journal_size_limit": WAL_LIMIT_BYTES,  # a log grown by a long reader shrinks again at the next reset
}


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
            for statement in TABLES.strip().split(";")[:-1]:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        elif application != APPLICATION_ID:
            _refuse(store, f"an SQLite database of another program (application id {application:#x})")
        elif version != SCHEMA_VERSION:
            _refuse(store, f"schema version {version}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _refuse(store: str, found: str) -> None:
    raise StoreSchemaError(store=store, found=found, expected=f"schema version {SCHEMA_VERSION}")
