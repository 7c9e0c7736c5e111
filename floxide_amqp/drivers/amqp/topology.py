"""The names of exchanges and queues, and how they come to be.

Only what cannot be changed later stands in the declarations: arguments are immutable, so everything an operator may
want to tune (length limits, expiry, a lower delivery limit) is left to policies. Every declaration has a channel of its
own, because the broker answers a wrong one by closing the channel it came on.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

from floxide_amqp.drivers.amqp._errors import is_access_refused, is_locked, is_missing
from floxide_amqp.exceptions import BrokerAccessRefusedError, BrokerConnectionLostError, ConfigurationError
from floxide_amqp.logs import get_logger

if TYPE_CHECKING:
    from floxide_amqp.drivers.amqp.session import Session

_logger = get_logger(__name__)

ExchangeKind = Literal["direct", "fanout", "topic"]

MAX_NAME_BYTES: Final = 255
"""AMQP 0-9-1 short strings."""

DELETE_SECONDS: Final = 20.0
"""RabbitMQ 3.10 waits 5 s for a quorum before it deletes a queue by force."""

LOCK_POLL_SECONDS: Final = 0.2
"""Between two looks whether somebody else has replaced a dead queue."""

DELIVERY_LIMIT: Final = 2**31 - 1
"""RabbitMQ 4 gives a message up after 20 returns unless the queue says otherwise. A worker without room returns what it
has not begun, and that is no failure; messages that kill workers are told by the engine itself. Dead letters come back
while the store is away, and there is no other place for them."""

_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


@dataclass(frozen=True, slots=True)
class Names:
    """What everything is called within a namespace."""

    namespace: str

    def __post_init__(self) -> None:
        if not _NAMESPACE.fullmatch(self.namespace) or self.namespace.startswith("amq."):
            raise ConfigurationError(
                f"{self.namespace!r} cannot be a namespace: use up to 100 letters, digits, '-', '_', '.' and ':', "
                "and do not begin with 'amq.', which is RabbitMQ's own."
            )

    @property
    def work_exchange(self) -> str:
        """The direct exchange of all task queues; the routing key is the task queue's name."""
        return f"{self.namespace}.work"

    @property
    def dead_exchange(self) -> str:
        """The fanout exchange for what the broker itself gives up on."""
        return f"{self.namespace}.dead"

    @property
    def dead_queue(self) -> str:
        """Where that is kept."""
        return f"{self.namespace}.dead"

    @property
    def control_exchange(self) -> str:
        """The fanout exchange to all workers."""
        return f"{self.namespace}.control"

    @property
    def event_exchange(self) -> str:
        """The topic exchange of events."""
        return f"{self.namespace}.events"

    def work_queue(self, queue: str) -> str:
        """The quorum queue of one task queue."""
        name = f"{self.namespace}.work.{_plain(queue)}"
        if len(name) > MAX_NAME_BYTES:
            raise ConfigurationError(f"The task queue name {queue!r} is too long: {name!r} exceeds 255 bytes.")
        return name

    def control_queue(self, worker_id: str, nonce: str) -> str:
        """The exclusive queue of one worker's connection; fresh each time, for the old one may still be locked."""
        room = MAX_NAME_BYTES - len(f"{self.namespace}.control..{nonce}")
        return f"{self.namespace}.control.{_plain(worker_id)[:room]}.{nonce}"

    def event_queue(self, nonce: str) -> str:
        """The exclusive queue of one subscription."""
        return f"{self.namespace}.events.{nonce}"


@lru_cache(maxsize=4096)
def _plain(text: str) -> str:
    """Return text as aiormq lets it into a name: other characters percent-encoded, with ``+`` for the percent sign."""
    return quote(text, safe="-_.:/@#, ").replace("%", "+")


async def ensure_exchange(session: Session, name: str, kind: ExchangeKind) -> None:
    """Declare a durable exchange; one that exists already is enough for a user who may not declare."""
    try:
        async with session.short_channel() as channel:
            await session.call(
                f"Declaring exchange {name}", channel.exchange_declare(name, exchange_type=kind, durable=True)
            )
    except BrokerAccessRefusedError:
        if not await exchange_exists(session, name):
            raise


