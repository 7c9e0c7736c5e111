"""Consuming task queues: one channel per consumer, whose callback only puts deliveries into memory.

A delivery is bound to the generation of the channel it came on. When that is gone the broker has it delivered again,
to whomever, so settling it is forgotten in silence.

Acknowledgements are written by a task of the channel: handing one over never waits, so it cannot be lost by a
cancelled caller.

RabbitMQ counts prefetch per consumer, that is per task queue, and refuses a common count on quorum queues. So that no
more than `prefetch` deliveries are ever unacknowledged, the task queues share it: each gets an equal part, at least 1.

RabbitMQ (3.10, measured) does not survive a kill within about a second of a quorum queue's declaration: the queue is
there afterwards, empty, without a leader, and answers neither consumers nor publishers for ever. Since messages are
hints that the store can repeat, a task queue in this state is deleted and declared again.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final
from uuid import uuid4

import aiormq
import aiormq.abc
from pamqp.commands import Basic

from floxide_amqp.drivers.amqp._errors import describe
from floxide_amqp.drivers.amqp.connection import Link
from floxide_amqp.drivers.amqp.keeper import Keeper
from floxide_amqp.drivers.amqp.session import Session, UnansweredCallError, quietly, when_closed
from floxide_amqp.drivers.amqp.settings import AmqpSettings
from floxide_amqp.drivers.amqp.topology import Names, count_messages, delete_queue, ensure_work_queue
from floxide_amqp.exceptions import BrokerError, ConsumerStoppedError
from floxide_amqp.logs import get_logger

_logger = get_logger(__name__)

DEAD_AFTER_UNANSWERED: Final = 2
"""One unanswered consumer may be a slow election; two in a row, each on a connection of its own, are not."""


class AmqpDelivery:
    """One message in the hands of one consumer, on one generation of its channel."""

    __slots__ = ("body", "lane", "queue", "redelivered", "tag")

    def __init__(self, lane: ConsumerLane, tag: int, queue: str, message: aiormq.abc.DeliveredMessage) -> None:
        self.lane = lane
        self.tag = tag
        self.queue = queue
        self.body = message.body
        self.redelivered = bool(message.redelivered)

    async def acknowledge(self) -> None:
        """Take it off the queue; a stale delivery is forgotten in silence."""
        self.lane.settle(self.tag, requeue=False)

    async def release(self) -> None:
        """Give it back for redelivery; a stale delivery is forgotten in silence."""
        self.lane.settle(self.tag, requeue=True)


class ConsumerLane:
    """One generation of a consumer's channel."""

    def __init__(self, consumer: AmqpConsumer, session: Session, channel: aiormq.Channel, names: Names) -> None:
        self.session = session
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.disturbed = asyncio.Event()
        self.buffered: dict[str, deque[AmqpDelivery]] = {queue: deque() for queue in consumer.shares}
        self.handed_out: set[int] = set()
        self._unsettled: set[int] = set()
        self._consumer = consumer
        self._channel = channel
        self._names = names
        self._tags: dict[str, str] = {}
        self._subscribing = asyncio.Lock()
        self._unwritten: deque[tuple[int, bool]] = deque()
        self._to_write = asyncio.Event()
        self._closing = False
        self._writer = asyncio.create_task(self._write_settlements())
        when_closed(channel, self._on_closed)
        channel.on_consumer_cancel_callbacks.add(self._on_cancelled_by_broker)

    @property
    def is_alive(self) -> bool:
        """Whether what was delivered on it can still be settled."""
        return not self.closed.done() and self.session.is_usable

    async def mend(self) -> None:
        """Subscribe to every task queue that has no consumer, after making sure that it exists."""
        async with self._subscribing:
            for queue in self._consumer.shares:
                if queue not in self._tags and not self._consumer.is_stopped:
                    await self._replace_if_dead(queue)
                    await ensure_work_queue(self.session, self._names, queue)
                    await self._subscribe(queue)

    async def probe(self) -> None:
        """Find consumers that the broker has forgotten without saying so."""
        for queue, tag in tuple(self._tags.items()):
            found = await count_messages(self.session, self._names.work_queue(queue))
            if found is None or found[1] == 0 or tag not in self._channel.consumers:
                _logger.warning("broker.consumer_missing", queue=queue)
                self._tags.pop(queue, None)
                self.disturbed.set()

    async def unsubscribe(self) -> None:
        """Take no further deliveries, and give back those nobody has received."""
        async with self._subscribing:
            try:
                for queue in tuple(self._tags):
                    tag = self._tags.pop(queue)
                    await self.session.call(f"Ending the consumer of {queue}", self._channel.basic_cancel(tag))
            except BrokerError as error:
                _logger.debug("broker.consumer_cancel_failed", problem=str(error))
        for waiting in self.buffered.values():
            while waiting:
                await waiting.popleft().release()

    def settle(self, tag: int, *, requeue: bool) -> None:
        """Have a delivery acknowledged or given back, unless that was done before or its generation is over.

        The broker closes the channel on a tag that is settled twice.
        """
        self.handed_out.discard(tag)
        if self.is_alive and tag in self._unsettled:
            self._unsettled.remove(tag)
            self._unwritten.append((tag, requeue))
            self._to_write.set()
        self._consumer.serve()

    async def close(self) -> None:
        """Write the settlements that wait, then close the channel; what is unsettled is delivered again."""
        self._closing = True
        self._to_write.set()
        await asyncio.wait({self._writer}, timeout=self._consumer.close_deadline)
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)
        await self.session.close_channel(self._channel)
        self._end()

    async def _replace_if_dead(self, queue: str) -> None:
        if not self._consumer.is_taken_for_dead(queue):
            return
        name = self._names.work_queue(queue)
        found = await count_messages(self.session, name)
        if found == (0, 0):
            _logger.error("broker.dead_queue_replaced", queue=queue)
            await delete_queue(self.session, name)
        self._consumer.unanswered[queue] = 0

    async def _subscribe(self, queue: str) -> None:
        """Start a consumer; its share of the prefetch is what the channel's QoS says at this moment."""
        share = self._consumer.shares[queue]
        await self.session.call("Setting the prefetch", self._channel.basic_qos(prefetch_count=share))
        tag = f"{queue[:100]}.{uuid4().hex}"

        async def on_message(message: aiormq.abc.DeliveredMessage) -> None:
            self._on_message(queue, message)  # never suspends: aiormq cancels callbacks of a lost connection

        self._tags[queue] = tag
        consuming = self._channel.basic_consume(self._names.work_queue(queue), on_message, consumer_tag=tag)
        try:
            await self.session.call(f"Consuming {queue}", consuming)
        except UnansweredCallError:
            self._consumer.unanswered[queue] += 1
            raise
        self._consumer.unanswered[queue] = 0
        _logger.info("broker.consumer_started", queue=queue, prefetch=share, generation=self.session.generation)

    def _on_message(self, queue: str, message: aiormq.abc.DeliveredMessage) -> None:
        if message.delivery_tag is None:
            return
        delivery = AmqpDelivery(self, message.delivery_tag, queue, message)
        self._unsettled.add(message.delivery_tag)
        if self._consumer.is_stopped:
            self.settle(message.delivery_tag, requeue=True)
            return
        self.buffered[queue].append(delivery)
        self._consumer.serve()

    async def _write_settlements(self) -> None:
        while self.is_alive:
            while self._unwritten:
                tag, requeue = self._unwritten.popleft()
                problem = await quietly(
                    self._channel.basic_nack(tag, requeue=True, wait=False)
                    if requeue
                    else self._channel.basic_ack(tag, wait=False)
                )
                if problem is not None:
                    _logger.debug("broker.settlement_forgotten", generation=self.session.generation)
                    return
            if self._closing:
                return
            self._to_write.clear()
            await self._to_write.wait()

    def _on_cancelled_by_broker(self, frame: Basic.Cancel) -> None:
        for queue, tag in tuple(self._tags.items()):
            if tag == frame.consumer_tag:
                _logger.warning("broker.consumer_cancelled", queue=queue)
                del self._tags[queue]
                self.disturbed.set()

    def _on_closed(self, error: BaseException | None) -> None:
        if self.session.is_usable and not self._closing:
            _logger.warning("broker.channel_closed", reason="" if error is None else describe(error))
        self._end()

    def _end(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        self._to_write.set()
        for waiting in self.buffered.values():
            waiting.clear()


class AmqpConsumer:
    """An open subscription; see `AmqpWorkQueue.consume`."""

    def __init__(self, link: Link, names: Names, settings: AmqpSettings, queues: Sequence[str], prefetch: int) -> None:
        """Describe the subscription; nothing happens before `open`."""
        self.shares = shares_of(prefetch, tuple(dict.fromkeys(queues)))
        self.is_stopped = False
        self.close_deadline = settings.close_deadline
        self.unanswered: Counter[str] = Counter()
        self._replaces_dead_queues = settings.replaces_dead_queues
        self._names = names
        self._prefetch = prefetch
        self._turns = deque(self.shares)
        self._receivers: deque[asyncio.Future[AmqpDelivery]] = deque()
        self._lane: ConsumerLane | None = None
        self._failure: BrokerError | None = None
        self._keeper = Keeper[ConsumerLane](
            link,
            settings,
            what=f"consumer of {', '.join(self.shares)}",
            attach=self._attach,
            on_attached=self._on_attached,
            on_failure=self._on_failure,
        )

    async def open(self) -> None:
        """Subscribe; see `Keeper.open` for what it raises."""
        await self._keeper.open()

    async def receive(self) -> AmqpDelivery:
        """Wait for the next delivery; safe to cancel.

        Raises:
            ConsumerStoppedError: The consumer was stopped.
            BrokerError: The subscription cannot be healed by waiting.
        """
        if self.is_stopped:
            raise ConsumerStoppedError(queues=tuple(self.shares))
        if self._failure is not None:
            raise self._failure
        receiver: asyncio.Future[AmqpDelivery] = asyncio.get_running_loop().create_future()
        self._receivers.append(receiver)
        self.serve()
        try:
            return await receiver
        except asyncio.CancelledError:
            self._abandon(receiver)
            raise

    async def stop(self) -> None:
        """Take no further deliveries: those handed out stay valid, those waiting to be received go back."""
        if self.is_stopped:
            return
        self.is_stopped = True
        self._refuse_receivers(ConsumerStoppedError(queues=tuple(self.shares)))
        if self._lane is not None:
            await self._lane.unsubscribe()

    async def aclose(self) -> None:
        """Stop, write the settlements handed over so far, and close the channel."""
        await self.stop()
        await self._keeper.aclose()

    def is_taken_for_dead(self, queue: str) -> bool:
        """Whether a task queue let consumers wait in vain so often that it is beyond hope."""
        return self._replaces_dead_queues and self.unanswered[queue] >= DEAD_AFTER_UNANSWERED

    def serve(self) -> None:
        """Hand what is buffered to those who wait, the task queues in turn."""
        lane = self._lane
        if lane is None or not lane.is_alive:
            return
        while self._has_receiver() and len(lane.handed_out) < self._prefetch:
            delivery = self._next_buffered(lane)
            if delivery is None:
                return
            lane.handed_out.add(delivery.tag)
            self._receivers.popleft().set_result(delivery)

    async def _attach(self, session: Session) -> ConsumerLane:
        lane = ConsumerLane(self, session, await session.open_channel(), self._names)
        try:
            await lane.mend()
        except BaseException:
            await lane.close()
            raise
        return lane

    def _on_attached(self, lane: ConsumerLane) -> None:
        self._failure = None
        self._lane = lane
        self.serve()

    def _on_failure(self, error: BrokerError) -> None:
        self._failure = error
        self._refuse_receivers(error)

    def _refuse_receivers(self, error: BrokerError) -> None:
        while self._has_receiver():
            self._receivers.popleft().set_exception(error)

    def _has_receiver(self) -> bool:
        while self._receivers and self._receivers[0].done():  # cancelled, its task has not run since
            self._receivers.popleft()
        return bool(self._receivers)

    def _next_buffered(self, lane: ConsumerLane) -> AmqpDelivery | None:
        for _ in range(len(self._turns)):
            queue = self._turns[0]
            self._turns.rotate(-1)
            if lane.buffered[queue]:
                return lane.buffered[queue].popleft()
        return None

    def _abandon(self, receiver: asyncio.Future[AmqpDelivery]) -> None:
        """Undo a receive that was cancelled, also when its delivery had just been handed out."""
        if receiver in self._receivers:
            self._receivers.remove(receiver)
        if receiver.cancelled() or not receiver.done() or receiver.exception() is not None:
            return
        delivery = receiver.result()
        if self.is_stopped:
            delivery.lane.settle(delivery.tag, requeue=True)
        elif delivery.tag in delivery.lane.handed_out:
            delivery.lane.handed_out.discard(delivery.tag)
            delivery.lane.buffered[delivery.queue].appendleft(delivery)
            self.serve()


def shares_of(prefetch: int, queues: Sequence[str]) -> dict[str, int]:
    """Return each task queue's part of the prefetch: equal up to the remainder, at least 1."""
    part, remainder = divmod(prefetch, len(queues))
    return {queue: max(1, part + (position < remainder)) for position, queue in enumerate(queues)}
