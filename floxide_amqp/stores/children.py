"""What a run knows of the runs it has started: a cell for each, and an index in the order they were started in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.kin import ChildRecord, OnClose
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import CodecError, NewerFormatError
from floxide_amqp.ports.key_value import Enter, IndexRange, Put, Read, Write
from floxide_amqp.stores import child_keys
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.packing import ARRAY, BOOL, BYTES, INT, NONE, STR, Shape, pack_record, unpack_record
from floxide_amqp.stores.record_codec import error_in, error_out
from floxide_amqp.stores.sealed_records import readable_child
from floxide_amqp.stores.sealing import PLAIN, Sealing
from floxide_amqp.stores.session import Session

CHILD: Final = Shape(
    "record of a child", 17, run_id=STR, workflow=STR, version=STR, item_id=STR, node=STR, attempt=INT, turn=INT,
    epoch=INT, started_at_ms=INT, on_close=STR, is_closing=BOOL, status=STR | NONE, ended_at_ms=INT, output=BYTES,
    error=ARRAY | NONE, failed_node=STR, reason=STR,
)  # fmt: skip

_STATUSES: Final = {status.value: status for status in RunStatus}
_POLICIES: Final = {policy.value: policy for policy in OnClose}


class ChildStore:
    """Reads what runs know of their children."""

    def __init__(self, session: Session, sealing: Sealing = PLAIN) -> None:
        self._session = session
        self._sealing = sealing

    async def find(self, run_id: RunId, child_id: RunId) -> tuple[ChildRecord | None, int]:
        """Return what a run knows of a child, its output still sealed, and its version; None for no child of it.

        Raises:
            UnreadableRecordError: It cannot be read.
        """
        ((found, version),) = await self._records(run_id, (child_id,))
        return found, version

    async def named(self, run_id: RunId, child_ids: Sequence[RunId]) -> list[ChildRecord | None]:
        """Return what a run knows of some of its children, in their order; None for what is no child of it.

        Raises:
            UnreadableRecordError: One of them cannot be read.
        """
        return [record for record, _ in await self._records(run_id, tuple(child_ids))] if child_ids else []

    async def page(
        self, run_id: RunId, *, after: str = "", before: str | None = None, limit: int = 100
    ) -> tuple[list[tuple[ChildRecord, int]], str]:
        """Return children of a run in the order they were started, and the entry behind which there are more.

        Args:
            run_id: The run.
            after: The entry of the last one seen.
            before: Only those with an earlier entry (see `child_keys.children_until`); None for all.
            limit: How many at most.

        Returns:
            The records with their versions, and the last entry; that is empty where there are no more.
        """
        wanted = IndexRange(child_keys.children(run_id), after=after, before=before, limit=limit)
        entries = (await self._session.read(Read(slot=slot_of(run_id), indexes=(wanted,)))).indexes[0]
        if not entries:
            return [], ""
        records = await self._records(run_id, tuple(child_keys.child_of(each.entry) for each in entries))
        found = [(record, version) for record, version in records if record is not None]
        return found, entries[-1].entry if len(entries) == limit else ""

    async def _records(self, run_id: RunId, children: tuple[RunId, ...]) -> list[tuple[ChildRecord | None, int]]:
        cells = tuple(child_keys.child(run_id, child_id) for child_id in children)
        snapshot = await self._session.read(Read(slot=slot_of(run_id), cells=cells))
        found: list[tuple[ChildRecord | None, int]] = []
        for key, cell in zip(cells, snapshot.cells, strict=True):
            record = read_record(decode_child, cell.value, key) if cell.version else None
            found.append((None if record is None else readable_child(self._sealing, run_id, record), cell.version))
        return found


def child_writes(run_id: RunId, child: ChildRecord, *, is_new: bool) -> tuple[Write, ...]:
    """Return what writes what a run knows of a child."""
    put = Put(child_keys.child(run_id, child.run_id), encode_child(child))
    if not is_new:
        return (put,)
    return put, Enter(
        child_keys.children(run_id), child_keys.child_entry(child.epoch, child.started_at_ms, child.run_id)
    )


def encode_child(child: ChildRecord) -> bytes:
    """Encode what a run knows of a child."""
    return pack_record(
        CHILD, child.run_id, child.workflow, child.version, child.item_id, child.node, child.attempt, child.turn,
        child.epoch, child.started_at_ms, child.on_close.value, child.is_closing,
        None if child.status is None else child.status.value, child.ended_at_ms, child.output,
        None if child.error is None else error_out(child.error), child.failed_node, child.reason,
    )  # fmt: skip


def decode_child(data: bytes) -> ChildRecord:
    """Decode what a run knows of a child.

    Raises:
        CodecError: The bytes are none.
    """
    v = unpack_record(CHILD, data)
    status = None if v[11] is None else _STATUSES.get(v[11])
    policy = _POLICIES.get(v[9])
    if policy is None or (status is None and v[11] is not None):
        raise NewerFormatError(what=CHILD.what, found=f"{v[9]!r:.40} and {v[11]!r:.40}")
    try:
        error = None if v[14] is None else error_in(v[14])
    except (TypeError, ValueError, LookupError, AttributeError) as broken:
        raise CodecError("This is not a record of a child: its error is none.") from broken
    return ChildRecord(
        run_id=RunId(v[0]), workflow=v[1], version=v[2], item_id=WorkItemId(v[3]), node=v[4], attempt=v[5], turn=v[6],
        epoch=v[7], started_at_ms=v[8], on_close=policy, is_closing=v[10], status=status, ended_at_ms=v[12],
        output=v[13], error=error, failed_node=v[15], reason=v[16],
    )  # fmt: skip
