"""What the tests of the PostgreSQL store share."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.postgresql import PostgresqlKeyValueStore
from floxide_amqp.drivers.postgresql.program import locks_of
from floxide_amqp.ports.key_value import ABSENT, Add, Append, Batch, Check, Committed, Key, LogRange, Put, Read

SLOT = Slot(3)
COUNTER = Key("run", "n")
LOG = Key("run", "log")
GUARD_SQL = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
    "AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"  # not who waits for others: tests share the server
)


def once(name: str, *, token: bytes = b"", partition: str = "run") -> Batch:
    """Return a batch that can be applied only once, and whose outcome can be found out afterwards."""
    cell, counter, log = Key(partition, name), Key(partition, "n"), Key(partition, "log")
    token = token or secrets.token_bytes(8)
    return Batch(
        slot=SLOT,
        checks=(Check(cell, ABSENT),),
        writes=(Put(cell, token), Add(counter, 1), Append(log, (name.encode(),))),
        token=token,
        witness=cell,
    )


async def counted(store: PostgresqlKeyValueStore, partition: str = "run") -> tuple[int, tuple[bytes, ...]]:
    """Return the counter and the log that `once` writes."""
    log = LogRange(Key(partition, "log"), limit=100_000)
    reply = await store.read([Read(slot=SLOT, counters=(Key(partition, "n"),), logs=(log,))])
    (found,) = reply.snapshots
    return found.counters[0], found.logs[0].entries


async def commit(store: PostgresqlKeyValueStore, *batches: Batch) -> None:
    """Commit batches that must not conflict."""
    reply = await store.commit(batches)
    assert all(isinstance(outcome, Committed) for outcome in reply.outcomes)


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncGenerator[PostgresqlKeyValueStore]:
    """Open a store for the block."""
    store = await PostgresqlKeyValueStore.open(url, **options)
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[asyncpg.Connection]:
    """Open a connection of one's own, to do things behind the store's back."""
    connection = await asyncpg.connect(url.partition("?")[0])
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def guarded(url: str, schema: str, *partitions: str) -> AsyncGenerator[asyncpg.Connection]:
    """Hold the locks of partitions while the block runs, so that commits to them wait inside the server."""
    locks = locks_of([(SLOT, partition.encode()) for partition in partitions], space=schema.encode())
    async with connected(url) as connection:
        await connection.execute("BEGIN; " + "; ".join(f"SELECT pg_advisory_xact_lock({lock})" for lock in locks))
        yield connection


def schema_of(url: str) -> str:
    """Return the schema that a test's URL names."""
    return url.partition("schema=")[2].partition("&")[0]


async def until(holds: Callable[[], Awaitable[Any]], seconds: float = 90.0) -> Any:
    """Wait until something is true, and return it."""
    async with asyncio.timeout(seconds):
        while not (found := await holds()):  # noqa: ASYNC110 - the server makes it so
            await asyncio.sleep(0.01)
    return found


async def until_waiting(connection: asyncpg.Connection, count: int = 1) -> list[int]:
    """Wait until so many sessions wait for a partition's lock, and return their process ids."""

    async def waiting() -> list[int]:
        found = [row["pid"] for row in await connection.fetch(GUARD_SQL)]
        return found if len(found) >= count else []

    found: list[int] = await until(waiting)
    return found
