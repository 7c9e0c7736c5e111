"""Consuming task queues: one channel per consumer, whose callback only puts deliveries into memory.

RabbitMQ counts prefetch per consumer, that is per task queue, and refuses a common count on quorum queues. So that no
more than `prefetch` deliveries are ever unacknowledged, the task queues share it: each gets an equal part, at least 1.
Where there are levels of priority, the queues of each level share as many again, and what is handed out is no more than
`prefetch`: the rest waits here, so that there is a choice.

RabbitMQ (3.10, measured) does not survive a kill within about a second of a quorum queue's declaration: the queue is
there afterwards, empty, without a leader, and answers neither consumers nor publishers for ever. Since messages are
hints that the store can repeat, a task queue in this state is deleted and declared again.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from floxide_amqp.core.priorities import LEVELS, level_of
from floxide_amqp.drivers.amqp.connection import Link
from floxide_amqp.drivers.amqp.consumer_lane import AmqpDelivery, ConsumerLane
from floxide_amqp.drivers.amqp.keeper import Keeper
from floxide_amqp.drivers.amqp.session import Session
from floxide_amqp.drivers.amqp.settings import AmqpSettings
from floxide_amqp.drivers.amqp.topology import Names
from floxide_amqp.drivers.queue_turns import QueueTurns
from floxide_amqp.exceptions import BrokerError, ConsumerStoppedError
from floxide_amqp.logs import get_logger

_logger = get_logger(__name__)

LEFT_ALONE_SECONDS: Final = 60.0
"""How long a task queue at which the broker fails with a defect of its own is left alone. It closes the whole
connection each time, so trying again costs the other task queues a moment."""

DEAD_AFTER_UNANSWERED: Final = 2
"""One unanswered consumer may be a slow election; two in a row, each on a connection of its own, are not."""


class AmqpConsumer:
    """An open subscription; see `AmqpWorkQueue.consume`."""

    def __init__(
        self,
        link: Link,
        names: Names,
        settings: AmqpSettings,
        queues: Sequence[str],
        *,
        prefetch: int,
        subscribed: Counter[str],
    ) -> None:
        """Describe the subscription; nothing happens before `open`.

        Args:
            link: Whose sessions to use.
            names: What the queues are called.
            settings: Intervals and deadlines.
            queues: Names of task queues.
            prefetch: Most deliveries unacknowledged at a time.
            subscribed: How many consumers of this process the broker should know by task queue; shared by all.
        """
        self.subscribed = subscribed
        self.shares = shares_of(prefetch, tuple(dict.fromkeys(queues)))
        self.is_stopped = False
        self.unanswered: Counter[str] = Counter()
        self._failing: dict[str, tuple[float, str]] = {}
        self._replaces_dead_queues = settings.replaces_dead_queues
        self._names = names
        self._prefetch = prefetch
        self._turns = QueueTurns(self.shares)
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
            is_outlived=lambda lane: lane.is_outlived,
        )

    @property
    def problem(self) -> str:
        """Why nothing is delivered now, of all task queues or of some; empty when all is well, or it was stopped."""
        if self.is_stopped:
            return ""
        return self._keeper.problem or "; ".join(
            self._failing[queue][1] for queue in self.shares if self.is_left_alone(queue)
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
        """Stop, and close the channel."""
        await self.stop()
        await self._keeper.aclose()

    def is_taken_for_dead(self, queue: str) -> bool:
        """Whether a task queue let consumers wait in vain so often that it is beyond hope."""
        return self._replaces_dead_queues and self.unanswered[queue] >= DEAD_AFTER_UNANSWERED

    def leave_alone(self, queue: str, reason: str) -> None:
        """Serve the other task queues without one at which the broker fails, and say so."""
        until = asyncio.get_running_loop().time() + LEFT_ALONE_SECONDS
        self._failing[queue] = until, f"The broker fails at queue {self._names.work_queue(queue)}: {reason}"
        _logger.error("broker.task_queue_broken", queue=queue, problem=reason, retry_in_seconds=LEFT_ALONE_SECONDS)

    def is_left_alone(self, queue: str) -> bool:
        """Whether the broker failed at a task queue so short a time ago that it is not asked again."""
        return queue in self._failing and asyncio.get_running_loop().time() < self._failing[queue][0]

    def serve(self) -> None:
        """Hand what is buffered to those who wait, the task queues of one level of priority in turn."""
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
            if self.is_stopped:  # meanwhile
                await lane.unsubscribe()
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
        queue = self._turns.next(lane.buffered.__getitem__)
        return None if queue is None else lane.buffered[queue].popleft()

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
    """Return each task queue's part of its level's prefetch: equal up to the remainder, at least 1."""
    shares: dict[str, int] = {}
    for level in LEVELS:  # each has all of it: of what is at hand, more than are taken, the higher are taken first
        of_level = [queue for queue in queues if level_of(queue) is level]
        part, remainder = divmod(prefetch, max(1, len(of_level)))
        shares |= {queue: max(1, part + (position < remainder)) for position, queue in enumerate(of_level)}
    return {queue: shares[queue] for queue in queues}
