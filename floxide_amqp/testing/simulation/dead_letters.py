"""One process's way to the messages that the simulated broker gave up on.

They lie in a queue like any other, so that their readers are disconnected and their letters come again as everywhere.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from floxide_amqp.ports.dead_letters import DeadDelivery, DeadLetterReader
from floxide_amqp.ports.work_queue import Consumer, Delivery
from floxide_amqp.testing.simulation.broker import DEAD_LETTERS
from floxide_amqp.testing.simulation.broker_link import QueueLink, SimulatedDelivery


class DeadLetterLink:
    """One process's reader of dead letters.

    Args:
        link: The process's connections to the broker.
    """

    def __init__(self, link: QueueLink) -> None:
        self._link = link

    def read(self, *, prefetch: int) -> AbstractAsyncContextManager[DeadLetterReader]:
        """Subscribe; the subscription heals by itself."""
        return self._reading(prefetch)

    @asynccontextmanager
    async def _reading(self, prefetch: int) -> AsyncGenerator[DeadLetterReader]:
        async with self._link.consume([DEAD_LETTERS], prefetch=prefetch) as consumer:
            yield _Reader(consumer)


class _Reader:
    """An open subscription."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    async def receive(self) -> DeadDelivery:
        """Wait for the next letter; safe to cancel."""
        return _Letter(await self._consumer.receive())


class _Letter:
    """One message that was given up."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        given_up = delivery.parcel if isinstance(delivery, SimulatedDelivery) else None
        self.body = delivery.body
        self.queue = "" if given_up is None else given_up.was_in
        self.reason = "" if given_up is None else given_up.reason
        self.count = 1

    async def acknowledge(self) -> None:
        """Take it off the queue."""
        await self._delivery.acknowledge()

    async def release(self) -> None:
        """Give it back."""
        await self._delivery.release()
