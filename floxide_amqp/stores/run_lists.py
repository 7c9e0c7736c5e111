"""Finding runs in several lists at once, newest first, at a cost that follows the lists' pages and not their lengths.

All lists of runs are in one order, so what is in each of several is found by going along the one that gets on fastest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from floxide_amqp.ports.key_value import IndexRange
from floxide_amqp.stores.session import Session

Lists: TypeAlias = tuple[str, ...]
"""Indexes of which a run has to be in one."""


@dataclass(frozen=True, slots=True)
class FoundEntries:
    """Entries of runs that may be in all lists, newest first.

    Attributes:
        entries: What is in none of the lists' pages that reach so far is left out; the rest has to be looked at.
        passed: Everything up to it was seen; None at the end of the lists.
    """

    entries: Sequence[str]
    passed: str | None


async def newest_in(
    session: Session, lists: Sequence[Lists], *, after: str = "", before: str | None = None, limit: int
) -> FoundEntries:
    """Return the next runs that may be in all of some lists.

    Args:
        session: The store.
        lists: At least one.
        after: Only entries behind it.
        before: Only entries before it; None for all.
        limit: Entries read of each list; at least 1.
    """
    pages = await asyncio.gather(*(_page(session, each, after, before, limit) for each in lists))
    if not all(pages):
        return FoundEntries((), None)
    reached = [page[-1] if len(page) >= limit else None for page in pages]
    first = max(page[0] for page in pages)
    if any(end is not None and end < first for end in reached):
        return FoundEntries((), just_before(first))
    fastest = max(range(len(pages)), key=lambda each: (reached[each] is None, pages[each][-1]))
    others = [(frozenset(page), end) for n, (page, end) in enumerate(zip(pages, reached, strict=True)) if n != fastest]
    entries = [
        entry
        for entry in pages[fastest]
        if all(entry in page or (end is not None and entry > end) for page, end in others)
    ]
    return FoundEntries(entries, reached[fastest])


async def _page(session: Session, lists: Lists, after: str, before: str | None, limit: int) -> list[str]:
    """Return the first entries of several lists taken together."""
    ranges = [IndexRange(index, after=after, before=before, limit=limit) for index in lists]
    found = await asyncio.gather(*(session.scan(each) for each in ranges))
    return sorted({entry.entry for entries in found for entry in entries})[:limit]


def just_before(entry: str) -> str:
    """Return a place before an entry such that nothing that is not before the entry lies before it."""
    return entry[:-1] + chr(ord(entry[-1]) - 1)
