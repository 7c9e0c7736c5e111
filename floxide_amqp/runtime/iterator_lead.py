"""Who has a source's iterator: one process at a time, by a record that it renews and that says how far it is.

The record only saves work, as that of the maintenance leader does: two that believe they lead start the same runs,
which is one of each, and only one of them gets its position written.
"""

from __future__ import annotations

import asyncio
from typing import Final

from floxide_amqp.runtime.services import Services

RENEWALS: Final = 4
"""So many times within the time after which a silent process counts as gone is the record renewed."""


class IteratorLead:
    """One process's claim to a source's iterator.

    Args:
        services: The process's parts.
        name: The source.

    Attributes:
        position: How far the source is, encoded; empty for not at all.
    """

    def __init__(self, services: Services, name: str) -> None:
        self._services = services
        self._name = name
        self._version = 0
        self._seen = (-1, 0.0)
        self._writing = asyncio.Lock()
        self.position = b""

    async def take(self) -> bool:
        """Take the lead: nobody's, the own one, or that of somebody who was silent for too long."""
        services, now = self._services, asyncio.get_running_loop().time()
        self.position, holder, self._version = await services.source_store.position(self._name)
        if holder and holder != services.name:
            if self._seen[0] != self._version:
                self._seen = (self._version, now)
            if now - self._seen[1] < services.timeouts.dead_after:
                return False
        return await self._write(services.name)

    async def advance(self, position: bytes) -> bool:
        """Record how far the source is; return False where somebody else leads by now."""
        async with self._writing:
            self.position = position
            return await self._write(self._services.name)

    async def renew(self) -> None:
        """Renew the lead until somebody else has it; that ends this."""
        while True:
            await asyncio.sleep(self._services.timeouts.dead_after / RENEWALS)
            async with self._writing:
                if not await self._write(self._services.name):
                    return

    async def give_up(self) -> None:
        """Let somebody else have it at once."""
        async with self._writing:
            await self._write("")

    async def _write(self, holder: str) -> bool:
        store = self._services.source_store
        if not await store.put_position(self._name, self.position, holder, self._version):
            return False
        self._version += 1
        return True
