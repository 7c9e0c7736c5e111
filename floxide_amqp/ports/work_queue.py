"""The work queue port: carries work item messages from whoever put an item pending to one worker.

A message is a hint: the store knows the truth, so a queue may lose, repeat or reorder messages without harm. What it
must not do is claim an outcome it does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Bytes for one task queue.

    Attributes:
        queue: The task queue's name as users write it, such as ``"default"`` or ``"warehouse"``.
        body: The encoded envelope.
        correlation_id: The work item's id, for people who look at the broker.
    """

    queue: str
    body: bytes
    correlation_id: str = ""


class PublishOutcome(Enum):
    """What became of a published message."""

    CONFIRMED = "confirmed"
    """The queue has taken responsibility for it."""
    RETURNED = "returned"
    """No queue is bound for it; it is not stored anywhere."""
    REFUSED = "refused"
    """The broker refused it (a full queue, an over-long message); it is not stored anywhere."""
    UNKNOWN = "unknown"
    """The connection was lost before the confirm; it may or may not be stored."""


class Delivery(Protocol):
    """One message in the hands of one consumer until it is acknowledged or released."""

    @property
    def body(self) -> bytes:
        """The message's bytes."""
        ...

    @property
    def queue(self) -> str:
        """The task queue it came from."""
        ...

    @property
    def redelivered(self) -> bool:
        """Whether this copy may have been delivered before: a consumer died or lost its connection holding it."""
        ...

    async def acknowledge(self) -> None:
        """Take it off the queue. A stale delivery (its connection is gone) is forgotten in silence; never raises."""
        ...

    async def release(self) -> None:
        """Give it back for redelivery; a stale delivery is forgotten in silence; never raises."""
        ...


class Consumer(Protocol):
    """An open subscription to task queues; it heals by itself while it is open."""

    async def receive(self) -> Delivery:
        """Wait for the next delivery. Safe to cancel: no delivery is lost by it.

        Raises:
            BrokerError: The subscription cannot be healed by waiting (access refused, a declaration that clashes).
        """
        ...

    async def stop(self) -> None:
        """Take no further deliveries: those already handed out stay valid, those waiting to be received go back."""
        ...


class WorkQueue(Protocol):
    """Named task queues, at least once."""

    @property
    def is_durable(self) -> bool:
        """Whether a confirmed message outlives the process that published it."""
        ...

    @property
    def max_message_bytes(self) -> int:
        """Largest body that `publish` may hand on."""
        ...

    async def publish(self, messages: Sequence[Message]) -> Sequence[PublishOutcome]:
        """Publish messages, many in flight at once, and return what became of each, in order.

        Never raises for a broken connection: it waits for the supervisor up to the driver's publish deadline, and
        reports `UNKNOWN` then. Cancelling the call does not cancel the publishing.
        """
        ...

    def consume(self, queues: Sequence[str], *, prefetch: int) -> AbstractAsyncContextManager[Consumer]:
        """Subscribe to task queues, creating what is missing.

        Args:
            queues: Names of task queues, at least one.
            prefetch: Most deliveries unacknowledged at a time, over all queues; at least 1.
        """
        ...

    async def depth(self, queue: str) -> int:
        """Return how many messages wait in a task queue, not counting those delivered and unacknowledged."""
        ...
