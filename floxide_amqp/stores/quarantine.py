"""Messages nobody could read: kept with their reason, never dropped, never looped."""

from __future__ import annotations

from typing import cast

from floxide_amqp.core.ids import SYSTEM_SLOT
from floxide_amqp.core.records import Quarantined
from floxide_amqp.ports.key_value import Batch, Delete, Enter, IndexRange, Key, Leave, Put, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores.encoding import pack, unpack
from floxide_amqp.stores.session import Session

MAX_KEPT_BYTES = 1024 * 1024
"""Bytes kept of one message; what is longer is cut, and its reason says so."""


class QuarantineStore:
    """Keeps, lists and lets go quarantined messages."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def add(self, message: Quarantined) -> None:
        """Keep a message; the same id twice is one entry."""
        body = message.body[:MAX_KEPT_BYTES]
        reason = (
            message.reason
            if len(body) == len(message.body)
            else f"{message.reason} (cut from {len(message.body)} bytes)"
        )
        value = pack([message.queue, reason, body, message.at_ms])
        await self._session.commit(
            Batch(
                slot=SYSTEM_SLOT,
                writes=(Put(_key(message.quarantine_id), value), Enter(keys.QUARANTINE, message.quarantine_id)),
            )
        )

    async def list(self, *, after: str = "", limit: int = 100) -> list[Quarantined]:
        """Return quarantined messages, oldest first, after the id `after`."""
        entries = await self._session.scan(IndexRange(keys.QUARANTINE, after=after, limit=limit))
        if not entries:
            return []
        ids = [entry.entry for entry in entries]
        snapshot = await self._session.read(Read(slot=SYSTEM_SLOT, cells=tuple(_key(name) for name in ids)))
        return [
            _message(quarantine_id, cell.value)
            for quarantine_id, cell in zip(ids, snapshot.cells, strict=True)
            if cell.version
        ]

    async def find(self, quarantine_id: str) -> Quarantined | None:
        """Return a quarantined message, or None where there is none of this id."""
        (cell,) = (await self._session.read(Read(slot=SYSTEM_SLOT, cells=(_key(quarantine_id),)))).cells
        return _message(quarantine_id, cell.value) if cell.version else None

    async def remove(self, quarantine_id: str) -> None:
        """Forget a message; one that is not there is fine."""
        await self._session.commit(
            Batch(
                slot=SYSTEM_SLOT,
                writes=(Delete(_key(quarantine_id)), Leave(keys.QUARANTINE, quarantine_id)),
            )
        )


def _message(quarantine_id: str, value: bytes) -> Quarantined:
    queue, reason, body, at_ms = cast("tuple[str, str, bytes, int]", unpack(value))
    return Quarantined(quarantine_id=quarantine_id, queue=queue, reason=reason, body=body, at_ms=at_ms)


def _key(quarantine_id: str) -> Key:
    return Key(keys.SYSTEM, f"quarantine:{quarantine_id}")
