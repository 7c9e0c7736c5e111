"""How many runs of a source are not over: counted from a list in the store, which is tidied when it is full.

The list says no less than there is, but for what a process that died was just about to write: it keeps a source from
running ahead of the workers, and nothing depends on it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.exceptions import CodecError
from floxide_amqp.ports.key_value import Read
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores import keys
from floxide_amqp.stores.record_codec import decode_state

LOOKED_AT: Final = 50
"""Runs of a full list that are looked at, whether they are over, at a time."""

FIRST_PAUSE_SECONDS: Final = 0.25
"""Pause after a look at a full list that found none; doubles."""

LONGEST_PAUSE_SECONDS: Final = 8.0

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
        self._pause = 0.0
        self._looked_at = ""

    @property
    def is_limited(self) -> bool:
        """Whether anything is counted at all."""
        return self._limit is not None

    async def room(self) -> int | None:
        """Return how many more may be started now; None for any number."""
        if self._limit is None:
            return None
        now = asyncio.get_running_loop().time()
        is_full = self._count >= self._limit
        if self._counted_at is None or now - self._counted_at >= (self._pause if is_full else COUNT_SECONDS):
            self._count = await self.listed(self._limit)
            if self._count >= self._limit:
                over = await self._tidy_some()
                self._count -= over
                self._pause = 0.0 if over else min(max(FIRST_PAUSE_SECONDS, 2 * self._pause), LONGEST_PAUSE_SECONDS)
            else:
                self._pause = 0.0
            self._counted_at = now
        return max(0, self._limit - self._count)

    def started(self, number: int) -> None:
        """Note that this process has started so many."""
        self._count += number

    async def tidy(self) -> int:
        """Take runs that are over off the list; return how many."""
        store, after, tidied = self._services.whole.source_store, "", 0
        while page := await store.open_runs(self._name, after=after, limit=PAGE):
            tidied += await self._forget_over(page)
            after = page[-1]
        return tidied

    async def listed(self, most: int = MOST_LISTED) -> int:
        """Return how many runs are listed, counted up to a number."""
        store, after, count = self._services.whole.source_store, "", 0
        while count < most and (page := await store.open_runs(self._name, after=after, limit=PAGE)):
            count += len(page)
            after = page[-1]
        return count

    async def _tidy_some(self) -> int:
        """Take runs that are over off the next part of the list, and behind it while most are; return how many.

        The state of each run costs a read, and a source may be full for days.
        """
        store, tidied = self._services.whole.source_store, 0
        while True:
            page = await store.open_runs(self._name, after=self._looked_at, limit=LOOKED_AT)
            over = await self._forget_over(page)
            tidied += over
            began, self._looked_at = self._looked_at, page[-1] if len(page) == LOOKED_AT else ""
            if (page or not began) and (2 * over < len(page) or not self._looked_at):
                return tidied

    async def _forget_over(self, page: list[RunId]) -> int:
        over = await over_of(self._services, page)
        if over:
            await self._services.whole.source_store.forget_runs(self._name, over)
        return len(over)


async def over_of(services: Services, run_ids: list[RunId]) -> list[RunId]:
    """Return those of some runs that are over, or not there."""
    session = services.whole.session
    reads = [session.read(Read(slot=slot_of(run_id), cells=(keys.state(run_id),))) for run_id in run_ids]
    found = await asyncio.gather(*reads)
    states = [(run_id, snapshot.cells[0]) for run_id, snapshot in zip(run_ids, found, strict=True)]
    return [run_id for run_id, cell in states if not cell.version or _is_over(cell.value)]


def _is_over(state: bytes) -> bool:
    try:
        return decode_state(state).status.is_terminal
    except CodecError:  # what nobody can read keeps nobody from what can be read
        return False
