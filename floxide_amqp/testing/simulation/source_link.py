"""One process's way to a queue of somebody else's in the simulated broker."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from floxide_amqp.core.sources import SourceMessage
from floxide_amqp.ports.message_source import MessageReader, SourceDelivery
from floxide_amqp.testing.simulation.broker_link import QueueLink, SimulatedConsumer, SimulatedDelivery


class SourceLink:
    """One process's reader of a queue.

    Args:
        link: The process's connections to the broker.
        queue: The queue.
    """

    def __init__(self, link: QueueLink, queue: str) -> None:
        self._link = link
        self._queue = queue

    def read(self, *, prefetch: int) -> AbstractAsyncContextManager[MessageReader]:
        """Subscribe; the subscription heals by itself."""
        return self._reading(prefetch)

    @asynccontextmanager
    async def _reading(self, prefetch: int) -> AsyncGenerator[MessageReader]:
        consumer = SimulatedConsumer(self._link, [self._queue], prefetch)
        consumer.connect()
        try:
            yield _Reader(consumer)
        finally:
            consumer.close()


class _Reader:
    """An open subscription."""

    def __init__(self, consumer: SimulatedConsumer) -> None:
        self._consumer = consumer
        self.problem = ""
        self.oldest_at: float | None = None  # the simulated broker takes nothing back

    async def receive(self, limit: int) -> Sequence[SourceDelivery]:
        """Wait for messages; safe to cancel."""
        return [_Message(delivery) for delivery in await self._consumer.receive_some(limit)]


class _Message:
    """One message in the hands of one process."""

    def __init__(self, delivery: SimulatedDelivery) -> None:
        self._delivery = delivery
        self.message = SourceMessage(body=delivery.body, redelivered=delivery.redelivered)

    async def acknowledge(self) -> None:
        """Take it off its queue."""
        await self._delivery.acknowledge()

    async def reject(self) -> None:
        """Have its queue give it up: a simulated one has no dead-letter exchange, so it is gone."""
        await self._delivery.acknowledge()
