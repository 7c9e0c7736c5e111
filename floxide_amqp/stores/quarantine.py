"""Messages nobody could read: kept with their reason, never dropped, never looped.

The beginning of a message lies with its entry, the rest in parts beside it, so that a page of the list stays small
however long the messages are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from floxide_amqp.core.ids import SYSTEM_SLOT
from floxide_amqp.core.message_records import Quarantined
from floxide_amqp.exceptions import CodecError
from floxide_amqp.ports.key_value import Batch, Cell, Delete, Enter, IndexRange, Key, Leave, Put, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores.packing import BYTES, INT, STR, Shape, pack_record, unpack_record
from floxide_amqp.stores.session import Session

MAX_KEPT_BYTES: Final = 16 * 1024 * 1024
"""Bytes kept of one message: the longest that RabbitMQ 4 takes by default. What is longer is cut, and the entry says
how long it was: the engine's own messages have less than a kilobyte."""

BEGINNING_BYTES: Final = 64 * 1024
"""Bytes kept with the entry, which the list reads."""

PART_BYTES: Final = 1024 * 1024
"""Bytes of each further part."""

MAX_PARTS: Final = -(-MAX_KEPT_BYTES // PART_BYTES)
"""Parts that a message can have."""

MAX_REASON: Final = 2_000
"""Characters kept of a reason."""

QUARANTINED = Shape(
    "quarantined message", 6, queue=STR, reason=STR, beginning=BYTES, at_ms=INT, size=INT, kept=INT, source=STR
)


class QuarantineStore:
    """Keeps, lists and lets go quarantined messages.

    They belong to no run that could be told, so where the store has several servers any of them may keep one.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    async def add(self, message: Quarantined) -> None:
        """Keep a message; the same id twice is one entry, or one per server where the first was out of reach.

        Raises:
            StoreError: No server could take it.
        """
        body, name = message.body[:MAX_KEPT_BYTES], message.quarantine_id
        record = pack_record(
            QUARANTINED, message.queue, message.reason[:MAX_REASON], body[:BEGINNING_BYTES], message.at_ms,
            message.cut_from or len(message.body), len(body), *((message.source,) if message.source else ()),
        )  # fmt: skip
        rest = body[BEGINNING_BYTES:]
        parts = (rest[start : start + PART_BYTES] for start in range(0, len(rest), PART_BYTES))
        batch = Batch(
            slot=SYSTEM_SLOT,
            writes=(
                Put(_key(name), record),
                *(Put(_part_key(name, number), part) for number, part in enumerate(parts)),
                Enter(keys.QUARANTINE, name),
            ),
        )
        in_reach = min(self._session.parts, key=Session.failing_seconds)
        await in_reach.commit(batch)

    async def list(self, *, after: str = "", limit: int = 100) -> list[Quarantined]:
        """Return quarantined messages, oldest first, after the id `after`: of long ones only the beginning."""
        asked = IndexRange(keys.QUARANTINE, after=after, limit=limit)
        pages = await asyncio.gather(*(_page(part, asked) for part in self._session.parts))
        found = {message.quarantine_id: message for page in pages for message in page}
        return [found[quarantine_id] for quarantine_id in sorted(found)[:limit]]

    async def find(self, quarantine_id: str) -> Quarantined | None:
        """Return a quarantined message with all that is kept of it, or None where there is none of this id."""
        cells = (_key(quarantine_id), *(_part_key(quarantine_id, number) for number in range(MAX_PARTS)))
        for part in self._session.parts:
            found = (await part.read(Read(slot=SYSTEM_SLOT, cells=cells))).cells
            if found[0].version:
                return _message(quarantine_id, found[0], [cell.value for cell in found[1:] if cell.version])
        return None

    async def remove(self, quarantine_id: str) -> None:
        """Forget a message; one that is not there is fine."""
        batch = Batch(
            slot=SYSTEM_SLOT,
            writes=(
                Delete(_key(quarantine_id)),
                *(Delete(_part_key(quarantine_id, number)) for number in range(MAX_PARTS)),
                Leave(keys.QUARANTINE, quarantine_id),
            ),
        )
        for part in self._session.parts:
            await part.commit(batch)


async def _page(part: Session, asked: IndexRange) -> Sequence[Quarantined]:
    entries = await part.scan(asked)
    if not entries:
        return []
    ids = [entry.entry for entry in entries]
    snapshot = await part.read(Read(slot=SYSTEM_SLOT, cells=tuple(_key(name) for name in ids)))
    return [
        _message(quarantine_id, cell) for quarantine_id, cell in zip(ids, snapshot.cells, strict=True) if cell.version
    ]


def _message(quarantine_id: str, cell: Cell, parts: list[bytes] | None = None) -> Quarantined:
    """Return a message as kept; one whose entry is damaged itself is still shown, with the bytes of the entry."""
    try:
        values = unpack_record(QUARANTINED, cell.value)
        queue, reason, beginning, at_ms, size = values[:5]
    except CodecError as error:
        return Quarantined(
            quarantine_id=quarantine_id, queue="", reason=f"Its entry cannot be read: {error}", body=cell.value, at_ms=0
        )
    body = b"".join((beginning, *(parts or ())))
    return Quarantined(
        quarantine_id=quarantine_id, queue=queue, reason=reason, body=body, at_ms=at_ms,
        cut_from=size if size > len(body) else 0, source=values[6] if len(values) > 6 else "",
    )  # fmt: skip


def _key(quarantine_id: str) -> Key:
    return Key(keys.SYSTEM, f"quarantine:{quarantine_id}")


def _part_key(quarantine_id: str, number: int) -> Key:
    return Key(keys.SYSTEM, f"quarantine.part:{quarantine_id}:{number}")
