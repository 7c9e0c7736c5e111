"""Deleting runs: those whose time is over, by the leader; and those somebody asks to be deleted."""

from __future__ import annotations

import functools

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import InvalidRunStateError, RunDeletedError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import work_off
from floxide_amqp.stores.removal import EndedRun
from floxide_amqp.stores.runs import StoredRun

_log = get_logger("floxide_amqp.maintenance")

RUNS_PER_ROUND = 100
"""Runs condemned and runs cleared per round at most, so that a round stays short."""

PAGES_PER_ROUND = 20
"""Pages of one run cleared per round at most; a larger run is gone after several."""

AT_ONCE = 10
"""Runs that are cleared side by side: a page is a large commit, and steps go first."""

STATUSES = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)


class Pruning:
    """The leader's part in retention. Two leaders do no harm: every commit checks what it stands on."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def prune(self) -> None:
        """Condemn runs whose time is over, go on clearing those condemned, and forget tombstones in time."""
        removal, now = self._services.removal, self._services.now_ms()
        for status in STATUSES:
            kept_ms = self._services.retention.keeps_ms(status)
            if kept_ms is not None:
                ended = await removal.ended(status, until_ms=now - kept_ms, limit=RUNS_PER_ROUND)
                await work_off(self._condemn, ended)
        clear = functools.partial(clear_some, self._services, pages=PAGES_PER_ROUND)
        await work_off(clear, await removal.condemned(limit=RUNS_PER_ROUND), at_once=AT_ONCE)
        await work_off(self._forget, await removal.expired(until_ms=now))

    async def _condemn(self, ended: EndedRun) -> None:
        services = self._services
        run = await services.runs.find(ended.run_id)
        is_it = run is not None and run.state.status is ended.status and run.state.finished_at_ms == ended.ended_at_ms
        if run is None or not is_it:
            await services.removal.forget_entry(ended)
        elif await services.removal.condemn(run, services.now_ms()):
            _note_deletion(services, run)

    async def _forget(self, expired: tuple[int, RunId]) -> None:
        free_at_ms, run_id = expired
        tombstone, version = await self._services.runs.tombstone(run_id)
        if tombstone is None or tombstone.is_cleared:
            await self._services.removal.forget(run_id, free_at_ms, version)


async def clear_some(services: Services, run_id: RunId, *, pages: int) -> bool:
    """Clear some pages of a condemned run; return whether nothing of it is left but its tombstone."""
    for _ in range(pages):
        tombstone, version = await services.runs.tombstone(run_id)
        if tombstone is None or tombstone.is_cleared:
            return True
        free_at_ms = tombstone.deleted_at_ms + services.retention.tombstone_ms
        if await services.removal.clear(tombstone, version, free_at_ms=free_at_ms):
            return True
    return False


async def delete_run(services: Services, run_id: RunId) -> None:
    """Delete a run that has ended; return when nothing of it is left but its tombstone.

    Raises:
        RunNotFoundError: There is no such run; one that was deleted before is not an error.
        InvalidRunStateError: It has not ended.
    """
    while True:
        try:
            run = await services.runs.load(run_id)
        except RunDeletedError:
            break
        if not run.state.status.is_terminal:
            raise InvalidRunStateError(run_id=run_id, action="delete", status=run.state.status.value)
        if await services.removal.condemn(run, services.now_ms()):
            _note_deletion(services, run)
            break
    while not await clear_some(services, run_id, pages=PAGES_PER_ROUND):
        pass


def _note_deletion(services: Services, run: StoredRun) -> None:
    services.figures.runs_deleted += 1
    services.cache.forget(run.header.run_id)
    _log.info("run.deleted", run_id=run.header.run_id, status=run.state.status.value)
