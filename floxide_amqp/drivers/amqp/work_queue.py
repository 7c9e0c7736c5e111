"""The work queue port over RabbitMQ, 3.10 to 4.x.

Owns two connections, one to publish and one to consume, so that an alarm that blocks publishers does not keep finished
work from being acknowledged.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self

from floxide_amqp.drivers.amqp.connection import Link
from floxide_amqp.drivers.amqp.consumer import AmqpConsumer
from floxide_amqp.drivers.amqp.health import RoleHealth, health_of
from floxide_amqp.drivers.amqp.publisher import Publisher
from floxide_amqp.drivers.amqp.settings import DEFAULT_NAMESPACE, DEFAULT_SETTINGS, AmqpSettings, broker_url
from floxide_amqp.drivers.amqp.topology import Names, count_messages
from floxide_amqp.ports.work_queue import Message, PublishOutcome


class AmqpWorkQueue:
    """Task queues on RabbitMQ; open it with ``async with``."""

    def __init__(
        self, url: str, *, namespace: str = DEFAULT_NAMESPACE, settings: AmqpSettings = DEFAULT_SETTINGS
    ) -> None:
        """Describe the work queue; nothing is connected yet.

        Args:
            url: ``amqp://user:password@host:5672/vhost``, or ``amqps://`` for TLS.
            namespace: First word of every exchange and queue name; deployments that share a virtual host differ in it.
            settings: Deadlines, limits and security.

        Raises:
            ConfigurationError: The URL or the namespace is wrong.
        """
        checked = broker_url(url, settings)
        self._settings = settings
        self._names = Names(namespace)
        self._publisher = Publisher(self._names, settings)
        name = connection_name(namespace)
        self._publish_link = Link("publish", checked, settings, name=name, prepare=self._publisher.prepare)
        self._consume_link = Link("consume", checked, settings, name=name)
        self._subscribed: Counter[str] = Counter()
        self._consumers: set[AmqpConsumer] = set()
        self._is_consuming = False

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            BrokerUnavailableError: Not connected within `AmqpSettings.open_deadline`.
            BrokerAccessRefusedError: The broker refuses the login or the declaration of the work exchange.
            TopologyClashError: The work exchange exists, declared differently.
        """
        await self._publish_link.connect(within=self._settings.open_deadline)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        await self.aclose()

    async def aclose(self) -> None:
        """End the consumers, wait for publishes on their way, and close the connections; each within its deadline."""
        for consumer in tuple(self._consumers):
            await consumer.aclose()
        await self._publisher.aclose()
        await self._consume_link.aclose()
        await self._publish_link.aclose()
        await self._publisher.drop_rest()

    @property
    def is_durable(self) -> bool:
        """True: messages are persistent, in quorum queues."""
        return True

    @property
    def max_message_bytes(self) -> int:
        """Largest body that `publish` may hand on."""
        return self._publisher.max_message_bytes

    def health(self) -> Sequence[RoleHealth]:
        """Return what is known about publishing and, once asked for, consuming; the broker is not asked."""
        publish = health_of(self._publish_link)
        return [publish, health_of(self._consume_link, self._consumers)] if self._is_consuming else [publish]

    async def publish(self, messages: Sequence[Message]) -> Sequence[PublishOutcome]:
        """Publish messages, many in flight at once; see the port.

        A task queue comes into being when somebody first consumes from it or publishes to it. A publisher that may not
        declare it gets its messages back until a consumer has.
        """
        return await self._publisher.publish(messages, self._publish_link)

    def consume(self, queues: Sequence[str], *, prefetch: int) -> AbstractAsyncContextManager[AmqpConsumer]:
        """Subscribe to task queues, declaring what is missing; entering returns once subscribed.

        Entering raises `BrokerUnavailableError`, `BrokerAccessRefusedError` or `TopologyClashError`.
        """
        if not queues or prefetch < 1:
            raise ValueError("consume needs at least one task queue and a prefetch of at least 1")
        for queue in queues:
            self._names.work_queue(queue)
        return self._consuming(queues, prefetch)

    async def depth(self, queue: str) -> int:
        """Return how many messages wait in a task queue; 0 where there is none of that name.

        Raises:
            BrokerError: The broker cannot be asked now.
        """
        link = self._consume_link if self._consume_link.current is not None else self._publish_link
        session = await link.session(within=self._settings.rpc_deadline)
        found = await count_messages(session, self._names.work_queue(queue))
        return 0 if found is None else found[0]

    @asynccontextmanager
    async def _consuming(self, queues: Sequence[str], prefetch: int) -> AsyncGenerator[AmqpConsumer, None]:
        self._is_consuming = True
        self._consume_link.open()
        consumer = AmqpConsumer(
            self._consume_link, self._names, self._settings, queues, prefetch=prefetch, subscribed=self._subscribed
        )
        self._consumers.add(consumer)
        try:
            await consumer.open()
            yield consumer
        finally:
            self._consumers.discard(consumer)
            await consumer.aclose()


def connection_name(namespace: str) -> str:
    """Return what the broker's management pages call this process: namespace, host and process id."""
    return f"{namespace} {socket.gethostname()} {os.getpid()}"
