"""Messages nobody could read: kept with their reason, never dropped, never looped."""

from __future__ import annotations

from typing import cast

from floxide_amqp.core.ids import SYSTEM_SLOT
from floxide_amqp.core.records import Quarantined
from floxide_amqp.ports.key_value import Batch, Enter, IndexRange, Key, Put, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores.encoding import pack, unpack
from floxide_amqp.stores.session import Session

MAX_KEPT_BYTES = 1024 * 1024
"""Bytes kept of one message; what is longer is cut, and its reason says so."""


class QuarantineStore:
    """Keeps and lists quarantined messages."""

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
        found: list[Quarantined] = []
        for quarantine_id, cell in zip(ids, snapshot.cells, strict=True):
            if cell.version:
                queue, reason, body, at_ms = cast("tuple[str, str, bytes, int]", unpack(cell.value))
                found.append(
                    Quarantined(quarantine_id=quarantine_id, queue=queue, reason=reason, body=body, at_ms=at_ms)
                )
        return found


def _key(quarantine_id: str) -> Key:
    return Key(keys.SYSTEM, f"quarantine:{quarantine_id}")
