"""Takes deliveries while there is room for them.

A long step is acknowledged early, and the broker then hands over another message in its place. With all slots taken
by long steps those messages would wait here unseen, so the intake unsubscribes, gives them back, and subscribes again
when a slot is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from floxide_amqp.ports.work_queue import Consumer, Delivery, WorkQueue


class _Subscription:
    """One subscription, and how many of its deliveries are in hand."""

    def __init__(self, context: AbstractAsyncContextManager[Consumer], consumer: Consumer) -> None:
        self.context = context
        self.consumer = consumer
        self.in_hand = 0
        self.is_stopped = False


class Slot:
    """Room for one delivery, taken until `Intake.give_back`."""

    def __init__(self, delivery: Delivery, subscription: _Subscription) -> None:
        self.delivery = delivery
        self.subscription = subscription
        self.is_long = False


class Intake:
    """The worker's slots and its subscription.

    Args:
        queue: Where deliveries come from.
        queues: Task queues to serve.
        size: Deliveries in hand at a time; also the prefetch.
    """

    def __init__(self, queue: WorkQueue, queues: Sequence[str], size: int) -> None:
        self._queue = queue
        self._queues = tuple(queues)
        self._size = size
        self._free = asyncio.Semaphore(size)
        self._taken: set[Slot] = set()
        self._current: _Subscription | None = None
        self._ending: set[_Subscription] = set()

    async def open(self) -> None:
        """Subscribe, creating what is missing on the broker.

        Raises:
            BrokerError: The subscription is refused.
        """
        if self._current is None:
            context = self._queue.consume(self._queues, prefetch=self._size)
            self._current = _Subscription(context, await context.__aenter__())

    async def take(self) -> Slot:
        """Wait for a free slot and a delivery for it. Safe to cancel.

        Raises:
            BrokerError: The subscription cannot be healed by waiting.
        """
        await self._free.acquire()
        try:
            await self.open()
            subscription = self._current
            if subscription is None:
                raise asyncio.CancelledError  # closed meanwhile
            delivery = await subscription.consumer.receive()
        except BaseException:
            self._free.release()
            raise
        subscription.in_hand += 1
        slot = Slot(delivery, subscription)
        self._taken.add(slot)
        return slot

    async def note_long(self, slot: Slot) -> None:
        """The slot's step was acknowledged early; where such steps fill the slots, take nothing in."""
        slot.is_long = True
        is_full = len(self._taken) >= self._size  # not the semaphore: whoever waits for a delivery holds a slot too
        if self._current is not None and is_full and sum(s.is_long for s in self._taken) * 2 >= self._size:
            await self.stop()

    async def give_back(self, slot: Slot) -> None:
        """The slot's delivery is worked off."""
        self._taken.discard(slot)
        self._free.release()
        slot.subscription.in_hand -= 1
        await self._end_if_idle(slot.subscription)

    async def stop(self) -> None:
        """Take nothing more from the subscription; what is in hand stays valid."""
        subscription, self._current = self._current, None
        if subscription is not None:
            subscription.is_stopped = True
            self._ending.add(subscription)
            await subscription.consumer.stop()
            await self._end_if_idle(subscription)

    async def close(self) -> None:
        """End all subscriptions; deliveries in hand go back."""
        await self.stop()
        for subscription in tuple(self._ending):
            self._ending.discard(subscription)
            await subscription.context.__aexit__(None, None, None)

    async def _end_if_idle(self, subscription: _Subscription) -> None:
        if subscription.is_stopped and not subscription.in_hand and subscription in self._ending:
            self._ending.discard(subscription)
            await subscription.context.__aexit__(None, None, None)
