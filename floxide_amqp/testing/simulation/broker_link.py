"""One process's connections to the simulated broker: the work queue that the engine works with."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from floxide_amqp.exceptions import ConsumerStoppedError
from floxide_amqp.ports.work_queue import Consumer, Delivery, Message, PublishOutcome
from floxide_amqp.testing.simulation.broker import BrokerServer, Channel, Parcel
from floxide_amqp.testing.simulation.loop import Lane, SeededLoop, context_of, never

PUBLISH_SECONDS = 4.0
"""Longest wait for a broker that is away or blocked, before the outcome of a publish is unknown."""

RETRY_SECONDS = 0.3
"""Between two looks whether the broker is back."""

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Largest message."""


class QueueLink:
    """One process's work queue.

    Args:
        server: The broker.
        lane: The process; what arrives is handled by it.
        chance: Draws latencies.
        loop: The simulation's loop.

    Attributes:
        is_cut: Whether this process cannot reach the broker, though others can.
        on_io: Told before each call is sent (``publish``, ``ack``, ``release``) and when a publish was confirmed
            (``published``); returns whether the process has died at this very point.
    """

    def __init__(self, server: BrokerServer, lane: Lane, chance: random.Random, loop: SeededLoop) -> None:
        self.server = server
        self.lane = lane
        self.loop = loop
        self.chance = chance
        self.is_cut = False
        self.on_io: Callable[[str], bool] = _lives
        self.broker_context = context_of(None)
        self.own_context = context_of(lane)

    @property
    def is_durable(self) -> bool:
        """A confirmed message outlives its publisher."""
        return True

    @property
    def max_message_bytes(self) -> int:
        """Largest body that `publish` may hand on."""
        return MAX_MESSAGE_BYTES

    @property
    def is_reachable(self) -> bool:
        """Whether this process reaches the broker."""
        return not (self.is_cut or self.server.weather.is_away)

    def delay(self) -> float:
        """Draw the time of one way."""
        return self.chance.random() * self.server.weather.latency

    async def publish(self, messages: Sequence[Message]) -> Sequence[PublishOutcome]:
        """Publish messages and wait for their confirms, for some time."""
        if self.on_io("publish"):
            await never()
        until = self.loop.time() + PUBLISH_SECONDS
        while not self.is_reachable or self.server.weather.is_blocked:
            self.server.story.fault("publisher waits", self.lane.name)
            if self.loop.time() >= until:
                return [PublishOutcome.UNKNOWN] * len(messages)
            await asyncio.sleep(RETRY_SECONDS)
        confirmed: asyncio.Future[list[PublishOutcome]] = self.loop.create_future()
        back, sent_at = self.delay(), self.loop.time()

        def arrive() -> None:
            outcomes = [self.server.publish(self.lane.name, message, sent_at) for message in messages]
            if not self.is_reachable:
                outcomes = [PublishOutcome.UNKNOWN] * len(messages)
            self.loop.call_later(back, _answer, confirmed, outcomes, context=self.broker_context)

        self.loop.call_later(self.delay(), arrive, context=self.broker_context)
        outcomes = await confirmed
        if self.on_io("published"):
            await never()
        self.server.on_outcomes(self.lane.name, messages, outcomes)
        return outcomes

    def consume(self, queues: Sequence[str], *, prefetch: int) -> AbstractAsyncContextManager[Consumer]:
        """Subscribe; the subscription heals by itself."""
        return self._consuming(queues, prefetch)

    async def depth(self, queue: str) -> int:
        """Return how many messages wait."""
        await asyncio.sleep(self.delay())
        return len(self.server.queues.get(queue, ()))

    @asynccontextmanager
    async def _consuming(self, queues: Sequence[str], prefetch: int) -> AsyncGenerator[Consumer]:
        consumer = SimulatedConsumer(self, queues, prefetch)
        while not self.is_reachable:  # noqa: ASYNC110 - nobody tells a process that the broker is back
            await asyncio.sleep(RETRY_SECONDS)
        consumer.connect()
        try:
            yield consumer
        finally:
            await consumer.stop()
            consumer.close()


