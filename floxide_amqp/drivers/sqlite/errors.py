"""The one table that turns what SQLite and its Python module raise into the errors of this package."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from floxide_amqp.exceptions import (
    InvalidBatchError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

_ResultT = TypeVar("_ResultT")

_BUSY_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
"""Primary codes that waiting cures; BUSY covers BUSY_SNAPSHOT, BUSY_RECOVERY and BUSY_TIMEOUT."""

FIRST_PAUSE_SECONDS = 0.0005
"""Longest first pause before a busy file is tried again: about one group commit on a fast disk."""
LONGEST_PAUSE_SECONDS = 0.02
"""Cap of that pause, which doubles; short, because a lock is held for one group of some milliseconds."""

_TABLE: dict[int, tuple[type[StoreError], str]] = {
    sqlite3.SQLITE_BUSY: (StoreUnavailableError, "another process kept it locked"),
    sqlite3.SQLITE_LOCKED: (StoreUnavailableError, "another connection kept a table locked"),
    sqlite3.SQLITE_PROTOCOL: (StoreUnavailableError, "the locks of its write-ahead log could not be taken"),
    sqlite3.SQLITE_CANTOPEN: (StoreUnavailableError, "the file cannot be opened: is its folder there and accessible?"),
    sqlite3.SQLITE_IOERR: (StoreUnavailableError, "the disk or the file system failed"),
    sqlite3.SQLITE_NOLFS: (StoreUnavailableError, "the file system cannot hold a file of this size"),
    sqlite3.SQLITE_NOMEM: (StoreUnavailableError, "this process is out of memory"),
    sqlite3.SQLITE_INTERRUPT: (StoreUnavailableError, "the operation was interrupted"),
    sqlite3.SQLITE_FULL: (StoreFullError, "the disk or the quota is full"),
    sqlite3.SQLITE_READONLY: (StoreReadOnlyError, "the file, its folder or its file system is read-only"),
    sqlite3.SQLITE_PERM: (StoreReadOnlyError, "access was denied"),
    sqlite3.SQLITE_AUTH: (StoreReadOnlyError, "access was denied"),
    sqlite3.SQLITE_CORRUPT: (StoreCorruptError, "the file's contents contradict each other"),
    sqlite3.SQLITE_NOTADB: (StoreCorruptError, "the file is not an SQLite database"),
    sqlite3.SQLITE_FORMAT: (StoreCorruptError, "the file's format is not one this SQLite knows"),
    sqlite3.SQLITE_TOOBIG: (InvalidBatchError, "a key or a value is too big"),
    sqlite3.SQLITE_MISMATCH: (InvalidBatchError, "a value has the wrong type"),
    sqlite3.SQLITE_CONSTRAINT: (InvalidBatchError, "a value has the wrong type"),
}


def primary_code(error: sqlite3.Error) -> int | None:
    """Return the primary result code of an error SQLite reported; None where the Python module itself raised it."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether trying again after a pause may succeed."""
    return primary_code(error) in _BUSY_CODES


def store_error(error: Exception, *, store: str) -> StoreError:
    """Return what to raise in place of an exception of the `sqlite3` module or of binding a parameter."""
    if isinstance(error, sqlite3.Error):
        code = primary_code(error)
        if code in _TABLE:
            kind, meaning = _TABLE[code]
            name = getattr(error, "sqlite_errorname", "")
            return kind(store=store, reason=f"{meaning} [{name}: {error}]")
        if code is not None:
            return StoreError(f"The store {store} failed inside SQLite: {error}. Nothing was applied.", store=store)
    if isinstance(error, UnicodeError):
        return InvalidBatchError(store=store, reason=f"a key is not valid Unicode: {error}")
    return InvalidBatchError(store=store, reason=f"a value cannot be stored: {error}")


def patiently(action: Callable[[], _ResultT], *, timeout: float) -> _ResultT:
    """Call `action` until the file is not busy, with growing random pauses; blocks the calling thread.

    Args:
        action: What to do; it must leave nothing behind when it raises.
        timeout: Seconds after which the busy error is let through.
    """
    deadline = time.monotonic() + timeout
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return action()
        except sqlite3.Error as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
        time.sleep(random.uniform(0, pause))
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
