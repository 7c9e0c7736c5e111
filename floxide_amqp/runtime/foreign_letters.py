"""Dead letters of other stores, which come to whoever reads the queue of a namespace that several share.

Their own workers know what they are worth, so they go back to the queue for them, but not at once and not for ever: a
letter in hand takes the place of another, and one that comes back comes back first. What is left over goes into the
quarantine. Nothing is lost by that: the store it is about misses the message, and publishes another.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict

from floxide_amqp.core.message_records import Envelope
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.dead_letters import DeadDelivery
from floxide_amqp.runtime.services import Services

_log = get_logger("floxide_amqp.dead_letters")

HELD_SECONDS = 5.0
"""How long a letter of another store is held before it goes back, so that its owner gets it and nothing spins."""

MOST_HELD = 16
"""Letters of other stores in hand at a time: half of what is in hand at most, so that the own ones get through."""

PATIENCE_SECONDS = 60.0
"""How long the same letter comes back here before it counts as one that nobody else reads."""

MOST_REMEMBERED = 1_000
"""Letters whose first coming is remembered; the oldest are forgotten, and get their time once more."""

TELL_SECONDS = 60.0
"""Between two log lines about letters of the same other store."""


class ForeignLetters:
    """Holds letters of other stores for a while and gives them back.

    Args:
        services: The process's parts.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._held: set[asyncio.Task[None]] = set()
        self._first_seen: OrderedDict[bytes, float] = OrderedDict()
        self._told: dict[str, float] = {}

    def leaves(self, delivery: DeadDelivery, message: Envelope) -> bool:
        """Return whether a letter is left to its own store; False where it has been left to it for long enough."""
        self._tell(delivery, message)
        digest = hashlib.blake2b(delivery.body, digest_size=16).digest()
        now = asyncio.get_running_loop().time()
        first = self._first_seen.setdefault(digest, now)
        if len(self._first_seen) > MOST_REMEMBERED:
            self._first_seen.popitem(last=False)
        if len(self._held) < MOST_HELD and now - first <= PATIENCE_SECONDS:
            return True
        self._first_seen.pop(digest, None)
        return False

    def hold(self, delivery: DeadDelivery) -> None:
        """Give a letter back after a while."""
        held = asyncio.create_task(_release_later(delivery), name="floxide.dead_letters.held")
        self._held.add(held)
        held.add_done_callback(self._held.discard)

    def let_go(self) -> None:
        """Hold nothing any more: what was in hand goes back with the subscription."""
        for held in self._held:
            held.cancel()

    def _tell(self, delivery: DeadDelivery, message: Envelope) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._told.get(message.store, 0.0):
            return
        self._told[message.store] = now + TELL_SECONDS
        _log.error(
            "store.mismatch", run_id=message.run_id, queue=delivery.queue, store=self._services.store_id,
            message_store=message.store, cure="give all workers the same store, or each application a namespace",
        )  # fmt: skip


async def _release_later(delivery: DeadDelivery) -> None:
    await asyncio.sleep(HELD_SECONDS)
    await delivery.release()
