"""The audit log of a run: what somebody did to it, in the order it was done. It is only ever appended to."""

from __future__ import annotations

from collections.abc import Sequence

from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.log_records import AuditRecord
from floxide_amqp.ports.key_value import LogRange, Read
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.session import Session


class AuditStore:
    """Reads audit logs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def read(self, run_id: RunId, *, start: int = 0, limit: int = 100) -> Sequence[AuditRecord]:
        """Return what was done to a run from position `start` on.

        Raises:
            UnreadableRecordError: One of the records cannot be read.
        """
        log = keys.audit(run_id)
        page = (await self._session.read(Read(slot=slot_of(run_id), logs=(LogRange(log, start, limit),)))).logs[0]
        return [
            read_record(codec.decode_audit, data, log, f"position {position}")
            for position, data in enumerate(page.entries, page.first)
        ]