async def ensure_work_queue(session: Session, names: Names, queue: str) -> None:
    """Declare a task queue with its exchange and its dead letters, as far as the user may, and bind them."""
    await ensure_exchange(session, names.work_exchange, "direct")
    await ensure_dead_letters(session, names)
    name = names.work_queue(queue)
    await _ensure_quorum_queue(session, name, work_queue_arguments(names))
    await _ensure_bound(session, name, names.work_exchange, queue)


async def ensure_dead_letters(session: Session, names: Names) -> None:
    """Declare where the broker puts what it gives up on, as far as the user may."""
    await ensure_exchange(session, names.dead_exchange, "fanout")
    await _ensure_quorum_queue(session, names.dead_queue, {"x-delivery-limit": DELIVERY_LIMIT})
    await _ensure_bound(session, names.dead_queue, names.dead_exchange, "")


def work_queue_arguments(names: Names) -> dict[str, str | int]:
    """Return what a task queue's queue is declared with, besides its type."""
    return {"x-dead-letter-exchange": names.dead_exchange, "x-delivery-limit": DELIVERY_LIMIT}


async def count_messages(session: Session, queue: str) -> tuple[int, int] | None:
    """Return how many messages wait in a queue and how many consumers it has, or None where there is no such queue."""
    try:
        async with session.short_channel() as channel:
            found = await session.call(f"Looking at queue {queue}", channel.queue_declare(queue, passive=True))
    except BrokerConnectionLostError as error:
        if error.__cause__ is not None and is_missing(error.__cause__):
            return None
        raise
    return found.message_count or 0, found.consumer_count or 0


async def delete_dead_queue(session: Session, name: str) -> None:
    """Delete a queue without a leader, for which the broker takes a while, unless somebody else is at it.

    Two who delete it at once can leave RabbitMQ 3.10 (measured) with the process of a queue that is in no list: one
    ends what the other has just seen declared again. So whoever deletes has an exclusive queue meanwhile, which the
    broker gives to one connection only; who does not get it waits, and leaves the rest to the one who did.
    """
    lock = f"{name}.mending"
    waited = False
    async with session.mending, session.short_channel() as channel:
        until = asyncio.get_running_loop().time() + DELETE_SECONDS
        while not await _is_locked_for(session, lock):
            waited = True
            if asyncio.get_running_loop().time() > until:
                return
            await asyncio.sleep(LOCK_POLL_SECONDS)
        if not waited and await count_messages(session, name) == (0, 0):
            _logger.error("broker.dead_queue_replaced", queue=name)
            await session.call(f"Deleting queue {name}", channel.queue_delete(name), within=DELETE_SECONDS)
        await session.call(f"Deleting queue {lock}", channel.queue_delete(lock))


async def _is_locked_for(session: Session, lock: str) -> bool:
    """Whether the exclusive queue `lock` is this connection's now; another's declaration is refused."""
    try:
        async with session.short_channel() as channel:
            await session.call(f"Declaring queue {lock}", channel.queue_declare(lock, exclusive=True, auto_delete=True))
    except BrokerConnectionLostError as error:
        if error.__cause__ is not None and is_locked(error.__cause__):
            return False
        raise
    return True


async def _ensure_quorum_queue(session: Session, name: str, arguments: dict[str, str | int]) -> None:
    try:
        async with session.short_channel() as channel:
            await session.call(
                f"Declaring queue {name}",
                channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum", **arguments}),
            )
    except BrokerAccessRefusedError:
        if await count_messages(session, name) is None:
            raise


async def _ensure_bound(session: Session, queue: str, exchange: str, routing_key: str) -> None:
    """Bind; a user who may not is trusted to find the binding made by someone who may."""
    try:
        async with session.short_channel() as channel:
            await session.call(f"Binding queue {queue}", channel.queue_bind(queue, exchange, routing_key))
    except BrokerAccessRefusedError as error:
        if error.__cause__ is None or not is_access_refused(error.__cause__):
            raise


async def exchange_exists(session: Session, name: str) -> bool:
    """Whether there is such an exchange."""
    try:
        async with session.short_channel() as channel:
            await session.call(f"Looking at exchange {name}", channel.exchange_declare(name, passive=True))
    except BrokerConnectionLostError as error:
        if error.__cause__ is not None and is_missing(error.__cause__):
            return False
        raise
    return True
