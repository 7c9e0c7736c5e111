"""One generation of a consumer's channel, and the deliveries that came on it.

A delivery is bound to the generation of the channel it came on. When that is gone the broker has it delivered again,
to whomever, so settling it is forgotten in silence.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from functools import partial
from typing import Final, Protocol
from uuid import uuid4

import aiormq
from pamqp.commands import Basic

from floxide_amqp.drivers.amqp._errors import describe, is_internal
from floxide_amqp.drivers.amqp.channel_wire import Arrival
from floxide_amqp.drivers.amqp.keeper import SILENT_PROBES
from floxide_amqp.drivers.amqp.session import Session, UnansweredCallError, when_closed
from floxide_amqp.drivers.amqp.topology import (
    Names,
    count_messages,
    delete_dead_queue,
    ensure_dead_letters,
    ensure_work_queue,
    exchange_exists,
)
from floxide_amqp.exceptions import BrokerConnectionLostError, BrokerError
from floxide_amqp.logs import get_logger

_logger = get_logger(__name__)

IDLE_PROBES: Final = 8
"""A consumer that heard nothing during so many probes is replaced, although nothing seems to be wrong. RabbitMQ (3.10,
measured) moves the consumers of a quorum queue that is deleted and declared again within about 30 ms to the new queue,
counts them there, and drops what it should deliver to them, for ever."""


class LaneOwner(Protocol):
    """The consumer that a lane is a generation of."""

    @property
    def shares(self) -> Mapping[str, int]:
        """Each task queue's part of the prefetch."""
        ...

    @property
    def is_stopped(self) -> bool:
        """Whether it takes no further deliveries."""
        ...

    @property
    def unanswered(self) -> Counter[str]:
        """How often in a row a task queue did not answer a consumer."""
        ...

    @property
    def subscribed(self) -> Counter[str]:
        """How many consumers of this process the broker should know, by task queue."""
        ...

    def is_taken_for_dead(self, queue: str) -> bool:
        """Whether a task queue let consumers wait in vain so often that it is beyond hope."""
        ...

    def leave_alone(self, queue: str, reason: str) -> None:
        """Note that the broker fails at a task queue, and that this takes the others' connection with it."""
        ...

    def is_left_alone(self, queue: str) -> bool:
        """Whether it failed at it a short time ago."""
        ...

    def serve(self) -> None:
        """Hand what is buffered to those who wait."""
        ...


class AmqpDelivery:
    """One message in the hands of one consumer, on one generation of its channel."""

    __slots__ = ("body", "lane", "queue", "redelivered", "tag")

    def __init__(self, lane: ConsumerLane, queue: str, arrival: Arrival) -> None:
        self.lane = lane
        self.tag = arrival.tag
        self.queue = queue
        self.body = arrival.body
        self.redelivered = arrival.redelivered

    async def acknowledge(self) -> None:
        """Take it off the queue; a stale delivery is forgotten in silence."""
        self.lane.settle(self.tag, requeue=False)

    async def release(self) -> None:
        """Give it back for redelivery; a stale delivery is forgotten in silence."""
        self.lane.settle(self.tag, requeue=True)


