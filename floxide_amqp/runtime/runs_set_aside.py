"""Runs that retention cannot delete, because a record of theirs is damaged: set aside, and tried again ever less often.

Runs are deleted in the order of their ends, so many in a round. Those that cannot be would stand before all the others
for ever.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from floxide_amqp.core.ids import RunId
from floxide_amqp.exceptions import FloxideError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import work_off
from floxide_amqp.stores.removal import NotedRun
from floxide_amqp.stores.session import WAITED_FOR

_log = get_logger("floxide_amqp.maintenance")

FIRST_PAUSE_MS = 60_000
"""Before deleting a run is tried again; doubles each time."""

LONGEST_PAUSE_MS = 3600 * 1000
"""Longest pause between two tries: an hour."""

AT_ONCE = 100
"""Runs that are brought back in one round."""

MOST_COUNTED = 10_000
"""Runs whose failures are counted; the oldest are forgotten, and tried again sooner."""


class RunsSetAside:
    """Sets runs aside that cannot be deleted.

    Args:
        services: The process's parts.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._failures: OrderedDict[RunId, int] = OrderedDict()

    @asynccontextmanager
    async def unless_damaged(self, noted: NotedRun) -> AsyncGenerator[None]:
        """Do a part of a run's deletion inside the block; on an error the run is set aside, and the error logged.

        Raises:
            StoreUnavailableError: The store is out of reach; StoreFullError: it has no space.
        """
        try:
            yield
        except WAITED_FOR:
            raise
        except Exception as error:  # noqa: BLE001 - the supervisor of one run: it keeps no other from its turn
            await self._set_aside(noted, error)
        else:
            self._failures.pop(noted.run_id, None)

    async def bring_back(self) -> None:
        """Let those be tried again whose time has come."""
        removal = self._services.removal
        await work_off(removal.bring_back, await removal.aside(until_ms=self._services.now_ms(), limit=AT_ONCE))

    async def _set_aside(self, noted: NotedRun, error: Exception) -> None:
        failures = self._failures.pop(noted.run_id, 0)
        self._failures[noted.run_id] = failures + 1
        if len(self._failures) > MOST_COUNTED:
            self._failures.popitem(last=False)
        pause_ms = min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS << min(failures, 32))
        await self._services.removal.set_aside(noted, self._services.now_ms() + pause_ms)
        _log.error(
            "run.deletion_failed", run_id=noted.run_id, failures=failures + 1, retry_in_seconds=pause_ms // 1000,
            error=f"{type(error).__name__}: {error}", exc_info=not isinstance(error, FloxideError),
        )  # fmt: skip
