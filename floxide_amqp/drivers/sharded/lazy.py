"""A shard that is opened when it is first needed: a server that is down keeps no process from starting.

Once a process has started, nobody asks any more whether a server is the right one. So one that is opened late and is
not, or cannot be opened for another reason, is out of reach like one that is down: that stops its own runs alone, and
they go on once it is put right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from floxide_amqp.core.ids import Slot
from floxide_amqp.exceptions import ConfigurationError, StoreClosedError, StoreError, StoreUnavailableError
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
        admit: Awaited with the store that was opened, before anything else uses it; raises if it is another than it
            is taken for.
    """

    def __init__(
        self,
        name: str,
        open_store: Callable[[], Awaitable[KeyValueStore]],
        admit: Callable[[KeyValueStore], Awaitable[None]],
    ) -> None:
        self._name = name
        self._open_store = open_store
        self._admit = admit
        self._refusal = ""
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
            ConfigurationError: It is not the one it is taken for.
            StoreError: It cannot be opened.
            StoreClosedError: It was closed.
        """
        async with self._opening:
            if self._is_closed:
                raise StoreClosedError(store=f"shard {self._name!r}")
            if self._store is None:
                self._store = await self._open_the_right_one()
                _log.info("shard.opened", shard=self._name)
            return self._store

    async def commit(self, batches: Sequence[Batch]) -> CommitReply:
        """As the store does."""
        return await (self._store or await self._open_late()).commit(batches)

    async def read(self, reads: Sequence[Read]) -> ReadReply:
        """As the store does."""
        return await (self._store or await self._open_late()).read(reads)

    async def scan(self, index_range: IndexRange) -> Sequence[Entry]:
        """As the store does."""
        return await (self._store or await self._open_late()).scan(index_range)

    async def records(
        self, slot: Slot, *, partition: str | None = None, after: bytes = b"", limit: int = 1_000
    ) -> RecordPage:
        """As the store does."""
        store = self._store or await self._open_late()
        return await store.records(slot, partition=partition, after=after, limit=limit)

    async def aclose(self) -> None:
        """Close the store, if it was opened; a second call does nothing."""
        async with self._opening:
            self._is_closed = True
            if self._store is not None:
                await self._store.aclose()

    async def _open_the_right_one(self) -> KeyValueStore:
        store = await self._open_store()
        try:
            await self._admit(store)
        except BaseException:
            await store.aclose()
            raise
        return store

    async def _open_late(self) -> KeyValueStore:
        try:
            return await self.open()
        except (StoreUnavailableError, StoreClosedError):
            raise
        except (ConfigurationError, StoreError) as error:
            if self._refusal != str(error):
                self._refusal = str(error)
                _log.error("shard.refused", shard=self._name, error=self._refusal)
            raise StoreUnavailableError(
                store=f"shard {self._name!r}", reason=self._refusal, cure="put it right; nothing need be started anew."
            ) from error

    def _opened(self) -> KeyValueStore:
        if self._store is None:
            raise StoreUnavailableError(store=f"shard {self._name!r}", reason="it was not reached yet")
        return self._store
