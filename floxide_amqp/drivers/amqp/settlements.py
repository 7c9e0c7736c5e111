"""Acknowledgements, written by a task of the channel: handing one over never waits, so no cancelled caller loses it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from floxide_amqp.drivers.amqp.session import quietly
from floxide_amqp.logs import get_logger

_logger = get_logger(__name__)


class Settlements:
    """The settlements of one generation of a channel.

    Args:
        write: Writes one: of the delivery with this tag, and whether it is given up, rather than acknowledged.
        is_alive: Whether what was delivered on the channel can still be settled.
        generation: Of its connection, for the log.
    """

    def __init__(
        self, write: Callable[[int, bool], Awaitable[object]], is_alive: Callable[[], bool], *, generation: int
    ) -> None:
        self._write = write
        self._is_alive = is_alive
        self._generation = generation
        self._unwritten: deque[tuple[int, bool]] = deque()
        self._to_write = asyncio.Event()
        self._closing = False
        self._writer = asyncio.create_task(self._write_all(), name="floxide-settlements")

    def add(self, tag: int, gives_up: bool) -> None:
        """Have a delivery settled; the broker closes the channel on a tag that is settled twice."""
        self._unwritten.append((tag, gives_up))
        self._to_write.set()

    def look(self) -> None:
        """Have the task end if the channel is no longer alive."""
        self._to_write.set()

    async def close(self, *, within: float) -> None:
        """Write those that wait, which may take so many seconds, and no more."""
        self._closing = True
        self._to_write.set()
        await asyncio.wait({self._writer}, timeout=within)
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)

    async def _write_all(self) -> None:
        while self._is_alive():
            while self._unwritten:
                if await quietly(self._write(*self._unwritten.popleft())) is not None:
                    _logger.debug("broker.settlement_forgotten", generation=self._generation)
                    return
            if self._closing:
                return
            self._to_write.clear()
            await self._to_write.wait()
