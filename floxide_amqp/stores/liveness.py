"""Heartbeats: what each worker says of itself, and the lease of the maintenance leader."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from floxide_amqp.core.ids import SYSTEM_SLOT, WorkerId
from floxide_amqp.core.worker_records import WorkerRecord
from floxide_amqp.exceptions import CodecError
from floxide_amqp.ports.key_value import (
    ABSENT,
    Batch,
    Cell,
    Check,
    Committed,
    Delete,
    Enter,
    IndexRange,
    Leave,
    Put,
    Read,
)
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.session import Session

UNREADABLE = "unreadable"
"""Status shown of a worker whose record cannot be read."""

DEAD = "dead"
"""Status of a worker whose death was dealt with."""

HUNG = "hung"
"""Status of a worker whose event loop stands still: it cannot go on with anything it holds."""


class LivenessStore:
    """Reads and writes heartbeats."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def beat(self, record: WorkerRecord) -> None:
        """Write a worker's heartbeat."""
        await self._session.commit(
            Batch(
                slot=SYSTEM_SLOT,
                writes=(
                    Put(keys.worker(record.worker_id), codec.encode_worker(record)),
                    Enter(keys.WORKERS, record.worker_id),
                ),
            )
        )

    async def find(self, worker_id: WorkerId) -> tuple[WorkerRecord | None, int]:
        """Return a worker's last heartbeat, if there is one, and its version."""
        cell = (await self._session.read(Read(slot=SYSTEM_SLOT, cells=(keys.worker(worker_id),)))).cells[0]
        return (worker_record(worker_id, cell) if cell.version else None), cell.version

    async def beat_after(self, record: WorkerRecord, version: int) -> bool:
        """Write a worker's heartbeat if nobody touched its record since `version`; return whether it was written."""
        key = keys.worker(record.worker_id)
        outcome = await self._session.commit(
            Batch(
                slot=SYSTEM_SLOT,
                checks=(Check(key, version or ABSENT),),
                writes=(Put(key, codec.encode_worker(record)), Enter(keys.WORKERS, record.worker_id)),
            )
        )
        return isinstance(outcome, Committed)

    async def bury(self, record: WorkerRecord) -> None:
        """Mark a worker as dead, if it still is what was read; the mark stays, so that who finds its items later knows.

        A new worker of its name may have begun since.
        """
        found, version = await self.find(record.worker_id)
        if found == record:
            await self.beat_after(replace(record, status=DEAD), version)

    async def say_goodbye(self, record: WorkerRecord) -> None:
        """Remove a worker that stops, unless it still holds items: those are given back once it is missed."""
        if await self._holds_items(record.worker_id):
            return
        await self.forget(record.worker_id)
        if await self._holds_items(record.worker_id):  # named as an owner by one that took it for alive just then
            await self.beat(record)

    async def _holds_items(self, worker_id: WorkerId) -> bool:
        return bool(await self._session.scan(IndexRange(keys.owned(worker_id), limit=1)))

    async def forget(self, worker_id: WorkerId) -> None:
        """Remove a worker that has said goodbye, or died long ago."""
        await self._session.commit(
            Batch(slot=SYSTEM_SLOT, writes=(Delete(keys.worker(worker_id)), Leave(keys.WORKERS, worker_id)))
        )

    async def all(self) -> list[WorkerRecord]:
        """Return every worker's last heartbeat, in the order of their ids.

        Where the store has several servers, the latest that those in reach have.
        """
        parts = self._session.parts
        pages = await asyncio.gather(*map(_all_of, parts), return_exceptions=True)
        latest: dict[WorkerId, WorkerRecord] = {}
        errors: list[BaseException] = []
        for page in pages:
            if isinstance(page, BaseException):
                errors.append(page)
                continue
            for record in page:
                if record.worker_id not in latest or record.beat > latest[record.worker_id].beat:
                    latest[record.worker_id] = record
        if len(errors) == len(parts):
            raise errors[0]
        return [latest[worker_id] for worker_id in sorted(latest)]

    async def lease_holder(self) -> tuple[str, int]:
        """Return who leads maintenance ("" for nobody) and the version of the lease."""
        cell = (await self._session.read(Read(slot=SYSTEM_SLOT, cells=(keys.maintenance_lease(),)))).cells[0]
        return cell.value.decode(errors="replace"), cell.version

    async def take_lease(self, worker_id: WorkerId, version: int) -> bool:
        """Take or renew the maintenance lease if nobody touched it since `version`."""
        lease = keys.maintenance_lease()
        check = Check(lease, version or ABSENT)
        outcome = await self._session.commit(
            Batch(slot=SYSTEM_SLOT, checks=(check,), writes=(Put(lease, worker_id.encode()),))
        )
        return isinstance(outcome, Committed)


async def _all_of(part: Session) -> list[WorkerRecord]:
    entries = await part.scan(IndexRange(keys.WORKERS, limit=10_000))
    if not entries:
        return []
    cells = tuple(keys.worker(WorkerId(entry.entry)) for entry in entries)
    snapshot = await part.read(Read(slot=SYSTEM_SLOT, cells=cells))
    return [
        worker_record(WorkerId(entry.entry), cell)
        for entry, cell in zip(entries, snapshot.cells, strict=True)
        if cell.version
    ]


def worker_record(worker_id: WorkerId, cell: Cell) -> WorkerRecord:
    """Return a worker's last heartbeat; one that cannot be read still shows, by the cell's version, that it beats."""
    try:
        return codec.decode_worker(cell.value)
    except CodecError:
        return WorkerRecord(
            worker_id=worker_id, beat=cell.version, at_ms=0, started_at_ms=0, host="", boot="", pid=0,
            process_started="", status=UNREADABLE, queues=(), workflows=(), concurrency=0,
        )  # fmt: skip
