"""A conversation with a store of several servers: one conversation with each, so that none waits for another.

A group never goes to two servers, and the patience, the clock and the trouble of each are its own. Reading over all
runs needs all servers; what concerns one run needs only the one that has it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence

from floxide_amqp.core.ids import SYSTEM_SLOT, RunId, Slot, slot_of
from floxide_amqp.ports.clock import Clock
from floxide_amqp.ports.key_value import Batch, Entry, IndexRange, KeyValueStore, Outcome, Read, RecordPage, Snapshot
from floxide_amqp.ports.sharding import ShardedStore, merge_pages
from floxide_amqp.stores.session import DEFAULT_PATIENCE_SECONDS, Session

LEARN_SECONDS = 5.0
"""Longest wait for a server to say its time."""


def session_with(
    store: KeyValueStore,
    clock: Clock,
    *,
    patience_seconds: float = DEFAULT_PATIENCE_SECONDS,
    chance: random.Random | None = None,
    token_prefix: bytes | None = None,
) -> Session:
    """Return a session with a store, whether it has one server or several; the arguments are those of `Session`."""
    if not isinstance(store, ShardedStore):
        return Session(
            store, clock, patience_seconds=patience_seconds, chance=chance, token_prefix=token_prefix
        )  # fmt: skip
    return ShardedSession(
        store, store, clock, patience_seconds=patience_seconds, chance=chance, token_prefix=token_prefix
    )  # fmt: skip


class ShardedSession(Session):
    """One process's conversation with a store of several servers.

    Args:
        store: The driver.
        shards: The same, as what knows its servers.
        clock, patience_seconds, chance, token_prefix: As for `Session`.
    """

    def __init__(
        self,
        store: KeyValueStore,
        shards: ShardedStore,
        clock: Clock,
        *,
        patience_seconds: float = DEFAULT_PATIENCE_SECONDS,
        chance: random.Random | None = None,
        token_prefix: bytes | None = None,
    ) -> None:
        super().__init__(store, clock, patience_seconds=patience_seconds, chance=chance, token_prefix=token_prefix)
        self._shard_of = shards.shard_of
        self._parts = {
            name: Session(shard, clock, patience_seconds=patience_seconds, chance=chance, whole=self, shard=name)
            for name, shard in shards.shards.items()
        }

    @property
    def parts(self) -> Sequence[Session]:
        """The conversations with the single servers, in the order of the shards' names."""
        return tuple(self._parts.values())

    def beside(self, run_id: RunId) -> Session:
        """Return the conversation with the server that has a run."""
        return self._part(slot_of(run_id))

    def now_ms(self) -> int:
        """The time of the server that is ahead, where one is needed that is of no run."""
        return max(part.now_ms() for part in self._parts.values())

    async def learn_times(self, run_ids: Iterable[RunId]) -> None:
        """Ask servers for their time that have not said it yet; see `Session.learn_times`."""
        parts = {part.shard: part for run_id in run_ids if not (part := self.beside(run_id)).has_time}
        if parts:
            asked = [asyncio.create_task(part.read(Read(slot=SYSTEM_SLOT))) for part in parts.values()]
            _, silent = await asyncio.wait(asked, timeout=LEARN_SECONDS)
            for each in silent:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    def silent_seconds(self) -> float | None:
        """How long ago any of the servers last answered; None before the first time."""
        return min((s for part in self._parts.values() if (s := part.silent_seconds()) is not None), default=None)

    def failing_seconds(self) -> float:
        """How long all servers have been out of reach; 0 while one answers."""
        return min(part.failing_seconds() for part in self._parts.values())

    async def commit(self, batch: Batch) -> Outcome:
        """Apply one batch with the next group of its server; raises as `Session.commit`."""
        return await self._part(batch.slot).commit(batch)

    async def read(self, read: Read) -> Snapshot:
        """Read one consistent snapshot with the next group of its server; raises as `Session.read`."""
        return await self._part(read.slot).read(read)

    async def scan(self, index_range: IndexRange) -> Sequence[Entry]:
        """Read one index over all slots of all servers.

        Raises:
            StoreUnavailableError: One of the servers was out of reach for longer than the patience; it names it.
        """
        pages = await asyncio.gather(*(part.scan(index_range) for part in self._parts.values()))
        return merge_pages(pages, index_range)

    async def records(
        self, slot: Slot, *, partition: str | None = None, after: bytes = b"", limit: int = 1_000
    ) -> RecordPage:
        """List some of what a slot holds, as `KeyValueStore.records` does; raises as `Session.records`."""
        return await self._part(slot).records(slot, partition=partition, after=after, limit=limit)

    async def drain(self) -> None:
        """Wait until nothing is in flight with any server."""
        for part in self._parts.values():
            await part.drain()

    def _part(self, slot: Slot) -> Session:
        return self._parts[self._shard_of(slot)]
