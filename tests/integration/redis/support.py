"""What the tests with a real Redis share: short ways to write and read, and writers that can be checked afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.redis import RedisKeyValueStore
from floxide_amqp.exceptions import StoreError
from floxide_amqp.ports.clock import SystemClock
from floxide_amqp.ports.key_value import (
    Add,
    Append,
    Batch,
    Check,
    Committed,
    Enter,
    IndexRange,
    Key,
    KeyValueStore,
    LogRange,
    Put,
    Read,
    Snapshot,
    Write,
)
from floxide_amqp.stores.session import Session

SLOT = Slot(7)
KEY = Key("run", "a")
LOG = Key("run", "log")
COUNT = Key("run", "count")


def batch(*writes: Write, slot: Slot = SLOT) -> Batch:
    return Batch(slot=slot, writes=writes)


async def put(store: KeyValueStore, value: bytes, *, slot: Slot = SLOT) -> None:
    (outcome,) = (await store.commit([batch(Put(KEY, value), slot=slot)])).outcomes
    assert isinstance(outcome, Committed)


async def value(store: KeyValueStore, *, slot: Slot = SLOT) -> bytes:
    return (await store.read([Read(slot=slot, cells=(KEY,))])).snapshots[0].cells[0].value


@asynccontextmanager
async def opened(url: str, **parameters: str) -> AsyncGenerator[RedisKeyValueStore]:
    """A store open while the block is."""
    store = await RedisKeyValueStore.open("&".join([url, *(f"{name}={one}" for name, one in parameters.items())]))
    try:
        yield store
    finally:
        await store.aclose()


def session_with(store: KeyValueStore, patience_seconds: float = 90.0) -> Session:
    return Session(store, SystemClock(), patience_seconds=patience_seconds)


async def until(holds: Callable[[], bool], seconds: float = 90.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - a server makes it so
            await asyncio.sleep(0.002)


class Writer:
    """Raises one counter, cell, log and index again and again, each time by one batch with a witness."""

    def __init__(self, session: Session, name: str, slot: Slot = SLOT) -> None:
        self.session = session
        self.name = name
        self.slot = slot
        self.done = 0
        self.errors: list[StoreError] = []

    async def run(self, until: asyncio.Event) -> None:
        own = Key("run", f"own/{self.name}")
        while not until.is_set():
            token = self.session.new_token()
            entry = f"{self.name}/{self.done:05d}"
            writes = (Put(own, token), Add(COUNT, 1), Append(LOG, (entry.encode(),)), Enter("i", entry))
            checks = (Check(own, self.done),)
            try:
                outcome = await self.session.commit(
                    Batch(slot=self.slot, checks=checks, writes=writes, token=token, witness=own)
                )
            except StoreError as error:
                self.errors.append(error)
                return
            if not isinstance(outcome, Committed):  # nobody else writes this cell: then a batch was applied twice
                self.errors.append(StoreError(f"{outcome}"))
                return
            self.done += 1


async def everything(store: KeyValueStore, slot: Slot = SLOT) -> Snapshot:
    read = Read(
        slot=slot, counters=(COUNT,), logs=(LogRange(LOG, limit=100_000),), indexes=(IndexRange("i", limit=100_000),)
    )
    return (await store.read([read])).snapshots[0]


async def check_nothing_lost_or_doubled(store: KeyValueStore, writers: list[Writer], slot: Slot = SLOT) -> None:
    """What each writer was told is there, once, in its order, and the counter, the log and the index agree."""
    found = await everything(store, slot)
    entries = [entry.decode() for entry in found.logs[0].entries]
    assert len(entries) == len(set(entries)) == found.counters[0]
    assert sorted(entries) == [entry.entry for entry in found.indexes[0]]
    for writer in writers:
        own = [entry for entry in entries if entry.startswith(f"{writer.name}/")]
        assert own == [f"{writer.name}/{number:05d}" for number in range(writer.done)]
