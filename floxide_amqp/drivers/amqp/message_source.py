"""Reading a queue of somebody else's, on a connection of its own.

What goes wrong with that queue, or on that broker, costs nobody else a connection. A queue that is not there is waited
for; one that is deleted meanwhile is too, and read again when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from floxide_amqp.drivers.amqp.connection import Link
from floxide_amqp.drivers.amqp.keeper import Keeper
from floxide_amqp.drivers.amqp.session import Session
from floxide_amqp.drivers.amqp.settings import DEFAULT_NAMESPACE, DEFAULT_SETTINGS, AmqpSettings, broker_url
from floxide_amqp.drivers.amqp.source_lane import AmqpSourceDelivery, SourceLane
from floxide_amqp.drivers.amqp.source_topology import SourceTopology
from floxide_amqp.drivers.amqp.work_queue import connection_name
from floxide_amqp.exceptions import BrokerError


class AmqpMessageReader:
    """An open subscription; see `AmqpMessageSource.read`."""

    def __init__(self, link: Link, topology: SourceTopology, settings: AmqpSettings, prefetch: int) -> None:
        """Describe the subscription; nothing happens before `begin`."""
        self.topology = topology
        self.prefetch = prefetch
        self._link = link
        self._lane: SourceLane | None = None
        self._arrived = asyncio.Event()
        self._keeper = Keeper[SourceLane](
            link,
            settings,
            what=f"reader of queue {topology.queue}",
            attach=self._attach,
            on_attached=self._on_attached,
            on_failure=self._on_failure,
        )

    @property
    def problem(self) -> str:
        """Why nothing is delivered now; empty when all is well."""
        health = self._link.health()
        return self._keeper.problem if health.is_ready else health.problem

    @property
    def oldest_at(self) -> float | None:
        """Since when the oldest message has been here that nobody has received; None for none."""
        lane = self._lane
        return lane.buffered[0].arrived_at if lane is not None and lane.buffered else None

    def begin(self) -> None:
        """Subscribe, and again whenever that is lost."""
        self._keeper.begin()

    async def receive(self, limit: int) -> Sequence[AmqpSourceDelivery]:
        """Wait for messages and return those that have arrived, 1 to `limit`; safe to cancel."""
        while not (found := self._take(limit)):
            self._arrived.clear()
            await self._arrived.wait()
        return found

    async def aclose(self) -> None:
        """Close the channel; messages in hand go back."""
        await self._keeper.aclose()

    def arrived(self) -> None:
        """Have whoever waits look."""
        self._arrived.set()

    def _take(self, limit: int) -> list[AmqpSourceDelivery]:
        lane = self._lane
        if lane is None or not lane.is_alive:
            return []
        return [lane.buffered.popleft() for _ in range(min(limit, len(lane.buffered)))]

    async def _attach(self, session: Session) -> SourceLane:
        lane = SourceLane(self, session, await session.open_channel())
        try:
            await lane.mend()
        except BaseException:
            await lane.close()
            raise
        return lane

    def _on_attached(self, lane: SourceLane) -> None:
        self._lane = lane
        self.arrived()

    def _on_failure(self, error: BrokerError) -> None:
        """Nothing: `problem` tells, and it is tried again."""


class AmqpMessageSource:
    """A queue on RabbitMQ that is not the engine's; it connects while somebody reads."""

    def __init__(
        self,
        url: str,
        topology: SourceTopology,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        settings: AmqpSettings = DEFAULT_SETTINGS,
    ) -> None:
        """Describe it; nothing is connected yet.

        Args:
            url: ``amqp://user:password@host:5672/vhost``, or ``amqps://`` for TLS.
            topology: The queue.
            namespace: Of the application, for the connection's name.
            settings: Deadlines, limits and security.

        Raises:
            ConfigurationError: The URL is wrong.
        """
        self._topology = topology
        self._settings = settings
        self._url = broker_url(url, settings)
        self._connection_name = connection_name(namespace)

    def read(self, *, prefetch: int) -> AbstractAsyncContextManager[AmqpMessageReader]:
        """Subscribe; see the port."""
        if prefetch < 1:
            raise ValueError("reading messages needs a prefetch of at least 1")
        return self._read(prefetch)

    @asynccontextmanager
    async def _read(self, prefetch: int) -> AsyncGenerator[AmqpMessageReader, None]:
        link = Link(f"source {self._topology.queue}", self._url, self._settings, name=self._connection_name)
        reader = AmqpMessageReader(link, self._topology, self._settings, prefetch)
        link.open()
        reader.begin()
        try:
            yield reader
        finally:
            await reader.aclose()
            await link.aclose()
