"""How many runs of a source are not over: counted from a list in the store, which is tidied when it is full.

The list says no less than there is, but for what a process that died was just about to write: it keeps a source from
running ahead of the workers, and nothing depends on it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.ports.key_value import Read
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores import keys
from floxide_amqp.stores.record_codec import decode_state

COUNT_SECONDS: Final = 1.0
"""How long a count is good for: other processes start runs as well."""

PAGE: Final = 500
"""Runs listed, or looked at, in one round trip."""

MOST_LISTED: Final = 1_000_000
"""Where counting ends."""


class OpenRuns:
    """Counts the open runs of one source.

    Args:
        services: The process's parts.
        name: The source.
        limit: How many may be open; None for any number.
    """

    def __init__(self, services: Services, name: str, limit: int | None) -> None:
        self._services = services
        self._name = name
        self._limit = limit
        self._count = 0
        self._counted_at: float | None = None

    @property
    def is_limited(self) -> bool:
        """Whether anything is counted at all."""
        return self._limit is not None

    async def room(self) -> int | None:
        """Return how many more may be started now; None for any number."""
        if self._limit is None:
            return None
        now = asyncio.get_running_loop().time()
        if self._counted_at is None or now - self._counted_at >= COUNT_SECONDS or self._count >= self._limit:
            self._count = await self.listed(self._limit)
            if self._count >= self._limit:
                self._count -= await self.tidy()
            self._counted_at = now
        return max(0, self._limit - self._count)

    def started(self, number: int) -> None:
        """Note that this process has started so many."""
        self._count += number

    async def tidy(self) -> int:
        """Take runs that are over off the list; return how many."""
        store, after, tidied = self._services.whole.source_store, "", 0
        while page := await store.open_runs(self._name, after=after, limit=PAGE):
            over = await over_of(self._services, page)
            if over:
                await store.forget_runs(self._name, over)
                tidied += len(over)
            after = page[-1]
        return tidied

    async def listed(self, most: int = MOST_LISTED) -> int:
        """Return how many runs are listed, counted up to a number."""
        store, after, count = self._services.whole.source_store, "", 0
        while count < most and (page := await store.open_runs(self._name, after=after, limit=PAGE)):
            count += len(page)
            after = page[-1]
        return count


async def over_of(services: Services, run_ids: list[RunId]) -> list[RunId]:
    """Return those of some runs that are over, or not there."""
    session = services.whole.session
    reads = [session.read(Read(slot=slot_of(run_id), cells=(keys.state(run_id),))) for run_id in run_ids]
    found = await asyncio.gather(*reads)
    states = [(run_id, snapshot.cells[0]) for run_id, snapshot in zip(run_ids, found, strict=True)]
    return [run_id for run_id, cell in states if not cell.version or decode_state(cell.value).status.is_terminal]
