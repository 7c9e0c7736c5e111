"""What stands in for a broker that is not used, or cannot be reached: the store is the truth, the rest are hints."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum

from floxide_amqp.drivers.memory.control import MemoryControlBus
from floxide_amqp.exceptions import BrokerUnavailableError
from floxide_amqp.ports.work_queue import Consumer, Message, PublishOutcome


class BrokerUse(Enum):
    """What an orchestrator wants of the broker."""

    NEEDED = "needed"
    """Opening fails where it cannot be reached."""
    IF_REACHABLE = "if reachable"
    """To steer runs: what is committed to the store stands without it, and workers learn it from there."""
    NONE = "none"
    """To look at runs: nothing connects."""


class AbsentControlBus(MemoryControlBus):
    """A control bus on which nobody listens: hints are dropped, as hints may be.

    Attributes:
        why: Why the broker cannot be used; empty where none was asked for.
    """

    def __init__(self, why: str = "") -> None:
        super().__init__()
        self.why = why


class AbsentWorkQueue:
    """A work queue that takes nothing: of what is published it says that the outcome is unknown.

    The items stay pending in the store with a timer, and the workers' maintenance publishes them.
    """

    is_durable = True
    max_message_bytes = 2**31

    async def publish(self, messages: Sequence[Message]) -> Sequence[PublishOutcome]:
        """Return `UNKNOWN` for each message, as for a connection that is lost."""
        return [PublishOutcome.UNKNOWN] * len(messages)

    def consume(self, queues: Sequence[str], *, prefetch: int) -> AbstractAsyncContextManager[Consumer]:
        """Refuse.

        Raises:
            BrokerUnavailableError: Always.
        """
        del prefetch
        raise _unavailable(f"Consuming {', '.join(queues)}")

    async def depth(self, queue: str) -> int:
        """Refuse.

        Raises:
            BrokerUnavailableError: Always.
        """
        raise _unavailable(f"Counting the messages of {queue}")


def _unavailable(operation: str) -> BrokerUnavailableError:
    return BrokerUnavailableError(url="none", operation=operation, reason="this client was opened without a broker")
