"""The lease of the maintenance leader. It only saves work: whatever a leader does is safe when two do it."""

from __future__ import annotations

import asyncio

from floxide_amqp.core.ids import WorkerId
from floxide_amqp.runtime.deaths import DeathWatch, Verdict
from floxide_amqp.runtime.services import Services


class Lease:
    """Who leads maintenance, as one candidate sees it."""

    def __init__(self, services: Services, deaths: DeathWatch) -> None:
        self._services = services
        self._deaths = deaths
        self._seen: tuple[int, float] = (-1, 0.0)

    async def take(self) -> bool:
        """Take or renew the lease; nobody's, the own one, a dead leader's, or one that has stood still too long."""
        services, now = self._services, asyncio.get_running_loop().time()
        holder, version = await services.liveness.lease_holder()
        if holder and holder != services.name:
            if self._seen[0] != version:
                self._seen = (version, now)
            stood_still = now - self._seen[1] >= services.timeouts.dead_after
            if not stood_still and await self._deaths.verdict(WorkerId(holder)) is Verdict.ALIVE:
                return False
        return await services.liveness.take_lease(services.name, version)
