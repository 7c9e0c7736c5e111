"""Up to where each task queue is known to have delivered: what the latest probe that came back said.

A probe comes back to whichever worker serves its queue, and the leader that sent it learns it here.
"""

from __future__ import annotations

from floxide_amqp.core.ids import SYSTEM_SLOT
from floxide_amqp.ports.key_value import Batch, Check, Conflict, Put, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores.session import Session


class ProbeStore:
    """Reads and writes up to where task queues have delivered."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def returned(self, queue: str) -> str:
        """Return the position of the latest probe of a task queue that came back; empty where none did."""
        return (await self._read(queue))[0]

    async def note_return(self, queue: str, before: str) -> None:
        """Note that a probe came back; one older than another that did changes nothing."""
        while True:
            known, version = await self._read(queue)
            if known >= before:
                return
            key = keys.returned_probe(queue)
            batch = Batch(slot=SYSTEM_SLOT, checks=(Check(key, version),), writes=(Put(key, before.encode()),))
            if not isinstance(await self._session.commit(batch), Conflict):
                return

    async def _read(self, queue: str) -> tuple[str, int]:
        cell = (await self._session.read(Read(slot=SYSTEM_SLOT, cells=(keys.returned_probe(queue),)))).cells[0]
        return cell.value.decode(), cell.version
