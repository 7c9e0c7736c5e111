"""A queue of somebody else's, fed by hand, and a cluster whose workers read it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

from floxide_amqp.core.sources import SourceMessage
from floxide_amqp.runtime.amqp_source import AmqpSource
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.sources import SourceInfo
from tests.unit.runtime.cluster import Cluster


class HandFedQueue:
    """Keeps what is not acknowledged; what a reader leaves in hand comes again, to whomever."""

    def __init__(self) -> None:
        self.waiting: deque[SourceMessage] = deque()
        self.acknowledged: list[SourceMessage] = []
        self.rejected: list[SourceMessage] = []
        self.returned = 0
        self.problem = ""
        self.readers: list[HandReader] = []

    def put(self, *messages: SourceMessage) -> None:
        self.waiting.extend(messages)
        self.serve()

    @property
    def is_empty(self) -> bool:
        return not self.waiting and not any(reader.in_hand for reader in self.readers)

    def read(self, *, prefetch: int) -> AbstractAsyncContextManager[HandReader]:
        return self._read(prefetch)

    def lose_connections(self) -> None:
        """Every reader loses its channel: what it has in hand comes again, and settling it does nothing."""
        for reader in self.readers:
            reader.give_back()
        self.serve()

    def serve(self) -> None:
        for reader in self.readers:
            while self.waiting and len(reader.in_hand) < reader.prefetch:
                reader.deliver(self.waiting.popleft())

    @asynccontextmanager
    async def _read(self, prefetch: int) -> AsyncGenerator[HandReader]:
        reader = HandReader(self, prefetch)
        self.readers.append(reader)
        self.serve()
        try:
            yield reader
        finally:
            self.readers.remove(reader)
            reader.give_back()
            self.serve()


class HandReader:
    def __init__(self, queue: HandFedQueue, prefetch: int) -> None:
        self.queue = queue
        self.prefetch = prefetch
        self.in_hand: list[HandDelivery] = []
        self.arrived: deque[HandDelivery] = deque()
        self._event = asyncio.Event()

    @property
    def problem(self) -> str:
        return self.queue.problem

    @property
    def oldest_at(self) -> float | None:
        return self.arrived[0].arrived_at if self.arrived else None

    def deliver(self, message: SourceMessage) -> None:
        delivery = HandDelivery(self, message)
        self.in_hand.append(delivery)
        self.arrived.append(delivery)
        self._event.set()

    async def receive(self, limit: int) -> Sequence[HandDelivery]:
        while not self.arrived:
            self._event.clear()
            await self._event.wait()
        return [self.arrived.popleft() for _ in range(min(limit, len(self.arrived)))]

    def give_back(self) -> None:
        self.arrived.clear()
        self.queue.returned += len(self.in_hand)
        self.queue.waiting.extendleft(replace(each.message, redelivered=True) for each in reversed(self.in_hand))
        self.in_hand.clear()


class HandDelivery:
    def __init__(self, reader: HandReader, message: SourceMessage) -> None:
        self.message = message
        self.arrived_at = asyncio.get_running_loop().time()
        self._reader = reader

    async def acknowledge(self) -> None:
        self._settle(self._reader.queue.acknowledged)

    async def reject(self) -> None:
        self._settle(self._reader.queue.rejected)

    def _settle(self, where: list[SourceMessage]) -> None:
        if self in self._reader.in_hand:
            self._reader.in_hand.remove(self)
            where.append(self.message)
            self._reader.queue.serve()


class SourceCluster(Cluster):
    """A cluster whose workers have a source.

    Attributes:
        source: The source.
        upstream: Its queue.
    """

    def __init__(self, source: AmqpSource[Any], **options: Any) -> None:
        super().__init__(source.workflow, **options)
        self.source = source
        self.upstream = HandFedQueue()

    def _services(self, *arguments: Any) -> tuple[Services, Any, Any]:
        services, store, queue = super()._services(*arguments)
        services.sources = (self.source,)
        services.message_sources = {self.source.name: self.upstream}
        return services, store, queue

    async def info(self) -> SourceInfo:
        return await self.client().sources.get(self.source.name)

    async def taken(self, count: int) -> None:
        """Wait until so many messages are off their queue."""
        while len(self.upstream.acknowledged) + len(self.upstream.rejected) < count:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.1)

    async def runs(self) -> list[str]:
        return await run_ids(self.client())


async def run_ids(client: Orchestrator) -> list[str]:
    """The ids of all runs, in order."""
    return sorted(run.run_id for run in (await client.list_runs(limit=1_000)).runs)
