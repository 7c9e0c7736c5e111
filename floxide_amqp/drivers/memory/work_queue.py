"""The work queue port within one process.

Owns the messages until they are acknowledged. A message is in exactly one place: waiting in its task queue, or in the
hands of one consumer. Whoever waits longest is served first, and a consumer of several task queues takes from them
in turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from floxide_amqp.drivers.queue_turns import QueueTurns
from floxide_amqp.exceptions import ConsumerStoppedError
from floxide_amqp.ports.work_queue import Message, PublishOutcome

DEFAULT_MAX_MESSAGE_BYTES = 16 * 1024 * 1024 - 64 * 1024
"""The same as on RabbitMQ 4.x, so that what fits here fits there."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    body: bytes
    redelivered: bool


class MemoryDelivery:
    """One message in the hands of one consumer."""

    def __init__(self, consumer: MemoryConsumer, queue: str, waiting: _Waiting) -> None:
        self._consumer = consumer
        self.queue = queue
        self.body = waiting.body
        self.redelivered = waiting.redelivered

    async def acknowledge(self) -> None:
        """Take it off the queue; a second call, or a call after the consumer is gone, does nothing."""
        self._consumer.settle(self, give_back=False)

    async def release(self) -> None:
        """Give it back, to the end of its queue, as redelivered."""
        self._consumer.settle(self, give_back=True)


class MemoryConsumer:
    """An open subscription; see `MemoryWorkQueue.consume`."""

    def __init__(self, owner: MemoryWorkQueue, queues: Sequence[str], prefetch: int) -> None:
        self._owner = owner
        self._turns = QueueTurns(queues)
        self._prefetch = prefetch
        self._held: dict[MemoryDelivery, None] = {}
        self._receivers: deque[asyncio.Future[MemoryDelivery]] = deque()
        self._stopped = False

    async def receive(self) -> MemoryDelivery:
        """Wait for the next delivery; safe to cancel.

        Raises:
            ConsumerStoppedError: The consumer was stopped.
        """
        await asyncio.sleep(0)  # one turn of the loop each, or a busy consumer would starve its neighbours
        if self._stopped:
            raise ConsumerStoppedError(queues=tuple(self._turns))
        receiver: asyncio.Future[MemoryDelivery] = asyncio.get_running_loop().create_future()
        self._receivers.append(receiver)
        self._owner.serve(self)
        try:
            return await receiver
        except asyncio.CancelledError:
            self._abandon(receiver)
            raise

    async def stop(self) -> None:
        """Take no further deliveries; those handed out stay valid."""
        self._stopped = True
        self._owner.forget(self)
        while self._receivers:
            receiver = self._receivers.popleft()
            if not receiver.done():
                receiver.set_exception(ConsumerStoppedError(queues=tuple(self._turns)))

    @property
    def wants_more(self) -> bool:
        """Whether somebody waits and the prefetch leaves room."""
        while self._receivers and self._receivers[0].done():  # cancelled, its task has not run since
            self._receivers.popleft()
        return bool(self._receivers) and len(self._held) < self._prefetch

    def take_from(self, queues: dict[str, deque[_Waiting]]) -> bool:
        """Hand the next message, of the queues in turn, to whoever waits longest; return whether there was one."""
        name = self._turns.next(queues.__getitem__)
        if name is None:
            return False
        self._hand_out(MemoryDelivery(self, name, queues[name].popleft()))
        return True

    def settle(self, delivery: MemoryDelivery, *, give_back: bool) -> None:
        """End a delivery that is still held."""
        if delivery not in self._held:
            return
        del self._held[delivery]
        if give_back:
            self._owner.give_back([delivery], to_front=False, redelivered=True)
        self._owner.serve(self)

    def leave(self) -> None:
        """Give back everything still held, in its old order."""
        held = list(self._held)
        self._held.clear()
        self._owner.give_back(held, to_front=True, redelivered=True)

    def _hand_out(self, delivery: MemoryDelivery) -> None:
        self._held[delivery] = None
        self._receivers.popleft().set_result(delivery)

    def _abandon(self, receiver: asyncio.Future[MemoryDelivery]) -> None:
        """Undo a receive that was cancelled, also when its delivery had just been handed out."""
        if receiver in self._receivers:
            self._receivers.remove(receiver)
        if receiver.cancelled() or not receiver.done() or receiver.exception() is not None:
            return
        delivery = receiver.result()
        if delivery in self._held:
            del self._held[delivery]
            self._owner.give_back([delivery], to_front=True, redelivered=delivery.redelivered)


