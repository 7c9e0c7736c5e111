"""A work queue that fails as brokers do: messages lost, repeated and late, connections cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from floxide_amqp.ports.work_queue import Consumer, Delivery, Message, PublishOutcome, WorkQueue


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
