"""The key-value store in a PostgreSQL database.

A group of batches is one call of one function in the server, which takes the locks of the partitions that the group
touches, then checks and writes (``migrations/0001.sql`` and `program`). A group of reads is one call too, and one
snapshot. Only a group that clears a partition takes several calls, in one transaction.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.postgresql import schema as schemas
from floxide_amqp.drivers.postgresql.administration import durability_of
from floxide_amqp.drivers.postgresql.commits import Group
from floxide_amqp.drivers.postgresql.connections import Connection, Connections
from floxide_amqp.drivers.postgresql.errors import FOREIGN, TRIED_AGAIN, is_cut_off, state_of, store_error
from floxide_amqp.drivers.postgresql.listing import record_page
from floxide_amqp.drivers.postgresql.reading import (
    READ_PARAMETERS,
    entries_of,
    read_arguments,
    scan_arguments,
    snapshots,
)
from floxide_amqp.drivers.postgresql.settings import settings_of
from floxide_amqp.exceptions import StoreClosedError
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

TRIES = 3
"""How often a call is made that a lock timeout, a deadlock or a serialization failure ended."""

LONGEST_PAUSE_SECONDS = 0.05
"""Before it is made again; random, so that those who met do not meet again."""

_ResultT = TypeVar("_ResultT")


class PostgresqlKeyValueStore:
    """A key-value store in a schema of a PostgreSQL database; make one with `open`.

    It belongs to the event loop it was opened in. A call that is cancelled runs on to its end in the background, and
    `aclose` waits for it.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._settings = connections.settings
        self._durability = Durability.PROCESS_CRASH
        self._calls: set[asyncio.Task[Any]] = set()
        self._is_closed = False
        self._read_group = f"SELECT * FROM {self._settings.quoted_schema}.read_group_2({READ_PARAMETERS})"  # noqa: S608 - a quoted name

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        schema: str | None = None,
        pool_size: int | None = None,
        statement_timeout: timedelta | float | None = None,
        lock_timeout: timedelta | float | None = None,
        connect_timeout: timedelta | float | None = None,
        synchronous_commit: str | None = None,
        has_pooler: bool | None = None,
    ) -> PostgresqlKeyValueStore:
        """Open the store in a database, making its tables where the schema is empty and the user may.

        What is left out is as the URL's option of the same name says (``pooler=transaction`` for `has_pooler`), or as
        the defaults in `floxide_amqp.drivers.postgresql.settings`.

        Args:
            url: ``postgresql://user:password@host:port/database?option=value``. Several hosts may be listed, with
                ``target_session_attrs=read-write`` to find the one that takes writes; ``sslmode=verify-full`` and the
                other options of TLS are as for libpq.
            schema: The PostgreSQL schema of the tables; several stores of one database have one each.
            pool_size: Most connections of this store; at least 1.
            statement_timeout: Longest run of one call in the server, seconds.
            lock_timeout: Longest single wait for a lock, seconds; a call tries three times.
            connect_timeout: Longest wait for a connection, seconds.
            synchronous_commit: ``local``, ``remote_write``, ``on`` or ``remote_apply``; by default the server's own,
                but never ``off``.
            has_pooler: Whether PgBouncer or its like hands each transaction to another session: nothing is kept
                between transactions then, which costs round trips.

        Raises:
            ConfigurationError: The URL or an option cannot be used.
            StoreSchemaError: The tables are of another release, or this user may not make them.
            StoreAccessRefusedError: User, password, database or rights are wrong.
            StoreUnavailableError: The server cannot be reached.
        """
        settings = settings_of(
            url,
            schema=schema,
            pool_size=pool_size,
            statement_timeout=statement_timeout,
            lock_timeout=lock_timeout,
            connect_timeout=connect_timeout,
            synchronous_commit=synchronous_commit,
            has_pooler=has_pooler,
        )
        store = cls(Connections(settings))
        try:
            await store._start()
        except BaseException:
            await store.aclose()
            raise
        return store

    @property
    def durability(self) -> Durability:
        """What commits survive, by the server's settings when the store was opened.

        A power loss with ``fsync`` on, and the loss of the server where there are synchronous standbys too; without
        ``fsync`` the death of any process.
        """
        return self._durability

    @property
    def is_shared(self) -> bool:
        """Whoever reaches the server can open the same data."""
        return True

    async def commit(self, batches: Sequence[Batch]) -> CommitReply:
        """Apply batches as one transaction, in order, each atomic, each seeing those before it.

        Raises:
            StoreUnavailableError: The server cannot be reached or stayed busy; nothing was applied.
            CommitOutcomeUnknownError: The connection was lost during the commit.
            StoreError: The group is faulty, the disk full or the server read-only; nothing was applied.
        """
        with self._translated():
            group = Group(batches, self._settings)

        async def commit(connection: Connection) -> CommitReply:
            return await group.commit(connection)

        return await self._call(commit, is_sent_commit=lambda: group.is_sent)

    async def read(self, reads: Sequence[Read]) -> ReadReply:
        """Return what each read asks for, all from one snapshot.

        Raises:
            StoreUnavailableError: The server cannot be reached or stayed busy.
            StoreError: A read is faulty.
        """
        with self._translated():
            arguments = read_arguments(reads)
        rows = await self._call(lambda connection: self._fetch(connection, self._read_group, *arguments))
        return ReadReply(snapshots(reads, rows[1:]), rows[0][2])

    async def scan(self, index_range: IndexRange) -> Sequence[Entry]:
        """Return a range of an index over all slots, in the order of the entry keys.

        Raises:
            StoreUnavailableError: The server cannot be reached or stayed busy.
            StoreError: The range is faulty.
        """
        with self._translated():
            arguments = scan_arguments(index_range)
        rows = await self._call(lambda connection: self._fetch(connection, self._read_group, *arguments))
        return entries_of(rows[1:])

    async def records(
        self, slot: Slot, *, partition: str | None = None, after: bytes = b"", limit: int = 1_000
    ) -> RecordPage:
        """List the cells, counters and logs of a slot, by kind and then by key.

        Raises:
            StoreUnavailableError: The server cannot be reached or stayed busy.
            StoreError: `after` is no cursor of this store.
        """

        async def page(connection: Connection) -> RecordPage:
            async with self._pinned(connection):
                return await record_page(connection, self._settings, slot, partition, after, limit)

        return await self._call(page)

    async def aclose(self) -> None:
        """Wait for the calls under way, then close the connections; a second call does nothing."""
        self._is_closed = True
        if self._calls:
            await asyncio.wait(self._calls)
        await self._connections.aclose()

    async def _start(self) -> None:
        self._durability = await self._call(self._prepare)

    async def _prepare(self, connection: Connection) -> Durability:
        settings = self._settings
        async with connection.transaction():
            found = await schemas.version_of(connection, settings)
        if not found:
            try:
                await schemas.migrate(connection, settings)
            except asyncpg.InsufficientPrivilegeError:
                schemas.check_version(settings, 0)
        else:
            schemas.check_version(settings, found)
        async with connection.transaction():
            durability, _ = await durability_of(connection, settings)
        return durability

    async def _fetch(self, connection: Connection, query: str, *arguments: object) -> list[Any]:
        async with self._pinned(connection):
            return await connection.fetch(query, *arguments)

    def _pinned(self, connection: Connection) -> AbstractAsyncContextManager[Any]:
        """Stay on one session: without a pooler that is so anyway, and a transaction would cost two round trips."""
        return connection.transaction() if self._settings.has_pooler else nullcontext()

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except FOREIGN as error:
            raise store_error(error, store=self._settings.shown) from error

    async def _call(
        self, action: Callable[[Connection], Awaitable[_ResultT]], *, is_sent_commit: Callable[[], bool] = lambda: False
    ) -> _ResultT:
        """Do something on a connection.

        Cancelling the caller takes back what still waits for a connection; what has one goes on to its end by itself.
        """
        if self._is_closed:
            raise StoreClosedError(store=self._settings.shown)
        has_begun = False

        async def begin(connection: Connection) -> _ResultT:
            nonlocal has_begun
            has_begun = True
            return await action(connection)

        call = asyncio.create_task(self._patiently(begin, is_sent_commit), name="floxide.store.postgresql")
        self._calls.add(call)
        call.add_done_callback(self._ended)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            if not has_begun:
                call.cancel()
            raise

    def _ended(self, call: asyncio.Task[Any]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()  # its caller may be gone, and asyncio would complain that nobody asked

    async def _patiently(
        self, action: Callable[[Connection], Awaitable[_ResultT]], is_sent_commit: Callable[[], bool]
    ) -> _ResultT:
        for tries_left in reversed(range(TRIES)):
            try:
                return await self._once(action)
            except FOREIGN as error:
                if not tries_left or state_of(error) not in TRIED_AGAIN:
                    raise store_error(error, store=self._settings.shown, is_sent_commit=is_sent_commit()) from error
            await asyncio.sleep(random.uniform(0, LONGEST_PAUSE_SECONDS))
        raise AssertionError("unreachable")

    async def _once(self, action: Callable[[Connection], Awaitable[_ResultT]]) -> _ResultT:
        async with self._connections.lend() as connection:
            try:
                return await action(connection)
            except FOREIGN as error:
                if not is_cut_off(error) and connection.is_in_transaction():
                    await connection.execute("ROLLBACK")
                raise
