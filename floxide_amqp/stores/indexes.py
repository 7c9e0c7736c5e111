"""What the maintenance leader scans: due timers, messages, owner entries, parked items."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from floxide_amqp.core.ids import RunId, Slot, WorkerId, WorkItemId, slot_of
from floxide_amqp.core.timers import Timer
from floxide_amqp.exceptions import CodecError, UnreadableRecordError
from floxide_amqp.ports.key_value import Batch, Enter, Entry, IndexRange, Key, Leave, Read
from floxide_amqp.stores import keys, parked_keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.session import Session

MOST_BETWEEN = 100
"""Entries read to find one: there is no asking for it alone, and few lie between its neighbour by name and itself."""

MAX_REASON = 500
"""Characters kept of why a timer could not be fired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageNote:
    """What the store knows of a message: its entry, its item, and who published it.

    Attributes:
        damaged: The entry as it lies in the store, where nothing else of it can be read.
        damage: Why not; None where all is well.
    """

    queue: str
    entry: str
    run_id: RunId
    item_id: WorkItemId
    turn: int
    publisher: WorkerId
    tries: int = 0
    damaged: Entry | None = None
    damage: UnreadableRecordError | None = None


@dataclass(frozen=True, slots=True)
class ItemPlace:
    """An item of a run."""

    run_id: RunId
    item_id: WorkItemId


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedItem:
    """A parked item: its entry, what a worker must have to run it, and where it is."""

    entry: str
    kind: parked_keys.Kind
    place: ItemPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class DueTimer:
    """A timer's entry as it lies in the store; it may be one that this release cannot read.

    Attributes:
        entry, value, slot: The entry among the timers.
        aside: Its entry among those set aside, because firing it failed; empty of one that was not.
        failures, reason: How often it failed, and why the last time.
    """

    entry: str
    value: bytes
    slot: Slot
    aside: str = ""
    failures: int = 0
    reason: str = ""

    def timer(self) -> Timer:
        """Return the timer.

        Raises:
            CodecError: The entry cannot be read.
        """
        try:
            due, target, _, run_id = self.entry.split(":", 3)
            kind, turn, passed = codec.decode_timer_value(self.value)
            item_id, after = WorkItemId("" if kind.is_of_run else target), WorkItemId(passed)
            return Timer(due_ms=int(due), run_id=RunId(run_id), item_id=item_id, kind=kind, turn=turn, after=after)
        except ValueError as error:
            raise CodecError(f"The timer {self.entry!r} cannot be read: {error}") from error


