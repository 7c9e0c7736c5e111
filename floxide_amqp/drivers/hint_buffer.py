"""Where a subscription keeps the hints its reader has not fetched yet.

Owns the bound: a reader that falls too far behind loses the oldest hints, and is told so by the same empty ``b""``
that marks any other gap. It must never make the sender wait, for hints are worth less than its time.
"""

from __future__ import annotations

import asyncio
from collections import deque

GAP = b""
"""Yielded where messages may have been missed."""

DEFAULT_CAPACITY = 10_000
"""Hints kept for a slow reader: some megabytes at most, and minutes of a busy cluster's control traffic."""


class HintBuffer:
    """An async iterator over what `put` is given; ends after `close`."""

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._hints: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._closed = False

    def put(self, hint: bytes) -> None:
        """Keep a hint for the reader, in place of the oldest ones where there is no room."""
        if self._closed:
            return
        if len(self._hints) >= self._capacity:
            self._hints.clear()
            self._hints.append(GAP)
        self._hints.append(hint)
        self._arrived.set()

    def mark_gap(self) -> None:
        """Tell the reader that messages may have been missed; several gaps in a row are one."""
        if not self._hints or self._hints[-1] != GAP:
            self.put(GAP)

    def close(self) -> None:
        """End the iteration, now and for ever."""
        self._closed = True
        self._hints.clear()
        self._arrived.set()

    def __aiter__(self) -> HintBuffer:
        """Return itself."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next hint; safe to cancel."""
        while not self._hints:
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._hints.popleft()