class SimulatedConsumer:
    """An open subscription of one process."""

    def __init__(self, link: QueueLink, queues: Sequence[str], prefetch: int) -> None:
        self.link = link
        self._queues = tuple(queues)
        self._prefetch = prefetch
        self.channel: Channel | None = None
        self._ready: deque[SimulatedDelivery] = deque()
        self._arrived = asyncio.Event()
        self._is_stopped = False
        self._is_closed = False

    async def receive(self) -> Delivery:
        """Wait for the next delivery; safe to cancel."""
        while not self._ready:
            if self._is_stopped:
                raise ConsumerStoppedError(queues=self._queues)
            self._arrived.clear()
            await self._arrived.wait()
        await asyncio.sleep(0)
        return self._ready.popleft() if self._ready else await self.receive()

    async def receive_some(self, limit: int) -> list[SimulatedDelivery]:
        """Wait for deliveries and return those that have arrived, at most so many; safe to cancel."""
        while not self._ready:
            self._arrived.clear()
            await self._arrived.wait()
        return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]

    async def stop(self) -> None:
        """Take no more; what waits to be received goes back."""
        self._is_stopped = True
        self._arrived.set()
        if self.channel is not None:
            self.channel.takes_more = False
        while self._ready:
            await self._ready.popleft().release()

    def connect(self) -> None:
        """Open a connection, as soon as the broker can be reached."""
        if self._is_closed or (self.channel is not None and self.link.server.is_open(self.channel)):
            return
        link = self.link
        if not link.is_reachable:
            link.loop.call_later(RETRY_SECONDS, self.connect, context=link.own_context)
            return
        self.channel = Channel(link.lane.name, self._queues, self._prefetch, self)
        self.channel.takes_more = not self._is_stopped
        link.server.open(self.channel)

    def close(self) -> None:
        """End the subscription; what it holds goes back."""
        self._is_closed = True
        if self.channel is not None:
            self.link.server.close(self.channel)

    def deliver(self, tag: int, queue: str, parcel: Parcel) -> None:
        """The broker sends a message; it is here a moment later, unless the process is dead by then."""
        delivery = SimulatedDelivery(self, self.channel, tag, queue, parcel)
        self.link.loop.call_later(self.link.delay(), self._arrive, delivery, context=self.link.own_context)

    def disconnected(self) -> None:
        """The connection broke: the process notices a moment later and connects again."""
        self.link.loop.call_later(self.link.delay(), self._heal, context=self.link.own_context)

    def _heal(self) -> None:
        self._ready.clear()
        self.link.loop.call_later(RETRY_SECONDS, self.connect, context=self.link.own_context)

    def _arrive(self, delivery: SimulatedDelivery) -> None:
        if delivery.channel is not self.channel:
            return
        if self._is_stopped:
            self.settle(delivery, give_back=True)
            return
        self._ready.append(delivery)
        self._arrived.set()

    def settle(self, delivery: SimulatedDelivery, *, give_back: bool) -> None:
        """Tell the broker, if the delivery's connection still stands; over a broken one nothing gets there."""
        link = self.link
        if delivery.channel is None or delivery.channel is not self.channel or not link.is_reachable:
            return
        settle = _Settling(link.server, delivery.channel, delivery.tag, give_back=give_back)
        link.loop.call_later(link.delay(), settle.arrive, context=link.broker_context)


class _Settling:
    """A settlement on its way."""

    def __init__(self, server: BrokerServer, channel: Channel, tag: int, *, give_back: bool) -> None:
        self._server = server
        self._channel = channel
        self._tag = tag
        self._give_back = give_back
        self._sent_at = server.loop.time()

    def arrive(self) -> None:
        self._server.settle(self._channel, self._tag, give_back=self._give_back, sent_at=self._sent_at)


class SimulatedDelivery:
    """One message in the hands of one process."""

    def __init__(
        self, consumer: SimulatedConsumer, channel: Channel | None, tag: int, queue: str, parcel: Parcel
    ) -> None:
        self._consumer = consumer
        self._is_settled = False
        self.channel = channel
        self.tag = tag
        self.queue = queue
        self.parcel = parcel
        self.body = parcel.body
        self.redelivered = parcel.redelivered

    async def acknowledge(self) -> None:
        """Take it off the queue."""
        await self._settle(give_back=False)

    async def release(self) -> None:
        """Give it back."""
        await self._settle(give_back=True)

    async def _settle(self, *, give_back: bool) -> None:
        if not self._is_settled:
            self._is_settled = True
            if self._consumer.link.on_io("release" if give_back else "ack"):
                await never()
            self._consumer.settle(self, give_back=give_back)


def _answer(confirmed: asyncio.Future[list[PublishOutcome]], outcomes: list[PublishOutcome]) -> None:
    if not confirmed.done():
        confirmed.set_result(outcomes)


def _lives(_what: str) -> bool:
    """The default of `QueueLink.on_io`."""
    return False