class IndexStore:
    """Reads the indexes that span all runs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def due_timers(self, now_ms: int, *, after: str = "", limit: int = 500) -> list[DueTimer]:
        """Return timers that are due, earliest first; those behind the entry `after`, if it is given."""
        wanted = IndexRange(keys.TIMERS, after=after, before=keys.timers_until(now_ms), limit=limit)
        return [DueTimer(entry=e.entry, value=e.value, slot=e.slot) for e in await self._session.scan(wanted)]

    async def next_due_ms(self, now_ms: int) -> int | None:
        """Return when the first of the timers that are not due yet is; None where there is none."""
        wanted = IndexRange(keys.TIMERS, after=keys.timers_until(now_ms), limit=1)
        due = [entry.entry.partition(":")[0] for entry in await self._session.scan(wanted)]
        return int(due[0]) if due and due[0].isdecimal() else None

    async def timers_set_aside(
        self, *, after: str = "", until_ms: int | None = None, limit: int = 500
    ) -> list[DueTimer]:
        """Return timers that could not be fired, those to be tried next first: all, or those due by a moment."""
        before = None if until_ms is None else keys.timers_until(until_ms)
        wanted = IndexRange(keys.SET_ASIDE, after=after, before=before, limit=limit)
        return [_set_aside(entry) for entry in await self._session.scan(wanted)]

    async def has_timer(self, timer: Timer) -> bool:
        """Whether a timer is still set, and not set aside."""
        return await self._find(timer.run_id, keys.TIMERS, keys.timer_entry(timer)) is not None

    async def set_aside(self, due: DueTimer, again_at_ms: int, reason: str) -> None:
        """Move a timer that could not be fired among those set aside, to be tried again later."""
        aside = keys.set_aside_entry(again_at_ms, due.entry)
        value = codec.encode_set_aside(due.value, due.failures + 1, reason[:MAX_REASON])
        where_it_was = Leave(keys.SET_ASIDE, due.aside) if due.aside else Leave(keys.TIMERS, due.entry)
        await self._session.commit(Batch(slot=due.slot, writes=(where_it_was, Enter(keys.SET_ASIDE, aside, value))))

    async def forget_set_aside(self, due: DueTimer) -> None:
        """Take a timer that was fired after all off those set aside."""
        await self._session.commit(Batch(slot=due.slot, writes=(Leave(keys.SET_ASIDE, due.aside),)))

    async def messages(
        self, queue: str, *, after: str = "", before: str | None = None, limit: int = 500
    ) -> list[MessageNote]:
        """Return what is noted of messages of a task queue, oldest first."""
        entries = await self._session.scan(IndexRange(keys.messages(queue), after=after, before=before, limit=limit))
        return [_note(queue, entry) for entry in entries]

    async def tries(self, run_id: RunId, queue: str, entry: str) -> int:
        """Return how many messages of an item were lost before the one of an entry; 0 where nothing is noted of it."""
        found = await self._find(run_id, keys.messages(queue), entry)
        return 0 if found is None else _note(queue, found).tries

    async def _find(self, run_id: RunId, index: str, entry: str) -> Entry | None:
        """Return one entry of a run, by its whole name."""
        just_before = entry[:-1] + chr(ord(entry[-1]) - 1)
        wanted = IndexRange(index, after=just_before, before=f"{entry}\0", limit=MOST_BETWEEN)
        found = (await self._session.read(Read(slot=slot_of(run_id), indexes=(wanted,)))).indexes[0]
        return next((each for each in found if each.entry == entry), None)

    async def drop_message(self, queue: str, damaged: Entry) -> None:
        """Take what is noted of a message off the list, whatever run it was about."""
        leave = Leave(keys.messages(queue), damaged.entry)
        await self._session.commit(Batch(slot=damaged.slot, writes=(leave,)))

    async def owned(self, worker: WorkerId, *, after: ItemPlace | None = None, limit: int = 500) -> list[ItemPlace]:
        """Return items that a worker holds without a message."""
        start = "" if after is None else keys.place_entry(after.run_id, after.item_id)
        entries = await self._session.scan(IndexRange(keys.owned(worker), after=start, limit=limit))
        return [_place(entry.entry) for entry in entries]

    async def parked(
        self, queue: str, *, after: str = "", before: str | None = None, limit: int = 500
    ) -> list[ParkedItem]:
        """Return items of a task queue that wait for a worker which has their node, those of a kind together."""
        entries = await self._session.scan(
            IndexRange(parked_keys.parked(queue), after=after, before=before, limit=limit)
        )
        return [_parked(entry.entry) for entry in entries]

    async def is_parked(self, queue: str, kind: parked_keys.Kind, place: ItemPlace) -> bool:
        """Whether an item is on the list of a task queue's parked items under a kind."""
        entry = parked_keys.parked_entry(kind, place.run_id, place.item_id)
        return await self._find(place.run_id, parked_keys.parked(queue), entry) is not None


def _place(entry: str) -> ItemPlace:
    item_id, _, run_id = entry.partition(":")
    return ItemPlace(RunId(run_id), WorkItemId(item_id))


def _note(queue: str, entry: Entry) -> MessageNote:
    key = Key(keys.messages(queue), entry.entry)
    try:
        run_id, item_id, turn, publisher, tries = read_record(codec.decode_message_note, entry.value, key)
    except UnreadableRecordError as error:
        return MessageNote(
            queue=queue, entry=entry.entry, run_id=RunId(""), item_id=WorkItemId(""), turn=0, publisher=WorkerId(""),
            damaged=entry, damage=error,
        )  # fmt: skip
    return MessageNote(
        queue=queue, entry=entry.entry, run_id=RunId(run_id), item_id=WorkItemId(item_id), turn=turn,
        publisher=WorkerId(publisher), tries=tries,
    )  # fmt: skip


def _set_aside(entry: Entry) -> DueTimer:
    value, failures, reason = entry.value, 0, "unreadable"
    with suppress(CodecError):
        value, failures, reason = codec.decode_set_aside(entry.value)
    original = entry.entry.partition(":")[2]
    return DueTimer(entry=original, value=value, slot=entry.slot, aside=entry.entry, failures=failures, reason=reason)


def _parked(entry: str) -> ParkedItem:
    kind, place = parked_keys.kind_of(entry)
    return ParkedItem(entry=entry, kind=kind, place=_place(place))
