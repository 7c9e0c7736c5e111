"""Stores and queues that misbehave as real ones do, for testing what is built on them.

`FaultyKeyValueStore` and `FaultyWorkQueue` wrap any driver and keep to its port: they lose replies, refuse calls,
delay, drop, duplicate and reorder, but never claim what is not so. What happens is drawn from the `random.Random` they
are given, so one seed is one story. `cut` makes them what a dead or partitioned process sees: nothing gets through.

    store = FaultyKeyValueStore(MemoryKeyValueStore(), random.Random(7), StoreFaults(lost_reply=0.1))
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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
from floxide_amqp.ports.work_queue import Consumer, Delivery, Message, PublishOutcome, WorkQueue


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


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFaults:
    """How often a work queue misbehaves; each a share of the messages, 0 to 1.

    Attributes:
        dropped: Messages confirmed and then lost, as by a purge.
        duplicated: Messages delivered twice.
        unconfirmed: Messages delivered whose confirm is lost.
        returned: Messages that find no queue.
        delayed: Messages that take up to `longest_delay` seconds, so that others overtake them.
        redelivered: Deliveries that claim to be a repeat, as after a lost connection.
    """

    dropped: float = 0.0
    duplicated: float = 0.0
    unconfirmed: float = 0.0
    returned: float = 0.0
    delayed: float = 0.0
    longest_delay: float = 2.0
    redelivered: float = 0.0


class FaultyWorkQueue:
    """A work queue around another that misbehaves now and then.

    Args:
        queue: The queue that does the work.
        chance: Decides what goes wrong.
        faults: How often; may be replaced at any time.
        is_durable: What `is_durable` says; by default what the wrapped queue says.

    Attributes:
        faults: How often things go wrong from now on.
        published: Messages that were handed to `publish`, for assertions.
    """

    def __init__(
        self,
        queue: WorkQueue,
        chance: random.Random,
        faults: QueueFaults | None = None,
        *,
        is_durable: bool | None = None,
    ) -> None:
        self._queue = queue
        self._chance = chance
        self._is_durable = queue.is_durable if is_durable is None else is_durable
        self._late: set[asyncio.Task[None]] = set()
        self._cut = False
        self._consuming: list[_Consuming] = []
        self.faults = faults or QueueFaults()
        self.published: list[Message] = []

    @property
    def is_durable(self) -> bool:
        """Whether a confirmed message outlives the process that published it."""
        return self._is_durable

    @property
    def max_message_bytes(self) -> int:
        """The wrapped queue's."""
        return self._queue.max_message_bytes

    async def publish(self, messages: Sequence[Message]) -> Sequence[PublishOutcome]:
        """Publish, if nothing goes wrong."""
        return [await self._publish_one(message) for message in messages]

    def consume(self, queues: Sequence[str], *, prefetch: int) -> AbstractAsyncContextManager[Consumer]:
        """Subscribe to task queues; after a `cut` nothing arrives and nothing can be settled."""
        return self._subscribed(queues, prefetch)

    async def depth(self, queue: str) -> int:
        """The wrapped queue's; messages on their way late are not counted."""
        return await self._queue.depth(queue)

    async def cut(self) -> None:
        """Break the connection for good: what its consumers hold is delivered again, elsewhere."""
        self._cut = True
        for consuming in self._consuming:
            await consuming.cut()

    async def settled(self) -> None:
        """Wait until no message is on its way late."""
        while self._late:
            await asyncio.wait(set(self._late))

    async def _publish_one(self, message: Message) -> PublishOutcome:
        self.published.append(message)
        if self._cut:
            return PublishOutcome.UNKNOWN
        faults = self.faults
        if self._happens(faults.returned):
            return PublishOutcome.RETURNED
        if self._happens(faults.dropped):
            return PublishOutcome.CONFIRMED
        for _ in range(2 if self._happens(faults.duplicated) else 1):
            if self._happens(faults.delayed):
                self._publish_late(message, self._chance.uniform(0, faults.longest_delay))
            else:
                (outcome,) = await self._queue.publish([message])
                if outcome is not PublishOutcome.CONFIRMED:
                    return outcome
        return PublishOutcome.UNKNOWN if self._happens(faults.unconfirmed) else PublishOutcome.CONFIRMED

    def _publish_late(self, message: Message, seconds: float) -> None:
        async def later() -> None:
            await asyncio.sleep(seconds)
            await self._queue.publish([message])

        task = asyncio.create_task(later(), name="faulty-queue.late")
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    @asynccontextmanager
    async def _subscribed(self, queues: Sequence[str], prefetch: int) -> AsyncGenerator[Consumer]:
        consuming = _Consuming(self, self._queue.consume(queues, prefetch=prefetch))
        await consuming.open()
        self._consuming.append(consuming)
        try:
            yield consuming
        finally:
            self._consuming.remove(consuming)
            await consuming.cut()

    def happens_to_be_redelivered(self) -> bool:
        """Draw whether a delivery claims to be a repeat."""
        return self._happens(self.faults.redelivered)

    def _happens(self, share: float) -> bool:
        return share > 0 and self._chance.random() < share


class _Consuming:
    """A consumer whose connection may break."""

    def __init__(self, owner: FaultyWorkQueue, context: AbstractAsyncContextManager[Consumer]) -> None:
        self._owner = owner
        self._context = context
        self._consumer: Consumer | None = None
        self._broken = asyncio.Event()

    async def open(self) -> None:
        self._consumer = await self._context.__aenter__()

    async def cut(self) -> None:
        if not self._broken.is_set():
            self._broken.set()
            await self._context.__aexit__(None, None, None)

    @property
    def is_broken(self) -> bool:
        return self._broken.is_set()

    async def receive(self) -> Delivery:
        if self._consumer is None or self._broken.is_set():
            await asyncio.Event().wait()
            raise AssertionError("nothing arrives over a broken connection")
        receiving = asyncio.ensure_future(self._consumer.receive())
        broken = asyncio.ensure_future(self._broken.wait())
        try:
            await asyncio.wait({receiving, broken}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
            if not receiving.cancelled() and receiving.exception() is None:
                await receiving.result().release()
            raise
        finally:
            broken.cancel()
        if not self._broken.is_set():
            return _Delivery(receiving.result(), self, redelivered=self._owner.happens_to_be_redelivered())
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        return await self.receive()

    async def stop(self) -> None:
        if self._consumer is not None and not self._broken.is_set():
            await self._consumer.stop()


class _Delivery:
    """A delivery that is stale once its consumer's connection broke."""

    def __init__(self, delivery: Delivery, consuming: _Consuming, *, redelivered: bool) -> None:
        self._delivery = delivery
        self._consuming = consuming
        self.body = delivery.body
        self.queue = delivery.queue
        self.redelivered = delivery.redelivered or redelivered

    async def acknowledge(self) -> None:
        if not self._consuming.is_broken:
            await self._delivery.acknowledge()

    async def release(self) -> None:
        if not self._consuming.is_broken:
            await self._delivery.release()
