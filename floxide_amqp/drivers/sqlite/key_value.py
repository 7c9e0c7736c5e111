"""The key-value store in one SQLite file.

One thread writes, others read, and the event loop only hands calls over to them. Each call to `commit` is one
transaction and one sync; grouping is the caller's. Any number of processes of one machine may open the same file; they
take turns by its lock, in no promised order.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.running_clock import RunningClock
from floxide_amqp.drivers.sqlite.errors import store_error
from floxide_amqp.drivers.sqlite.reader import Readers
from floxide_amqp.drivers.sqlite.schema import SCHEMA_VERSION, Synchronous, version_of
from floxide_amqp.drivers.sqlite.writer import Writer
from floxide_amqp.exceptions import ConfigurationError, StoreClosedError
from floxide_amqp.ports.clock import Clock
from floxide_amqp.ports.key_value import (
    Batch,
    CommitReply,
    Durability,
    Entry,
    IndexRange,
    Read,
    ReadReply,
    RecordPage,
)

DEFAULT_LOCK_TIMEOUT = timedelta(seconds=30)
"""How long a call waits for other processes: far above any group's time, below a worker's patience."""

READER_COUNT = 2
"""Threads that read: one can serve short reads while the other pages through a long scan."""

_ResultT = TypeVar("_ResultT")


class SqliteKeyValueStore:
    """A key-value store in a file on a local disk; make one with `open`.

    Reading an index for one slot passes over the entries of other slots that lie in the range asked for: give bounds.
    """

    def __init__(self, writer: Writer, readers: Readers, *, path: Path, synchronous: Synchronous, clock: Clock) -> None:
        self._writer = writer
        self._readers = readers
        self._path = path
        self._synchronous = synchronous
        self._clock = clock
        self._write_threads = ThreadPoolExecutor(1, thread_name_prefix="floxide-sqlite-writer")
        self._read_threads = ThreadPoolExecutor(READER_COUNT, thread_name_prefix="floxide-sqlite-reader")
        self._closing = threading.Lock()
        self._is_closed = False
        self._process = os.getpid()

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        synchronous: Synchronous = Synchronous.FULL,
        lock_timeout: timedelta | float = DEFAULT_LOCK_TIMEOUT,
        clock: Clock | None = None,
    ) -> SqliteKeyValueStore:
        """Open the store in a file, creating the file (not its folder) where it is missing.

        Args:
            path: A file on a local disk; network file systems lack the locks and shared memory it needs.
            synchronous: When commits are synced to disk.
            lock_timeout: Longest wait for other processes, seconds; at least 0.
            clock: Tells the time that replies carry; by default that of the event loop, or the machine's.

        Raises:
            ConfigurationError: `path` is no file's name.
            StoreSchemaError: The file belongs to another release or another program.
            StoreCorruptError: The file is not an SQLite database, or is damaged.
            StoreError: It cannot be opened or written.
        """
        seconds = lock_timeout.total_seconds() if isinstance(lock_timeout, timedelta) else lock_timeout
        if seconds < 0:
            raise ConfigurationError(f"lock_timeout must be at least 0 seconds, not {seconds}.")
        file = _file_of(path)
        store = cls(
            Writer(file, store=str(file), synchronous=synchronous, lock_timeout=seconds),
            Readers(file, READER_COUNT, store=str(file), lock_timeout=seconds),
            path=file,
            synchronous=synchronous,
            clock=clock or RunningClock(),
        )
        try:
            await store._in_thread(store._write_threads, store._open)
        except BaseException:
            await store.aclose()
            raise
        return store

    @staticmethod
    async def is_older(path: str | Path) -> bool:
        """Return whether a file that is there is of an earlier release, and would be changed by opening it.

        Raises:
            StoreError: It cannot be read.
        """
        file = _file_of(path)
        try:
            return 0 < await asyncio.to_thread(version_of, file) < SCHEMA_VERSION
        except sqlite3.Error as error:
            raise store_error(error, store=str(file)) from error

    @property
    def path(self) -> Path:
        """The file, absolute."""
        return self._path

    @property
    def durability(self) -> Durability:
        """A power loss with `Synchronous.FULL`, a process crash with `Synchronous.NORMAL`."""
        return Durability.POWER_LOSS if self._synchronous is Synchronous.FULL else Durability.PROCESS_CRASH

    @property
    def is_shared(self) -> bool:
        """Other processes of this machine can open the same file."""
        return True

    async def commit(self, batches: Sequence[Batch]) -> CommitReply:
        """Apply batches as one transaction, in order, each atomic, each seeing those before it.

        Raises:
            StoreUnavailableError: The file stayed locked or the disk failed; nothing was applied.
            CommitOutcomeUnknownError: The disk failed while the commit was synced.
            StoreError: The group is faulty or the disk is full; nothing was applied.
        """
        outcomes = await self._in_thread(self._write_threads, lambda: self._writer.commit(batches))
        return CommitReply(outcomes, self._clock.now_ms())

    async def read(self, reads: Sequence[Read]) -> ReadReply:
        """Return what each read asks for, all from one snapshot of the file.

        Raises:
            StoreUnavailableError: The file stayed locked or the disk failed.
            StoreError: The file is damaged.
        """
        snapshots = await self._in_thread(self._read_threads, lambda: self._readers.read(reads))
        return ReadReply(snapshots, self._clock.now_ms())

    async def scan(self, index_range: IndexRange) -> Sequence[Entry]:
        """Return a range of an index over all slots, in the order of the entry keys.

        Raises:
            StoreUnavailableError: The file stayed locked or the disk failed.
            StoreError: The file is damaged.
        """
        return await self._in_thread(self._read_threads, lambda: self._readers.scan(index_range))

    async def records(
        self, slot: Slot, *, partition: str | None = None, after: bytes = b"", limit: int = 1_000
    ) -> RecordPage:
        """List the cells, counters and logs of a slot, by kind and then by key; each page is one snapshot of the file.

        Raises:
            StoreUnavailableError: The file stayed locked or the disk failed.
            StoreError: The file is damaged, or `after` is no cursor of this store.
        """
        return await self._in_thread(self._read_threads, lambda: self._readers.records(slot, partition, after, limit))

    async def aclose(self) -> None:
        """Wait for the calls under way, then close the file; a second call does nothing."""
        if os.getpid() == self._process:
            await asyncio.to_thread(self._close)

    async def _in_thread(self, threads: ThreadPoolExecutor, action: Callable[[], _ResultT]) -> _ResultT:
        if self._is_closed or os.getpid() != self._process:  # the threads are not in a forked process
            raise StoreClosedError(store=str(self._path))
        return await asyncio.get_running_loop().run_in_executor(threads, action)

    def _open(self) -> None:
        self._writer.open()
        self._readers.open()

    def _close(self) -> None:
        with self._closing:
            self._is_closed = True
            self._read_threads.shutdown()
            self._readers.close()
            self._write_threads.shutdown()
            self._writer.close()


def _file_of(path: str | Path) -> Path:
    if str(path) in {"", ".", ":memory:"}:
        raise ConfigurationError(
            f"A SQLite store needs the path of a file, not {str(path)!r}; "
            "use MemoryKeyValueStore for one that lasts as long as the process."
        )
    return Path(path).absolute()
