"""One order out of the indexes of many tags, fetched page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from floxide_amqp.ports.key_value import Entry, IndexRange

LEAST_PAGE: Final = 8
"""Entries asked of each tag at first, where twice the share of each would be fewer."""


class Page(NamedTuple):
    """What to ask of one tag: at most `limit` entries of the range, those beyond `beyond` in its direction."""

    tag: int
    limit: int
    beyond: Entry | None


async def merged(
    asked: IndexRange, tags: int, fetch: Callable[[Sequence[Page]], Awaitable[Sequence[Sequence[Entry]]]]
) -> list[Entry]:
    """Return a range of an index over all tags, in order.

    Each tag is asked for somewhat more than its share. Only those are asked again, for more each time, whose last entry
    comes before the last that is needed: they may have more of what belongs in the answer.

    Args:
        asked: The range.
        tags: How many tags there are.
        fetch: Asks some tags for pages, in one round trip.
    """
    if asked.limit <= 0:
        return []
    size = min(asked.limit, max(LEAST_PAGE, 2 * asked.limit // tags))
    pages = [Page(tag, size, None) for tag in range(tags)]
    found: list[Entry] = []
    while pages:
        answers = await fetch(pages)
        ends = {page.tag: entries[-1] for page, entries in zip(pages, answers, strict=True) if len(entries) == size}
        found = sorted(
            [*found, *(entry for entries in answers for entry in entries)], key=_order, reverse=asked.reverse
        )
        del found[asked.limit :]
        size = min(2 * size, asked.limit)
        pages = [
            Page(tag, size, end)
            for tag, end in ends.items()
            if len(found) < asked.limit or _comes_before(end, found[-1], reverse=asked.reverse)
        ]
    return found


def _order(entry: Entry) -> tuple[str, int]:
    return entry.entry, entry.slot


def _comes_before(one: Entry, other: Entry, *, reverse: bool) -> bool:
    return _order(one) > _order(other) if reverse else _order(one) < _order(other)
