"""What lies in the indexes of one run alone, its live items and what arrived at joins, taken out page by page."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Final

from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.ports.key_value import Entry, IndexRange, Leave, Read, RecordInfo
from floxide_amqp.stores import keys
from floxide_amqp.stores.exporting import list_run
from floxide_amqp.stores.session import Session

PAGE: Final = 500
"""Entries that one commit takes out."""

OF_MANY: Final = 10
"""Entries read at a time of each of several indexes, of which most have few."""


async def own_entries(session: Session, run_id: RunId) -> AsyncGenerator[tuple[Leave, ...]]:
    """Go through what takes a run's entries out of its own indexes; each page is to be committed before the next.

    Which joins there are is told by the names of the run's records, so those are removed afterwards.
    """
    async for leaves in _emptying(session, run_id, _of_every_run(run_id)):
        yield leaves
    async for page in list_run(session, run_id):
        openers = {opener for record in page if (opener := _opener(record))}
        async for leaves in _emptying(session, run_id, [keys.arrivals(run_id, opener) for opener in sorted(openers)]):
            yield leaves


async def _emptying(session: Session, run_id: RunId, names: Sequence[str]) -> AsyncGenerator[tuple[Leave, ...]]:
    left: Sequence[str] = names
    while left:
        ranges = tuple([IndexRange(name, limit=PAGE if len(left) == 1 else OF_MANY) for name in left])
        found = (await session.read(Read(slot=slot_of(run_id), indexes=ranges))).indexes
        pages: list[tuple[str, tuple[Entry, ...]]] = list(zip(left, found, strict=True))
        leaves = [Leave(name, entry.entry) for name, entries in pages for entry in entries]
        for start in range(0, len(leaves), PAGE):
            yield tuple(leaves[start : start + PAGE])
        left = [name for name, entries in pages if entries]


def _of_every_run(run_id: RunId) -> list[str]:
    return [keys.live_items(run_id), *(keys.arrivals(run_id, opener) for opener in keys.ALWAYS)]


def _opener(record: RecordInfo) -> str:
    """Return the item under whose id something may have arrived at a join, if this record tells one."""
    name = record.key.name
    if name.startswith(keys.SCOPE_PREFIX):
        return keys.opener_of(record.key)
    return name.removeprefix(keys.ITEM_PREFIX) if name.startswith(keys.ITEM_PREFIX) else ""
