"""A shard that is opened when it is first needed: a server that is down keeps no process from starting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from floxide_amqp.core.ids import Slot
from floxide_amqp.exceptions import StoreClosedError, StoreUnavailableError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import (
    Batch,
    CommitReply,
    Durability,
    Entry,
    IndexRange,
    KeyValueStore,
    Read,
    ReadReply,
    RecordPage,
)

_log = get_logger("floxide_amqp.store")


class LazyKeyValueStore:
    """A store that is opened by the first call it can take.

    Args:
        name: The shard's name, for errors and the log.
        open_store: Opens the store.
    """

    def __init__(self, name: str, open_store: Callable[[], Awaitable[KeyValueStore]]) -> None:
        self._name = name
        self._open_store = open_store
        self._store: KeyValueStore | None = None
        self._opening = asyncio.Lock()
        self._is_closed = False

    @property
    def durability(self) -> Durability:
        """What its commits survive; before it is open it has none to speak of.

        Raises:
            StoreUnavailableError: It was not reached yet.
        """
        return self._opened().durability

    @property
    def is_shared(self) -> bool:
        """Whether other processes can open the same data; what is opened over a network is."""
        return self._store is None or self._store.is_shared

    async def open(self) -> KeyValueStore:
        """Open the store if it is not open yet, and return it.

        Raises:
            StoreError: It cannot be opened.
            StoreClosedError: It was closed.
        """
        async with self._opening:
            if self._is_closed:
                raise StoreClosedError(store=f"shard {self._name!r}")
            if self._store is None:
                self._store = await self._open_store()
                _log.info("shard.opened", shard=self._name)
            return self._store

    async def commit(self, batches: Sequence[Batch]) -> CommitReply:
        """As the store does."""
        return await (self._store or await self.open()).commit(batches)

    async def read(self, reads: Sequence[Read]) -> ReadReply:
        """As the store does."""
        return await (self._store or await self.open()).read(reads)

    async def scan(self, index_range: IndexRange) -> Sequence[Entry]:
        """As the store does."""
        return await (self._store or await self.open()).scan(index_range)

    async def records(
        self, slot: Slot, *, partition: str | None = None, after: bytes = b"", limit: int = 1_000
    ) -> RecordPage:
        """As the store does."""
        store = self._store or await self.open()
        return await store.records(slot, partition=partition, after=after, limit=limit)

    async def aclose(self) -> None:
        """Close the store, if it was opened; a second call does nothing."""
        async with self._opening:
            self._is_closed = True
            if self._store is not None:
                await self._store.aclose()

    def _opened(self) -> KeyValueStore:
        if self._store is None:
            raise StoreUnavailableError(store=f"shard {self._name!r}", reason="it was not reached yet")
        return self._store
