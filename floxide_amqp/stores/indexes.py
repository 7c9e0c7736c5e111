"""What the maintenance leader scans: due timers, messages, owner entries, parked items."""

from __future__ import annotations

from dataclasses import dataclass

from floxide_amqp.core.ids import RunId, WorkerId, WorkItemId
from floxide_amqp.core.records import Timer
from floxide_amqp.ports.key_value import IndexRange
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageNote:
    """What the store knows of a message: its entry, its item, and who published it."""

    queue: str
    entry: str
    run_id: RunId
    item_id: WorkItemId
    turn: int
    publisher: WorkerId


@dataclass(frozen=True, slots=True)
class ItemPlace:
    """An item of a run."""

    run_id: RunId
    item_id: WorkItemId


class IndexStore:
    """Reads the indexes that span all runs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def due_timers(self, now_ms: int, *, limit: int = 500) -> list[Timer]:
        """Return timers that are due, earliest first."""
        entries = await self._session.scan(IndexRange(keys.TIMERS, before=keys.timers_until(now_ms), limit=limit))
        return [_timer(entry.entry, entry.value) for entry in entries]

    async def messages(
        self, queue: str, *, after: str = "", before: str | None = None, limit: int = 500
    ) -> list[MessageNote]:
        """Return what is noted of messages of a task queue, oldest first."""
        entries = await self._session.scan(IndexRange(keys.messages(queue), after=after, before=before, limit=limit))
        notes: list[MessageNote] = []
        for entry in entries:
            run_id, item_id, turn, publisher = codec.decode_message_note(entry.value)
            notes.append(
                MessageNote(
                    queue=queue,
                    entry=entry.entry,
                    run_id=RunId(run_id),
                    item_id=WorkItemId(item_id),
                    turn=turn,
                    publisher=WorkerId(publisher),
                )
            )
        return notes

    async def owned(
        self, worker: WorkerId, *, after: ItemPlace | None = None, limit: int = 500
    ) -> list[ItemPlace]:  # fmt: skip
        """Return items that a worker holds without a message."""
        return await self._places(keys.owned(worker), after, limit)

    async def parked(
        self, queue: str, workflow: str, version: str, *, after: ItemPlace | None = None, limit: int = 500
    ) -> list[ItemPlace]:
        """Return items that wait for a worker with this workflow and version."""
        return await self._places(keys.parked(queue, workflow, version), after, limit)

    async def _places(self, index: str, after: ItemPlace | None, limit: int) -> list[ItemPlace]:
        start = "" if after is None else keys.place_entry(after.run_id, after.item_id)
        entries = await self._session.scan(IndexRange(index, after=start, limit=limit))
        return [_place(entry.entry) for entry in entries]


def _place(entry: str) -> ItemPlace:
    item_id, _, run_id = entry.partition(":")
    return ItemPlace(RunId(run_id), WorkItemId(item_id))


def _timer(entry: str, value: bytes) -> Timer:
    due, target, _, run_id = entry.split(":", 3)
    kind, turn = codec.decode_timer_value(value)
    item_id = WorkItemId("" if kind.is_of_run else target)
    return Timer(due_ms=int(due), run_id=RunId(run_id), item_id=item_id, kind=kind, turn=turn)
