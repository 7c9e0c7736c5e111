"""What the tests of the suite stand on: the store under test, and short ways to write batches and reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest
import pytest_asyncio

from floxide_amqp.core.ids import Slot
from floxide_amqp.ports.key_value import (
    Batch,
    Cell,
    Committed,
    Conflict,
    Durability,
    Entry,
    IndexRange,
    Key,
    KeyValueStore,
    LogPage,
    LogRange,
    Outcome,
    Precondition,
    Read,
    Snapshot,
    Write,
)

SLOT = Slot(7)
OTHER_SLOT = Slot(8)
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUnderTest:
    """How a driver is opened, and what it claims.

    Attributes:
        open: Opens the store; every call opens the same data, as far as the driver can share or keep it.
        durability: What `KeyValueStore.durability` must say.
        is_shared: What `KeyValueStore.is_shared` must say.
        opener: ``module:name`` of a callable that opens the same data in another process; shared stores only.
        address: Its one argument.
        has_several_servers: Whether slots may be on different servers: then a faulty group is refused as a whole only
            where all of it is for one of them.
    """

    open: Callable[[], Awaitable[KeyValueStore]]
    durability: Durability
    is_shared: bool
    opener: str = ""
    address: str = ""
    has_several_servers: bool = False


class StoreTests:
    """Base of the suite's parts: the fixtures."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def under_test(self) -> StoreUnderTest:
        """Overridden by the driver's author: an empty store of its own for every test."""
        raise NotImplementedError("Override the fixture `under_test` so that it returns a StoreUnderTest.")

    @pytest_asyncio.fixture
    async def store(self, under_test: StoreUnderTest) -> AsyncIterator[KeyValueStore]:
        """Give the open store, closed after the test."""
        store = await under_test.open()
        yield store
        await store.aclose()


def key(name: str, partition: str = "run-1") -> Key:
    """Return a key; its partition matters in few tests."""
    return Key(partition, name)


def batch(*writes: Write, checks: Sequence[Precondition] = (), slot: Slot = SLOT) -> Batch:
    """Return a batch of these writes."""
    return Batch(slot=slot, checks=tuple(checks), writes=writes)


async def commit(store: KeyValueStore, *writes: Write, slot: Slot = SLOT) -> Committed:
    """Commit one batch that must not conflict."""
    outcome = await attempt(store, batch(*writes, slot=slot))
    assert isinstance(outcome, Committed)
    return outcome


async def attempt(store: KeyValueStore, one: Batch) -> Outcome:
    """Commit one batch and return what became of it."""
    reply = await store.commit([one])
    (outcome,) = reply.outcomes
    return outcome


async def holds(store: KeyValueStore, *checks: Precondition, slot: Slot = SLOT) -> bool:
    """Tell whether a batch with these checks would apply."""
    return not isinstance(await attempt(store, batch(checks=checks, slot=slot)), Conflict)


async def snapshot(store: KeyValueStore, read: Read) -> Snapshot:
    """Perform one read."""
    reply = await store.read([read])
    (found,) = reply.snapshots
    return found


async def cell(store: KeyValueStore, name: Key, *, slot: Slot = SLOT) -> Cell:
    """Read one cell."""
    return (await snapshot(store, Read(slot=slot, cells=(name,)))).cells[0]


async def counter(store: KeyValueStore, name: Key, *, slot: Slot = SLOT) -> int:
    """Read one counter."""
    return (await snapshot(store, Read(slot=slot, counters=(name,)))).counters[0]


async def log(store: KeyValueStore, name: Key, start: int = 0, limit: int = 1_000, *, slot: Slot = SLOT) -> LogPage:
    """Read a page of one log."""
    return (await snapshot(store, Read(slot=slot, logs=(LogRange(name, start, limit),)))).logs[0]


async def index(store: KeyValueStore, asked: IndexRange, *, slot: Slot = SLOT) -> tuple[Entry, ...]:
    """Read a range of one index in one slot."""
    return (await snapshot(store, Read(slot=slot, indexes=(asked,)))).indexes[0]


async def names(store: KeyValueStore, asked: IndexRange, *, slot: Slot = SLOT) -> list[str]:
    """Read the entry keys of a range of one index in one slot."""
    return [entry.entry for entry in await index(store, asked, slot=slot)]
