"""Stores and queues that misbehave as real ones do, for testing what is built on them.

`FaultyKeyValueStore`, and `FaultyWorkQueue` in `queue_faults`, wrap any driver and keep to its port: they lose replies,
refuse calls, delay, drop, duplicate and reorder, but never claim what is not so. What happens is drawn from the
`random.Random` they are given, so one seed is one story. `cut` makes them what a dead or partitioned process sees:
nothing gets through.

    store = FaultyKeyValueStore(MemoryKeyValueStore(), random.Random(7), StoreFaults(lost_reply=0.1))
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from floxide_amqp.core.ids import Slot
from floxide_amqp.exceptions import CommitOutcomeUnknownError, StoreUnavailableError
from floxide_amqp.ports.key_value import (
    Batch,
    Check,
    CommitReply,
    Durability,
    Entry,
    IndexRange,
    Key,
    KeyValueStore,
    Put,
    Read,
    ReadReply,
    RecordPage,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFaults:
    """How often a store misbehaves; each a share of the calls, 0 to 1.

    Attributes:
        unavailable: Calls refused before they did anything.
        lost_reply: Commits applied, whole or up to some batch, whose reply is lost.
        delayed: Calls that take up to `longest_delay` seconds, before or after they are served.
        touched: Batches before which somebody else rewrites one of the checked cells for which `may_touch` holds, as
            it is: its version rises, so the batch conflicts.
        may_touch: Which cells may be rewritten without changing what they mean.
    """

    unavailable: float = 0.0
    lost_reply: float = 0.0
    delayed: float = 0.0
    longest_delay: float = 0.05
    touched: float = 0.0
    may_touch: Callable[[Key], bool] = field(default=lambda _key: False)


class FaultyKeyValueStore:
    """A key-value store around another that misbehaves now and then.

    Args:
        store: The store that does the work; closed with this one.
        chance: Decides what goes wrong.
        faults: How often; may be replaced at any time.

    Attributes:
        faults: How often things go wrong from now on.
        before_commit: Awaited before each commit reaches the store; a place for a test to do something in between.
        after_commit: Awaited when a commit has been applied and before its reply is handed on.
        commits: Batches that were sent, for assertions.
    """

    def __init__(self, store: KeyValueStore, chance: random.Random, faults: StoreFaults | None = None) -> None:
        self._store = store
        self._chance = chance
        self._cut = False
        self.faults = faults or StoreFaults()
        self.before_commit: Callable[[Sequence[Batch]], Awaitable[None]] = _nothing
        self.after_commit: Callable[[Sequence[Batch]], Awaitable[None]] = _nothing
        self.commits: list[Batch] = []
        self.lose_replies = 0
        self.refuse = 0

    @property
    def durability(self) -> Durability:
        """The wrapped store's."""
        return self._store.durability

    @property
    def is_shared(self) -> bool:
        """The wrapped store's."""
        return self._store.is_shared

    def cut(self) -> None:
        """Let nothing through from now on: every call fails as one to a server that is not there."""
        self._cut = True

    def heal(self) -> None:
        """End a `cut`."""
        self._cut = False

    def lose_next_replies(self, count: int = 1) -> None:
        """Apply the next commits and lose their replies."""
        self.lose_replies = count

    def refuse_next(self, count: int = 1) -> None:
        """Refuse the next calls, whichever they are."""
        self.refuse = count

    async def commit(self, batches: Sequence[Batch]) -> CommitReply:
        """Apply batches, if nothing goes wrong."""
        self.commits += batches
        await self._before()
        await self.before_commit(batches)
        for batch in batches:
            await self._maybe_touch(batch)
        if self.lose_replies or self._happens(self.faults.lost_reply):
            self.lose_replies = max(0, self.lose_replies - 1)
            applied = batches[: self._chance.randint(0, len(batches))] if self.faults.lost_reply else batches
            if applied:
                await self._store.commit(applied)
            raise CommitOutcomeUnknownError(store="faulty", reason="injected")
        reply = await self._store.commit(batches)
        await self.after_commit(batches)
        await self._maybe_delay()
        self._fail_if_cut_after(is_commit=True)
        return reply

    async def read(self, reads: Sequence[Read]) -> ReadReply:
        """Read, if nothing goes wrong."""
        await self._before()
        reply = await self._store.read(reads)
        await self._maybe_delay()
        self._fail_if_cut_after(is_commit=False)
        return reply

    async def scan(self, index_range: IndexRange) -> Sequence[Entry]:
        """Scan, if nothing goes wrong."""
        await self._before()
        return await self._store.scan(index_range)

    async def records(
        self, slot: Slot, *, partition: str | None = None, after: bytes = b"", limit: int = 1_000
    ) -> RecordPage:
        """List records, if nothing goes wrong."""
        await self._before()
        return await self._store.records(slot, partition=partition, after=after, limit=limit)

    async def aclose(self) -> None:
        """Close the wrapped store."""
        await self._store.aclose()

    async def _before(self) -> None:
        await self._maybe_delay()
        if self.refuse:
            self.refuse -= 1
            raise _unavailable()
        if self._cut or self._happens(self.faults.unavailable):
            raise _unavailable()

    def _fail_if_cut_after(self, *, is_commit: bool) -> None:
        if self._cut:
            raise CommitOutcomeUnknownError(store="faulty", reason="injected") if is_commit else _unavailable()

    async def _maybe_delay(self) -> None:
        if self._happens(self.faults.delayed):
            await asyncio.sleep(self._chance.uniform(0, self.faults.longest_delay))

    async def _maybe_touch(self, batch: Batch) -> None:
        if not self._happens(self.faults.touched):
            return
        for check in batch.checks:
            if isinstance(check, Check) and check.version > 0 and self.faults.may_touch(check.key):
                found = await self._store.read([Read(slot=batch.slot, cells=(check.key,))])
                cell = found.snapshots[0].cells[0]
                if cell.version:
                    same = Batch(
                        slot=batch.slot, checks=(Check(check.key, cell.version),), writes=(Put(check.key, cell.value),)
                    )
                    await self._store.commit([same])
                return

    def _happens(self, share: float) -> bool:
        return share > 0 and self._chance.random() < share


async def _nothing(batches: Sequence[Batch]) -> None:
    """The default of `before_commit` and `after_commit`."""


def _unavailable() -> StoreUnavailableError:
    return StoreUnavailableError(store="faulty", reason="injected")
