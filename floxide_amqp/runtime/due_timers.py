"""The leader's timers: fires what is due, whoever set it, and sets aside what cannot be fired.

A round costs what is due, not what waits: it reads from the earliest entry on. A timer that cannot be fired is moved
out of the way of those behind it, is tried again with growing pauses, and is never lost.
"""

from __future__ import annotations

from floxide_amqp.exceptions import FloxideError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import side_by_side
from floxide_amqp.runtime.timers import fire
from floxide_amqp.stores.indexes import DueTimer
from floxide_amqp.stores.session import WAITED_FOR

_log = get_logger("floxide_amqp.timers")

PAGE = 500
"""Timers read at a time."""

PAGES_PER_ROUND = 10
"""Pages that one round fires at most: the lease must be renewed, and a storm of retries must not flood the broker."""

FIRST_PAUSE_MS = 1_000
"""Before a timer that could not be fired is tried again; doubles each time."""

LONGEST_PAUSE_MS = 3600 * 1000
"""Longest pause between two tries: an hour."""


LEAST_PAUSE_SECONDS = 1.0
"""Rounds do not follow each other faster than that for the sake of a timer, however many there are."""


class DueTimers:
    """Fires due timers."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def fire(self) -> None:
        """Fire what is due, earliest first, a bounded number per round."""
        indexes, now = self._services.indexes, self._services.now_ms()
        after = ""
        for _ in range(PAGES_PER_ROUND):
            page = await indexes.due_timers(now, after=after, limit=PAGE)
            await side_by_side(self._fire, page)
            if len(page) < PAGE:
                break
            after = page[-1].entry
        await side_by_side(self._fire, await indexes.timers_set_aside(until_ms=now, limit=PAGE))

    async def pause_seconds(self) -> float:
        """Return how long to wait for the next round: as long as the settings say, but not past the next timer."""
        longest = self._services.timeouts.maintenance
        if longest <= LEAST_PAUSE_SECONDS:
            return longest
        now = self._services.now_ms()
        due_ms = await self._services.indexes.next_due_ms(now)
        return longest if due_ms is None else min(longest, max(LEAST_PAUSE_SECONDS, (due_ms - now) / 1000))

    async def _fire(self, due: DueTimer) -> None:
        try:
            timer = due.timer()
            with self._services.own_timers.firing(timer) as may_fire:
                is_settled = may_fire and await fire(self._services, timer)
        except WAITED_FOR:
            raise
        except Exception as error:  # noqa: BLE001 - the supervisor of one timer: it is tried again
            await self._set_aside(due, error)
            return
        if is_settled and due.aside:
            await self._services.indexes.forget_set_aside(due)

    async def _set_aside(self, due: DueTimer, error: Exception) -> None:
        pause_ms = min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS << min(due.failures, 32))
        reason = f"{type(error).__name__}: {error}"
        await self._services.indexes.set_aside(due, self._services.now_ms() + pause_ms, reason)
        self._services.figures.timers_set_aside += 1
        _log.warning(
            "timer.set_aside", timer=due.entry, failures=due.failures + 1, retry_in_seconds=pause_ms // 1000,
            error=reason, exc_info=not isinstance(error, FloxideError),
        )  # fmt: skip
