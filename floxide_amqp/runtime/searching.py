"""Finding the runs that a filter means, newest first, in pages that cost the same however many runs there are.

The store's lists name candidates, each of which is read: what is true of a run is in its records.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from floxide_amqp.core.attributes import Attributes
from floxide_amqp.core.ids import RunId
from floxide_amqp.exceptions import UnreadableRecordError
from floxide_amqp.runtime.run_filter import RunFilter
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores import run_list_keys
from floxide_amqp.stores.run_lists import newest_in
from floxide_amqp.stores.runs import StoredRun

MOST_LOOKED_AT = 1_000
"""Runs that are read in vain for one page at most; then the page ends, and the next one goes on behind them."""

MOST_ROUNDS = 50
"""How often the lists are read for one page at most."""

LEAST_READ = 200
"""Entries read of each of several lists at a time at least: reading them costs little beside reading a run."""

PAGE = 200
"""Runs on a page where all are gone through."""


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run that a filter means, as it was when it was read."""

    run: StoredRun
    attributes: Attributes


@dataclass(slots=True)
class FoundRuns:
    """A page of runs, newest first.

    Attributes:
        runs: Those that are meant; they may be fewer than asked for although there are more.
        unreadable: Runs of which it cannot be told, and why.
        next_cursor: Where the next page begins; empty on the last.
    """

    runs: list[FoundRun] = field(default_factory=list[FoundRun])
    unreadable: list[tuple[RunId, str]] = field(default_factory=list[tuple[RunId, str]])
    next_cursor: str = ""


async def find_runs(services: Services, where: RunFilter, *, limit: int, cursor: str = "") -> FoundRuns:
    """Return a page of the runs that a filter means.

    Args:
        services: The process's parts.
        where: Which ones.
        limit: How many at most; at least 1.
        cursor: `FoundRuns.next_cursor` of the page before; empty for the first.
    """
    found, looked_at = FoundRuns(), 0
    lists, (first, before) = where.lists, where.between
    reached = max(cursor, first)
    for _ in range(MOST_ROUNDS):
        read = limit if len(lists) == 1 else max(limit, LEAST_READ)
        candidates = await newest_in(services.session, lists, after=reached, before=before, limit=read)
        entries = candidates.entries
        while entries:
            some = entries[: limit - len(found.runs)]
            entries = entries[len(some) :]
            await _look_at(services, where, some, found)
            looked_at += len(some)
            if len(found.runs) >= limit or looked_at >= limit + MOST_LOOKED_AT:
                found.next_cursor = some[-1]
                return found
        if candidates.passed is None:
            return found
        reached = candidates.passed
    found.next_cursor = reached
    return found


async def all_runs(services: Services, where: RunFilter, *, page: int = PAGE) -> AsyncGenerator[FoundRun]:
    """Go through all runs that a filter means, newest first; those started meanwhile may be left out.

    A run whose status changes while others are gone through, as by what is done to it, is met once at most.
    """
    cursor = ""
    while True:
        found = await find_runs(services, where, limit=page, cursor=cursor)
        for each in found.runs:
            yield each
        cursor = found.next_cursor
        if not cursor:
            return


async def _look_at(services: Services, where: RunFilter, entries: Sequence[str], found: FoundRuns) -> None:
    """Read the runs of some entries, in one round trip, and keep those that are meant."""
    run_ids = [run_list_keys.run_of(entry) for entry in entries]
    results = await asyncio.gather(*(_find(services, run_id) for run_id in run_ids))
    for run_id, result in zip(run_ids, results, strict=True):
        if isinstance(result, str):
            found.unreadable.append((run_id, result))
        elif result is not None and where.fits(result.run, result.attributes):
            found.runs.append(result)


async def _find(services: Services, run_id: RunId) -> FoundRun | str | None:
    """Return a run, why it cannot be read, or None where it is gone."""
    try:
        found = await services.runs.find_with_attributes(run_id)
    except UnreadableRecordError as error:
        return error.problem
    return None if found is None else FoundRun(found[0], found[1].values)
