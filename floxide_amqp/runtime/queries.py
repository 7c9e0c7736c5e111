"""What a client may ask of the store: runs, items and workers, page by page.

What cannot be read is shown as such, beside what can.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.runtime import views
from floxide_amqp.runtime.deaths import is_gone
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.settings import Timeouts
from floxide_amqp.runtime.waits import what_it_waits_for
from floxide_amqp.stores import keys
from floxide_amqp.stores.runs import StoredRun

STALE_BEATS = 3
"""Heartbeats missed after which a worker is shown as stale."""

MAX_PAGE = 1_000
"""Runs, items or errors on one page at most."""


async def list_runs(
    services: Services, *, status: RunStatus | None, workflow: str | None, limit: int, cursor: str
) -> views.RunPage:
    """Return runs, newest first, one page at a time; see `Orchestrator.list_runs`."""
    found: list[views.RunInfo] = []
    unreadable: list[views.UnreadableRun] = []
    limit = max(1, min(limit, MAX_PAGE))
    after = cursor
    while len(found) < limit:
        entries = await services.runs.list_ids(status=status, workflow=workflow, after=after, limit=limit)
        runs = await asyncio.gather(*(_find_or_why(services, keys.run_of(entry)) for entry, _ in entries))
        for (entry, _), run in zip(entries, runs, strict=True):
            after = entry
            if isinstance(run, views.UnreadableRun):
                unreadable.append(run)
                continue
            fits = run is not None and status in (None, run.status) and workflow in (None, run.header.workflow)
            if run is not None and fits:
                found.append(views.run_info(run, await _waits_of(services, run)))
            if len(found) == limit:
                return views.RunPage(runs=found, next_cursor=after, unreadable=unreadable)
        if len(entries) < limit:
            return views.RunPage(runs=found, next_cursor="", unreadable=unreadable)
    return views.RunPage(runs=found, next_cursor=after, unreadable=unreadable)


async def work_items(services: Services, run_id: RunId, *, start: int, limit: int) -> Sequence[views.WorkItemInfo]:
    """Return a run's items from a position on: those that ended, in that order, then the live ones.

    Raises:
        RunNotFoundError: There is no such run.
    """
    ended = await services.items.history(run_id, start=start, limit=limit)
    shown = [views.ended_item(entry) for entry in ended]
    if len(shown) < limit:
        passed = max(0, start - await services.items.history_length(run_id)) if start else 0
        shown += await pending_work(services, run_id, start=passed, limit=limit - len(shown))
    return shown


async def pending_work(services: Services, run_id: RunId, *, start: int, limit: int) -> Sequence[views.WorkItemInfo]:
    """Return a run's items that have not ended, from a position on.

    Raises:
        RunNotFoundError: There is no such run.
    """
    run = await services.runs.load(run_id)
    entries = (await services.items.live_entries(run_id, limit=start + limit))[start:]
    try:
        found = await services.items.find(run_id, [item_id for item_id, _ in entries])
    except UnreadableRecordError:
        return await asyncio.gather(*(_live_or_why(services, run, *entry) for entry in entries))
    return [views.live_item(each.item, run.state.status) for each in found if each is not None]


async def workers(services: Services) -> Sequence[views.WorkerInfo]:
    """Return every worker with how fresh its heartbeat is."""
    now = services.now_ms()
    return [
        views.worker_info(record, _liveness(services.timeouts, now - record.at_ms, gone=is_gone(record)))
        for record in await services.liveness.all()
    ]


def _liveness(timeouts: Timeouts, silent_ms: int, *, gone: bool) -> views.Liveness:
    if gone or silent_ms >= timeouts.dead_after * 1000:
        return views.Liveness.DEAD
    return views.Liveness.STALE if silent_ms >= STALE_BEATS * timeouts.heartbeat * 1000 else views.Liveness.ALIVE


async def _waits_of(services: Services, run: StoredRun) -> tuple[views.WaitInfo, ...]:
    return await what_it_waits_for(services, run) if run.status is RunStatus.WAITING else ()


async def _find_or_why(services: Services, run_id: RunId) -> StoredRun | views.UnreadableRun | None:
    try:
        return await services.runs.find(run_id)
    except UnreadableRecordError as error:
        return views.UnreadableRun(run_id=run_id, problem=error.problem)


async def _live_or_why(services: Services, run: StoredRun, item_id: WorkItemId, letters: bytes) -> views.WorkItemInfo:
    try:
        (found,) = await services.items.find(run.header.run_id, (item_id,))
    except UnreadableRecordError as error:
        return views.unreadable_item(item_id, letters, error.problem)
    if found is None:
        return views.unreadable_item(item_id, letters, "It has ended since the list was read.")
    return views.live_item(found.item, run.state.status)
