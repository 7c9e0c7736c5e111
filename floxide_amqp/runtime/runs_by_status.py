"""The runs that have a status, from the lists of the store: page by page, without reading a run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import Final, NamedTuple

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.ports.key_value import IndexRange
from floxide_amqp.stores import run_list_keys
from floxide_amqp.stores.session import Session

PAGE: Final = 5_000
"""Entries of runs read in one round trip."""

OPEN: Final = tuple(status for status in RunStatus if not status.is_terminal and status is not RunStatus.WAITING)
"""Statuses of runs that have not ended, as they are stored."""

MAY_GO_ON: Final = (*OPEN, RunStatus.FAILED)
"""Statuses of runs that go on, or that somebody may resume."""


async def oldest_created_ms(session: Session, statuses: Iterable[RunStatus]) -> int | None:
    """Return when the oldest run that has one of some statuses was started, store time; None where there is none."""
    lists = [IndexRange(run_list_keys.runs_with_status(status), limit=1, reverse=True) for status in statuses]
    found = [run_list_keys.created_at_ms(each.entry) for entries in lists for each in await session.scan(entries)]
    return min(found, default=None)


class ListedRun(NamedTuple):
    """A run as a list has it.

    Attributes:
        status: As stored; it may wait.
        version: Name and version of its workflow; None where the entry does not say it.
        created_at_ms: When it was started, store time.
    """

    run_id: RunId
    status: RunStatus
    version: tuple[str, str] | None
    created_at_ms: int


async def list_by_status(
    session: Session, statuses: Iterable[RunStatus], *, page: int | None = None
) -> AsyncGenerator[ListedRun]:
    """Yield the runs that have one of some statuses; one whose status changes meanwhile may come twice, or not.

    Args:
        session: The store, or a part of it.
        statuses: As they are stored.
        page: How many are read in one round trip, at least 1; `PAGE` if left out.
    """
    limit = page or PAGE
    for status in statuses:
        after = ""
        while True:
            entries = await session.scan(IndexRange(run_list_keys.runs_with_status(status), after=after, limit=limit))
            for each in entries:
                run_id, version = RunId(run_list_keys.run_of(each.entry)), run_list_keys.listed_version(each.value)
                yield ListedRun(run_id, status, version, run_list_keys.created_at_ms(each.entry))
            if len(entries) < limit:
                break
            after = entries[-1].entry