class ConsumerLane:
    """One generation of a consumer's channel."""

    def __init__(self, owner: LaneOwner, session: Session, channel: aiormq.Channel, names: Names) -> None:
        self.session = session
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.disturbed = asyncio.Event()
        self.buffered: dict[str, deque[AmqpDelivery]] = {queue: deque() for queue in owner.shares}
        self.handed_out: set[int] = set()
        self._unsettled: dict[int, str] = {}
        self._silent: Counter[str] = Counter()
        self._owner = owner
        self._channel = channel
        self._names = names
        self.is_outlived = False
        self._tags: dict[str, str] = {}
        self._counted: set[str] = set()
        self._subscribing = asyncio.Lock()
        self._closing = False
        self._wire = session.wire(channel)
        when_closed(channel, self._on_closed)
        channel.on_consumer_cancel_callbacks.add(self._on_cancelled_by_broker)

    @property
    def is_alive(self) -> bool:
        """Whether what was delivered on it can still be settled."""
        return not self.closed.done() and self.session.is_usable

    async def mend(self) -> None:
        """Subscribe to every task queue that has no consumer, after making sure that it exists."""
        async with self._subscribing:
            for queue in self._missing():
                if self._owner.is_stopped:
                    return
                try:
                    await self._replace_if_dead(queue)
                    await ensure_work_queue(self.session, self._names, queue)
                    await self._subscribe(queue)
                except BrokerConnectionLostError as error:
                    if is_internal(error.reason):
                        self._owner.leave_alone(queue, error.reason)
                    raise

    async def probe(self) -> None:
        """Find consumers that the broker has forgotten without saying so, and dead letters that have no place."""
        for queue, tag in tuple(self._tags.items()):
            waiting, consumers = await count_messages(self.session, self._names.work_queue(queue)) or (0, 0)
            is_missing = consumers < self._owner.subscribed[queue] or tag not in self._channel.consumers
            if is_missing or self._is_deaf(queue, waiting):
                _logger.warning("broker.consumer_missing", queue=queue)
                await self._replace(queue, tag)
            elif self._silent[queue] >= IDLE_PROBES:
                _logger.debug("broker.idle_consumer_replaced", queue=queue)
                self.is_outlived = not self._unsettled
                await self._replace(queue, tag)
            if self.is_outlived:
                return
        if self._missing():
            self.disturbed.set()
        has_place = await exchange_exists(self.session, self._names.dead_exchange)
        if not has_place or await count_messages(self.session, self._names.dead_queue) is None:
            _logger.warning("broker.dead_letters_missing", queue=self._names.dead_queue)
            await ensure_dead_letters(self.session, self._names)

    async def unsubscribe(self) -> None:
        """Take no further deliveries, and give back those nobody has received."""
        async with self._subscribing:
            try:
                for queue in tuple(self._tags):
                    tag = self._forget(queue)
                    await self.session.call(f"Ending the consumer of {queue}", self._channel.basic_cancel(tag))
            except BrokerError as error:
                _logger.debug("broker.consumer_cancel_failed", problem=str(error))
        for waiting in self.buffered.values():
            while waiting:
                await waiting.popleft().release()

    def settle(self, tag: int, *, requeue: bool) -> None:
        """Acknowledge a delivery or give it back, unless that was done before or its generation is over.

        The broker closes the channel on a tag that is settled twice.
        """
        self.handed_out.discard(tag)
        if self.is_alive and tag in self._unsettled:
            del self._unsettled[tag]
            if requeue:
                self._wire.give_back(tag)
            else:
                self._wire.acknowledge(tag)
        self._owner.serve()

    async def close(self) -> None:
        """Close the channel; what is unsettled is delivered again."""
        self._closing = True
        self._wire.stop_writing()
        await self.session.close_channel(self._channel)
        self._end()

    def _missing(self) -> list[str]:
        """The task queues that want a consumer, but for those that the broker has just failed at."""
        return [
            queue for queue in self._owner.shares if queue not in self._tags and not self._owner.is_left_alone(queue)
        ]

    async def _replace_if_dead(self, queue: str) -> None:
        if not self._owner.is_taken_for_dead(queue):
            return
        await delete_dead_queue(self.session, self._names.work_queue(queue))
        self._owner.unanswered[queue] = 0

    async def _subscribe(self, queue: str) -> None:
        """Start a consumer; its share of the prefetch is what the channel's QoS says at this moment."""
        share = self._owner.shares[queue]
        await self.session.call("Setting the prefetch", self._channel.basic_qos(prefetch_count=share))
        tag = f"{queue[:100]}.{uuid4().hex}"
        self._tags[queue] = tag
        consuming = self._wire.consume(self._names.work_queue(queue), tag, partial(self._on_message, queue))
        try:
            await self.session.call(f"Consuming {queue}", consuming)
        except UnansweredCallError:
            self._owner.unanswered[queue] += 1
            raise
        self._owner.unanswered[queue] = 0
        if self._tags.get(queue) == tag:
            self._owner.subscribed[queue] += 1
            self._counted.add(queue)
        _logger.info("broker.consumer_started", queue=queue, prefetch=share, generation=self.session.generation)

    def _on_message(self, queue: str, arrival: Arrival) -> None:
        self._unsettled[arrival.tag] = queue
        self._silent.pop(queue, None)
        # Of a consumer that stops, too: `unsubscribe` gives it back when the broker cannot send it here again.
        self.buffered[queue].append(AmqpDelivery(self, queue, arrival))
        self._owner.serve()

    def _on_cancelled_by_broker(self, frame: Basic.Cancel) -> None:
        for queue, tag in tuple(self._tags.items()):
            if tag == frame.consumer_tag:
                _logger.warning("broker.consumer_cancelled", queue=queue)
                self._forget(queue)
                self.disturbed.set()

    def _on_closed(self, error: BaseException | None) -> None:
        if self.session.is_usable and not self._closing:
            _logger.warning("broker.channel_closed", reason="" if error is None else describe(error))
        self._end()

    def _end(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        for queue in tuple(self._tags):
            self._forget(queue)
        for waiting in self.buffered.values():
            waiting.clear()

    def _forget(self, queue: str) -> str:
        """Count a consumer out and return its tag."""
        if queue in self._counted:
            self._counted.remove(queue)
            self._owner.subscribed[queue] -= 1
        del self._silent[queue]
        return self._tags.pop(queue)

    async def _replace(self, queue: str, tag: str) -> None:
        """End a consumer and have it mended, unless it has changed meanwhile."""
        if self._tags.get(queue) == tag and not self.is_outlived:
            self._forget(queue)
            await self.session.call(f"Ending the consumer of {queue}", self._channel.basic_cancel(tag))
            self.disturbed.set()

    def _is_deaf(self, queue: str, waiting: int) -> bool:
        """Whether messages wait, this consumer has room, and nothing has come for some probes."""
        unsettled = sum(1 for origin in self._unsettled.values() if origin == queue)
        if unsettled:
            del self._silent[queue]
        self._silent[queue] += 1
        return waiting > 0 and unsettled < self._owner.shares[queue] and self._silent[queue] > SILENT_PROBES
