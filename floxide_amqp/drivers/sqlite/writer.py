"""The one connection of this process that writes; everything here runs in the writer thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from floxide_amqp.drivers.clearing import clear_of
from floxide_amqp.drivers.sqlite import schema
from floxide_amqp.drivers.sqlite.errors import is_busy, patiently, primary_code, store_error
from floxide_amqp.drivers.sqlite.forking import CALLS
from floxide_amqp.drivers.sqlite.group import GroupState
from floxide_amqp.exceptions import CommitOutcomeUnknownError, StoreUnavailableError
from floxide_amqp.ports.key_value import Batch, Clear, Outcome

_FOREIGN = (sqlite3.Error, UnicodeError, OverflowError, TypeError)
"""What `sqlite3` raises: its own errors, and the built-in ones for parameters it cannot bind."""

_NOT_APPLIED_AT_COMMIT = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY})
"""Failures of COMMIT after which the log certainly holds no commit record. After any other (a failed sync, say) the
record may be on disk and be found at the next recovery."""


class Writer:
    """Commits groups, each as one transaction with one sync."""

    def __init__(self, path: Path, *, store: str, synchronous: schema.Synchronous, lock_timeout: float) -> None:
        self._path = path
        self._store = store
        self._synchronous = synchronous
        self._lock_timeout = lock_timeout
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open the file, creating it where it is missing, and check that it is a store.

        Raises:
            StoreError: It is not, or cannot be opened or written.
        """
        try:
            patiently(self._set_up, timeout=self._lock_timeout)
        except _FOREIGN as error:
            raise self._missing_folder() or store_error(error, store=self._store) from error

    def _set_up(self) -> None:
        with CALLS:
            self._opened()
            CALLS.keeps(self)

    def _opened(self) -> sqlite3.Connection:
        """Return the connection, opened if it is not, within a call."""
        if self._connection is None:
            connection = schema.connect(self._path)
            try:
                schema.set_up_connection(connection, self._synchronous)
                schema.set_up_file(connection, store=self._store)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _missing_folder(self) -> StoreUnavailableError | None:
        """Return what to say where the file cannot be there because its folder is not."""
        folder = self._path.parent
        if folder.is_dir():
            return None
        return StoreUnavailableError(
            store=self._store, reason=f"the folder {folder} does not exist",
            cure=f"make the folder (mkdir -p {folder}) or name another path, then repeat.",
        )  # fmt: skip

    def close(self) -> None:
        """Close the connection; the last one of all processes empties the write-ahead log into the file."""
        with CALLS:
            self.suspend()

    def suspend(self) -> None:
        """Close the connection until the next commit, within a call or while there is none."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def commit(self, batches: Sequence[Batch]) -> tuple[Outcome, ...]:
        """Apply a group in one transaction.

        Raises:
            CommitOutcomeUnknownError: The disk failed while the commit was being synced.
            StoreError: Nothing was applied.
        """
        try:
            parts = [(GroupState(part, store=self._store), part) for part in _apart(batches, store=self._store)]
            connection = patiently(self._begin, timeout=self._lock_timeout)
        except _FOREIGN as error:
            raise store_error(error, store=self._store) from error
        try:
            return self._apply_and_end(connection, parts)
        finally:
            CALLS.leave()

    def _begin(self) -> sqlite3.Connection:
        """Begin a call and a transaction in it, or neither."""
        CALLS.enter()
        try:
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
        except BaseException:
            CALLS.leave()
            raise
        return connection

    def _apply_and_end(
        self, connection: sqlite3.Connection, parts: Sequence[tuple[GroupState, Sequence[Batch]]]
    ) -> tuple[Outcome, ...]:
        try:
            outcomes = tuple([outcome for state, part in parts for outcome in _apply(connection, state, part)])
        except BaseException as error:
            self._roll_back(connection)
            if isinstance(error, _FOREIGN):
                raise store_error(error, store=self._store) from error
            raise
        self._end(connection)
        return outcomes

    def _end(self, connection: sqlite3.Connection) -> None:
        try:
            patiently(lambda: connection.execute("COMMIT"), timeout=self._lock_timeout)
        except sqlite3.Error as error:
            self._roll_back(connection)
            if primary_code(error) in _NOT_APPLIED_AT_COMMIT or is_busy(error):
                raise store_error(error, store=self._store) from error
            raise CommitOutcomeUnknownError(store=self._store, reason=str(error)) from error

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        """End the transaction, if SQLite has not already done so; the caller has an error to raise that says more.

        Where the disk fails here too, the connection is given up, which ends the transaction: it would be in the way of
        every later group's.
        """
        if connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error:
                self.suspend()


def _apart(batches: Sequence[Batch], *, store: str) -> list[list[Batch]]:
    """Split a group so that each batch that clears a partition stands alone; most groups are one part."""
    parts: list[list[Batch]] = []
    is_open = False
    for batch in batches:
        clears = clear_of(batch, store=store) is not None
        if clears or not is_open:
            parts.append([])
        parts[-1].append(batch)
        is_open = not clears
    return parts


def _apply(connection: sqlite3.Connection, state: GroupState, part: Sequence[Batch]) -> list[Outcome]:
    state.load(connection)
    first = part[0].writes[0] if part[0].writes else None
    if isinstance(first, Clear):
        return [state.clear(connection, part[0], first)]
    outcomes = [state.apply(batch) for batch in part]
    state.flush(connection)
    return outcomes
