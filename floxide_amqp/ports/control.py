"""The control port: hints to all workers (a fanout) and events to the clients that wait for them.

Both are hints. A worker that missed a cancel learns it from the store, a client that missed an event reads the store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class ControlBus(Protocol):
    """Broadcast to workers, and events routed by a key."""

    async def broadcast(self, body: bytes) -> None:
        """Hand a control message to every worker that listens now. Best effort: a failure is logged, not raised."""
        ...

    def listen(self, worker_id: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Receive every control message from now on; the subscription heals by itself.

        An empty ``b""`` is yielded after each healed gap: messages may have been missed.
        """
        ...

    async def announce(self, routing_key: str, body: bytes) -> None:
        """Hand an event to whoever subscribed to its routing key. Best effort: a failure is logged, not raised."""
        ...

    def subscribe(self, pattern: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Receive events whose routing key matches, from when the context is entered on; it heals by itself.

        Args:
            pattern: Words parted by dots; ``*`` stands for one word, ``#`` for any number.

        An empty ``b""`` is yielded after each healed gap: events may have been missed.
        """
        ...
