"""How much may be on its way to the broker at once, and whose turn it is when there is room again.

A place is given to whoever has waited longest, and nobody is woken for whom there is none: of thousands that wait, each
confirmation would otherwise wake all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple


class _Waiting(NamedTuple):
    size: int
    asked_at: float
    place: asyncio.Future[bool]


class PublishWindow:
    """Places for messages that are published and not yet confirmed.

    Args:
        most: Messages at a time.
        most_bytes: Bytes of their bodies; one longer body may go alone.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._count = 0
        self._bytes = 0
        self._waiting: deque[_Waiting] = deque()

    def take(self, count: int, size: int) -> bool:
        """Take places for so many messages with so many bytes, all or none; none while somebody waits for one."""
        if self._waiting or not self._fits(count, size):
            return False
        self._count += count
        self._bytes += size
        return True

    async def wait(self, size: int, asked_at: float) -> bool:
        """Take a place for one message once it is there; return False where `give_up` came before that.

        Args:
            size: Bytes of its body.
            asked_at: Since when it waits, for `give_up`.
        """
        if self.take(1, size):
            return True
        place: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(size, asked_at, place))
        try:
            return await place
        except asyncio.CancelledError:
            if not place.cancelled() and place.result():
                self.leave(size)
            self._admit()
            raise

    def leave(self, size: int) -> None:
        """Give the place of one message back."""
        self._count -= 1
        self._bytes -= size
        self._admit()

    def give_up(self, *, asked_before: float) -> None:
        """Let those go without a place who asked before an instant."""
        for waiting in self._waiting:
            if not waiting.place.done() and waiting.asked_at < asked_before:
                waiting.place.set_result(False)
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            size, _, place = self._waiting[0]
            if not place.done():
                if not self._fits(1, size):
                    return
                self._count += 1
                self._bytes += size
                place.set_result(True)
            self._waiting.popleft()

    def _fits(self, count: int, size: int) -> bool:
        if not self._count and count == 1:
            return True
        return self._count + count <= self._most and self._bytes + size <= self._most_bytes
