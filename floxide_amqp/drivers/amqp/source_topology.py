"""A source's queue: what it is, and how it comes to be where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pamqp.common import FieldValue

from floxide_amqp.drivers.amqp.topology import ExchangeKind, count_messages
from floxide_amqp.exceptions import BrokerUnavailableError

if TYPE_CHECKING:
    from floxide_amqp.drivers.amqp.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceBinding:
    """What brings messages into the queue.

    Attributes:
        declare: What the exchange is declared as; empty where it must be there.
    """

    exchange: str
    routing_key: str = ""
    declare: ExchangeKind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTopology:
    """A source's queue.

    Attributes:
        queue: Its name.
        declare: Which kind of queue it is declared as, durable; None where it is waited for.
        arguments: What it is declared with besides.
        bindings: Made at each connection.
    """

    queue: str
    declare: str | None = None
    arguments: Mapping[str, str | int | bool] = field(default_factory=dict[str, "str | int | bool"])
    bindings: Sequence[SourceBinding] = ()


async def ensure_source(session: Session, topology: SourceTopology) -> None:
    """Make sure that a source's queue is there, and bound as is asked for.

    Raises:
        BrokerUnavailableError: It is not there, and nobody has asked for it to be declared.
        BrokerError: The broker refuses something.
    """
    queue = topology.queue
    if topology.declare is not None:
        arguments: dict[str, FieldValue] = {"x-queue-type": topology.declare, **topology.arguments}
        async with session.short_channel() as channel:
            await session.call(
                f"Declaring queue {queue}", channel.queue_declare(queue, durable=True, arguments=arguments)
            )
    elif await count_messages(session, queue) is None:
        raise BrokerUnavailableError(
            url=session.url, operation=f"Consuming {queue}", reason=f"there is no queue {queue!r}; it is waited for",
            cure="Declare it, or let the source do so: AmqpSource(..., declare='quorum').",
        )  # fmt: skip
    for binding in topology.bindings:
        exchange = binding.exchange
        async with session.short_channel() as channel:
            if binding.declare is not None:
                declaring = channel.exchange_declare(exchange, exchange_type=binding.declare, durable=True)
                await session.call(f"Declaring exchange {exchange}", declaring)
            await session.call(
                f"Binding queue {queue} to exchange {exchange}",
                channel.queue_bind(queue, exchange, binding.routing_key),
            )
