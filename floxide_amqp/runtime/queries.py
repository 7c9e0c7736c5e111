"""What a client may ask of the store: runs, items and workers, page by page.

What cannot be read is shown as such, beside what can.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.runtime import showing, views
from floxide_amqp.runtime.deaths import is_gone
from floxide_amqp.runtime.run_filter import RunFilter
from floxide_amqp.runtime.searching import find_runs
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.settings import Timeouts
from floxide_amqp.runtime.side_by_side import side_by_side
from floxide_amqp.runtime.waits import what_it_waits_for
from floxide_amqp.stores.runs import StoredRun

STALE_BEATS = 3
"""Heartbeats missed after which a worker is shown as stale."""

MAX_PAGE = 1_000
"""Runs, items or errors on one page at most."""


async def list_runs(services: Services, where: RunFilter, *, limit: int, cursor: str) -> views.RunPage:
    """Return runs, newest first, one page at a time; see `Orchestrator.list_runs`."""
    found = await find_runs(services, where, limit=max(1, min(limit, MAX_PAGE)), cursor=cursor)
    waits = await _waits_of(services, [each.run for each in found.runs if each.run.status is RunStatus.WAITING])
    return views.RunPage(
        runs=[
            showing.run_info(each.run, waits.get(each.run.header.run_id, ()), each.attributes) for each in found.runs
        ],
        next_cursor=found.next_cursor,
        unreadable=[views.UnreadableRun(run_id=run_id, problem=problem) for run_id, problem in found.unreadable],
    )


async def run_info(services: Services, run_id: RunId) -> views.RunInfo:
    """Return what is to be said of a run.

    Raises:
        RunNotFoundError: There is no such run.
    """
    run, attributes = await services.runs.load_with_attributes(run_id)
    return showing.run_info(run, await what_it_waits_for(services, run), attributes.values)


async def work_items(services: Services, run_id: RunId, *, start: int, limit: int) -> Sequence[views.WorkItemInfo]:
    """Return a run's items from a position on: those that ended, in that order, then the live ones.

    Raises:
        RunNotFoundError: There is no such run.
    """
    ended = await services.items.history(run_id, start=start, limit=limit)
    shown = [showing.ended_item(entry) for entry in ended]
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
    return [showing.live_item(each.item, run.state.status) for each in found if each is not None]


async def workers(services: Services) -> Sequence[views.WorkerInfo]:
    """Return every worker with how fresh its heartbeat is."""
    now = services.now_ms()
    return [
        showing.worker_info(record, _liveness(services.timeouts, now - record.at_ms, gone=is_gone(record)))
        for record in await services.liveness.all()
    ]


def _liveness(timeouts: Timeouts, silent_ms: int, *, gone: bool) -> views.Liveness:
    if gone or silent_ms >= timeouts.dead_after * 1000:
        return views.Liveness.DEAD
    return views.Liveness.STALE if silent_ms >= STALE_BEATS * timeouts.heartbeat * 1000 else views.Liveness.ALIVE


async def _waits_of(services: Services, runs: Sequence[StoredRun]) -> Mapping[RunId, tuple[views.WaitInfo, ...]]:
    """Return what runs wait for; they are looked at side by side, since each alone would be several round trips."""
    waits: dict[RunId, tuple[views.WaitInfo, ...]] = {}

    async def look(run: StoredRun) -> None:
        waits[run.header.run_id] = await what_it_waits_for(services, run)

    await side_by_side(look, runs)
    return waits


async def _live_or_why(services: Services, run: StoredRun, item_id: WorkItemId, letters: bytes) -> views.WorkItemInfo:
    try:
        (found,) = await services.items.find(run.header.run_id, (item_id,))
    except UnreadableRecordError as error:
        return showing.unreadable_item(item_id, letters, error.problem)
    if found is None:
        return showing.unreadable_item(item_id, letters, "It has ended since the list was read.")
    return showing.live_item(found.item, run.state.status)
