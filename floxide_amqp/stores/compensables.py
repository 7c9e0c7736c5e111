"""The steps that a run undoes if it fails or is cancelled: those that have begun, and the log of those that ended."""

from __future__ import annotations

from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.records import Compensable
from floxide_amqp.ports.key_value import IndexRange, Key, LogRange, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.session import Session


class CompensableStore:
    """Reads steps that are to be undone; their outputs stay sealed."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def begun(self, run_id: RunId, *, after: str = "", limit: int = 100) -> list[Compensable]:
        """Return steps whose bodies may have run and that have not ended, in the order of their items' ids.

        Raises:
            UnreadableRecordError: One of them cannot be read.
        """
        name = keys.begun(run_id)
        wanted = IndexRange(name, after=after, limit=limit)
        found = (await self._session.read(Read(slot=slot_of(run_id), indexes=(wanted,)))).indexes[0]
        return [read_record(codec.decode_compensable, each.value, Key(name, each.entry)) for each in found]

    async def ended(self, run_id: RunId, *, start: int, limit: int) -> tuple[int, list[Compensable]]:
        """Return steps that ended, in the order they did, from position `start` on, and the position of the first.

        Raises:
            UnreadableRecordError: One of them cannot be read.
        """
        log = keys.compensables(run_id)
        page = (await self._session.read(Read(slot=slot_of(run_id), logs=(LogRange(log, start, limit),)))).logs[0]
        return page.first, [
            read_record(codec.decode_compensable, data, log, f"position {position}")
            for position, data in enumerate(page.entries, page.first)
        ]

    async def length(self, run_id: RunId) -> int:
        """Return how many steps have ended."""
        wanted = LogRange(keys.compensables(run_id), 0, 0)
        return (await self._session.read(Read(slot=slot_of(run_id), logs=(wanted,)))).logs[0].length
