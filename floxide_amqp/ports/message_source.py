"""The message source port: a queue of somebody else's, whose messages start runs.

The queue is not the engine's: it is not declared unless asked for, and what is not understood is not dropped from it
in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from floxide_amqp.core.sources import SourceMessage


class SourceDelivery(Protocol):
    """One message in the hands of one reader until it is acknowledged or rejected, or the reader is closed."""

    @property
    def message(self) -> SourceMessage:
        """The message."""
        ...

    async def acknowledge(self) -> None:
        """Take it off the queue; a stale delivery is forgotten in silence; never raises."""
        ...

    async def reject(self) -> None:
        """Have the queue give it up: it goes to the queue's own dead letter exchange, or is gone where it has none."""
        ...


class MessageReader(Protocol):
    """An open subscription to a queue; it heals by itself while it is open."""

    @property
    def problem(self) -> str:
        """Why nothing is delivered now, such as a queue that does not exist; empty when all is well."""
        ...

    @property
    def oldest_at(self) -> float | None:
        """Since when, by the event loop, the oldest message has been here that nobody has received; None for none."""
        ...

    async def receive(self, limit: int) -> Sequence[SourceDelivery]:
        """Wait for messages and return those that have arrived, 1 to `limit`. Safe to cancel: none is lost by it."""
        ...


class MessageSource(Protocol):
    """A queue that can be read."""

    def read(self, *, prefetch: int) -> AbstractAsyncContextManager[MessageReader]:
        """Subscribe; what was not settled when the block ends goes back to the queue.

        Entering does not wait for the broker: `MessageReader.problem` tells how it stands.

        Args:
            prefetch: Most messages in hand at a time; at least 1.
        """
        ...