class MemoryWorkQueue:
    """Task queues for workers and clients that share one event loop; gone with the process."""

    def __init__(self, *, max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES, creates_on_publish: bool = True) -> None:
        """Make a work queue without any task queue.

        Args:
            max_message_bytes: Longer bodies are refused.
            creates_on_publish: Whether publishing to a task queue that nobody consumed from yet keeps the message.
                If not, it is returned, as a broker does.
        """
        self._queues: dict[str, deque[_Waiting]] = {}
        self._consumers: deque[MemoryConsumer] = deque()
        self._max_message_bytes = max_message_bytes
        self._creates_on_publish = creates_on_publish

    async def __aenter__(self) -> Self:
        """Return itself; there is nothing to open."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        await self.aclose()

    async def aclose(self) -> None:
        """Stop every consumer; a second call does nothing."""
        for consumer in tuple(self._consumers):
            await consumer.stop()

    @property
    def is_durable(self) -> bool:
        """False: a message is lost with the process."""
        return False

    @property
    def max_message_bytes(self) -> int:
        """Largest body that `publish` may hand on."""
        return self._max_message_bytes

    async def publish(self, messages: Sequence[Message]) -> Sequence[PublishOutcome]:
        """Put messages into their queues; see the port."""
        outcomes = [self._publish_one(message) for message in messages]
        self._serve_all()
        return outcomes

    def consume(self, queues: Sequence[str], *, prefetch: int) -> AbstractAsyncContextManager[MemoryConsumer]:
        """Subscribe to task queues; what is unacknowledged when the context is left is delivered again.

        Raises:
            ValueError: There is no task queue, or the prefetch is below 1.
        """
        if not queues or prefetch < 1:
            raise ValueError("consume needs at least one task queue and a prefetch of at least 1")
        return self._consuming(queues, prefetch)

    async def depth(self, queue: str) -> int:
        """Return how many messages wait in a task queue; 0 where there is none of that name."""
        return len(self._queues.get(queue, ()))

    def serve(self, consumer: MemoryConsumer) -> None:
        """Hand a consumer what it waits for, as far as there is any."""
        while self._serve_one(consumer):
            pass

    def forget(self, consumer: MemoryConsumer) -> None:
        """Serve a consumer no more."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)

    def give_back(self, deliveries: Iterable[MemoryDelivery], *, to_front: bool, redelivered: bool) -> None:
        """Put deliveries back where they came from, in the order given."""
        for delivery in reversed(list(deliveries)) if to_front else deliveries:
            queue = self._queues[delivery.queue]
            put = queue.appendleft if to_front else queue.append
            put(_Waiting(delivery.body, redelivered))
        self._serve_all()

    def _publish_one(self, message: Message) -> PublishOutcome:
        if len(message.body) > self._max_message_bytes:
            return PublishOutcome.REFUSED
        if message.queue not in self._queues and not self._creates_on_publish:
            return PublishOutcome.RETURNED
        self._queues.setdefault(message.queue, deque()).append(_Waiting(bytes(message.body), redelivered=False))
        return PublishOutcome.CONFIRMED

    def _serve_all(self) -> None:
        """Give each consumer one message at a time, round after round, while any can be given."""
        progress = True
        while progress:
            progress = False
            for consumer in tuple(self._consumers):
                progress |= self._serve_one(consumer)

    def _serve_one(self, consumer: MemoryConsumer) -> bool:
        """Hand a consumer one message, if it wants one and there is one; it comes last for the next."""
        if not (consumer.wants_more and consumer.take_from(self._queues)):
            return False
        if consumer in self._consumers:
            self._consumers.remove(consumer)
            self._consumers.append(consumer)
        return True

    @asynccontextmanager
    async def _consuming(self, queues: Sequence[str], prefetch: int) -> AsyncGenerator[MemoryConsumer, None]:
        for name in queues:
            self._queues.setdefault(name, deque())
        consumer = MemoryConsumer(self, queues, prefetch)
        self._consumers.append(consumer)
        try:
            yield consumer
        finally:
            await consumer.stop()
            consumer.leave()
