"""The dead letter port: what a broker has given up delivering.

Only a queue that gives messages up by itself (after too many returns, by age, by length) has dead letters. The
in-process queue keeps every message until it is acknowledged, so it implements nothing of this.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol


class DeadDelivery(Protocol):
    """One message that the broker gave up on, in the hands of one reader until it is acknowledged or released."""

    @property
    def body(self) -> bytes:
        """The message's bytes, as they were published."""
        ...

    @property
    def queue(self) -> str:
        """The task queue that gave it up; empty where the broker does not say."""
        ...

    @property
    def reason(self) -> str:
        """Why, in the broker's word: ``delivery_limit``, ``expired``, ``maxlen``, ``rejected``; empty if not said."""
        ...

    @property
    def count(self) -> int:
        """How often this very message was given up for this reason; 0 where the broker does not say."""
        ...

    async def acknowledge(self) -> None:
        """Take it off the queue; a stale delivery is forgotten in silence; never raises."""
        ...

    async def release(self) -> None:
        """Give it back, to be delivered again; a stale delivery is forgotten in silence; never raises."""
        ...


class DeadLetterReader(Protocol):
    """An open subscription to dead letters; it heals by itself while it is open."""

    async def receive(self) -> DeadDelivery:
        """Wait for the next letter. Safe to cancel: no letter is lost by it.

        Raises:
            BrokerError: The subscription cannot be healed by waiting (access refused, a declaration that clashes).
        """
        ...


class DeadLetterQueue(Protocol):
    """Where the dead letters of all task queues arrive, at least once each."""

    def read(self, *, prefetch: int) -> AbstractAsyncContextManager[DeadLetterReader]:
        """Subscribe, creating what is missing; entering returns once subscribed.

        Args:
            prefetch: Most letters in hand at a time; at least 1.
        """
        ...
