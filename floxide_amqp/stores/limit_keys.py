"""Concurrency keys as stored: each in a slot of its own, with who holds it as one record and who waits as an index.

Whoever changes a key writes its record, checks that nobody did so meanwhile, and posts the letters by which runs learn
that an item of theirs holds it, all in one batch. So a key never has more holders than its limit, and each holder was
told, or will be.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias

from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.letters import Letter
from floxide_amqp.core.limit_changes import EnterTicket, LeaveTicket
from floxide_amqp.core.limit_moves import LIMIT_PREFIX, grant_letter, place_of
from floxide_amqp.core.limits import LOOK_MS, LimitChange, LimitState, Ticket, ask_again
from floxide_amqp.core.run_key_moves import RUN_TICKET
from floxide_amqp.core.timers import Timer
from floxide_amqp.exceptions import CodecError
from floxide_amqp.ports.key_value import (
    ABSENT,
    Batch,
    Check,
    Conflict,
    Delete,
    Enter,
    IndexRange,
    Key,
    Leave,
    Put,
    Read,
    Write,
)
from floxide_amqp.stores import keys
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.letters import first_entry, letter_writes
from floxide_amqp.stores.packing import ARRAY, BYTES, INT, STR, Shape, pack_record, unpack_record
from floxide_amqp.stores.place_timers import enter_timer, leave_timer, removals, shown_cell, unchanged
from floxide_amqp.stores.session import Session

LIMIT: Final = Shape(
    "concurrency key", 5, declared=INT, override=INT, holders=ARRAY, changed_ms=INT, token=BYTES, look_ms=INT
)  # fmt: skip
TICKET: Final = Shape("ticket", 3, number=STR, item_id=STR, run_id=STR)

AT_ONCE: Final = 100
"""Those who wait that are looked at in one change; more are let in by the next."""

COPIED_AT_ONCE: Final = 500
"""Entries copied to another server in one commit."""

Changing: TypeAlias = Callable[[LimitState, Sequence[Ticket]], LimitChange | None]
"""What is to become of a key, by its state and those who wait first; None where nothing is."""


class StoredLimit(NamedTuple):
    """A key as one snapshot.

    Attributes:
        state: Its state.
        version: The version of that.
        waiting: Those who wait first.
        removals: Changes when something is removed beside it.
        shown: Its text, sealed, where it is called by a digest.
    """

    state: LimitState
    version: int
    waiting: tuple[Ticket, ...]
    removals: int = 0
    shown: bytes = b""


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of a key.

    Attributes:
        change: None where nothing was to become of it.
        letters: What was written to those who hold it now.
    """

    change: LimitChange | None
    letters: tuple[Letter, ...] = ()


class LimitStore:
    """Reads and changes concurrency keys."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._changing: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def find(self, limit_id: str, *, waiting: int = AT_ONCE) -> StoredLimit:
        """Return a key, as nobody holds it where it is not there, and those who wait first.

        Raises:
            UnreadableRecordError: It cannot be read.
        """
        place = place_of(limit_id)
        wanted = (limit_cell(place), removals(place), shown_cell(place))
        read = Read(slot=slot_of(place), cells=wanted, indexes=(IndexRange(keys.queue_of(place), limit=waiting),))
        snapshot = await self._session.read(read)
        cell, removed, shown = snapshot.cells
        state = read_record(decode_limit, cell.value, limit_cell(place)) if cell.version else LimitState()
        found = tuple(ticket_in(entry.entry) for entry in snapshot.indexes[0])
        return StoredLimit(state, cell.version, found, removed.version, shown.value)

    async def change(self, limit_id: str, changing: Changing, shown: bytes = b"") -> Changed:
        """Change a key, again if somebody else was faster; steps of one process go one after the other.

        Args:
            limit_id: The key's.
            changing: Says what is to become of it.
            shown: Its text, sealed, where it is called by a digest.

        Raises:
            UnreadableRecordError: It cannot be read.
        """
        lock = self._changing.get(limit_id)
        if lock is None:
            lock = self._changing[limit_id] = asyncio.Lock()
        async with lock:
            while True:
                found = await self.find(limit_id)
                change = changing(found.state, found.waiting)
                if change is None:
                    return Changed(None)
                more = (Put(shown_cell(place_of(limit_id)), shown),) if shown and not found.shown else ()
                letters = await self._write(limit_id, found, change, *more)
                if letters is not None:
                    return Changed(change, letters)

    async def _write(
        self, limit_id: str, found: StoredLimit, change: LimitChange, *more: Write
    ) -> tuple[Letter, ...] | None:
        """Write what becomes of a key; None if somebody else was faster."""
        is_nothing = change.state == found.state and not (change.granted or change.entered or change.left)
        if is_nothing or (not found.version and change.state == LimitState()):
            return ()
        place, now_ms = place_of(limit_id), self._session.beside(place_of(limit_id)).now_ms()
        cell, token = limit_cell(place), self._session.new_token()
        letters = tuple(grant_letter(ticket, limit_id, now_ms) for ticket in change.granted)
        look_ms = change.state.look_ms or now_ms + LOOK_MS
        state = replace(change.state, changed_ms=now_ms, look_ms=look_ms)
        writes: list[Write] = [Put(cell, encode_limit(state, token))]
        if look_ms != found.state.look_ms:
            writes.append(enter_timer(place, look_ms))
        writes += (Enter(keys.queue_of(place), queue_entry(ticket)) for ticket in change.entered)
        writes += (Leave(keys.queue_of(place), queue_entry(ticket)) for ticket in change.left)
        if not found.version:
            writes.append(Enter(keys.LIMITS, limit_id))
        for letter in letters:
            writes += letter_writes(letter)
        writes += more
        checks = unchanged(place, cell, found.version, found.removals)
        batch = Batch(slot=slot_of(place), checks=checks, writes=tuple(writes), token=token, witness=cell)
        return None if isinstance(await self._session.commit(batch), Conflict) else letters

    async def look_after(self, timer: Timer) -> tuple[Letter, ...] | None:
        """Ask those again who have held a key for long, or remove it where nobody holds it.

        Args:
            timer: The one that is due.

        Returns:
            The letters that were written; None where somebody else was faster with something.

        Raises:
            UnreadableRecordError: It cannot be read.
        """
        limit_id = timer.run_id.removeprefix(LIMIT_PREFIX)
        found = await self.find(limit_id)
        if not found.version or found.state.look_ms != timer.due_ms:
            await self._session.commit(Batch(slot=slot_of(timer.run_id), writes=(leave_timer(timer),)))
            return ()
        now_ms = self._session.beside(timer.run_id).now_ms()
        change = ask_again(found.state, found.waiting, now_ms)
        if change is not None:
            again = replace(change, state=replace(change.state, look_ms=now_ms + LOOK_MS))
            return await self._write(limit_id, found, again, leave_timer(timer))
        return () if await self._remove(limit_id, found, leave_timer(timer)) else None

    async def _remove(self, limit_id: str, found: StoredLimit, *writes: Write) -> bool:
        """Remove a key that nobody holds, but for what somebody has set; return whether nobody else was faster."""
        place = place_of(limit_id)
        cell = limit_cell(place)
        if found.state.override:
            writes += (Put(cell, encode_limit(replace(found.state, look_ms=0))),)
        else:
            writes += (Delete(cell), Leave(keys.LIMITS, limit_id), Put(removals(place), b""))
            writes += (Delete(shown_cell(place)),) if found.shown else ()
        checks = unchanged(place, cell, found.version, found.removals)
        batch = Batch(slot=slot_of(place), checks=checks, writes=writes)
        return not isinstance(await self._session.commit(batch), Conflict)

    async def ids(self, *, after: str = "", before: str | None = None, limit: int = 100) -> list[str]:
        """Return the ids of keys that are held or were until lately, or set, in order, behind one of them."""
        found = await self._session.scan(IndexRange(keys.LIMITS, after=after, before=before, limit=limit))
        return [entry.entry for entry in found]

    async def run_ticket(self, run_id: RunId) -> str:
        """Return the ticket of a run as a whole, as it is noted; empty where it has none."""
        first = await self.tickets_of(run_id, limit=1)
        return first[0][1] if first and first[0][0] == RUN_TICKET else ""

    async def tickets_of(self, run_id: RunId, *, after: str = "", limit: int = 100) -> list[tuple[WorkItemId, str]]:
        """Return which items of a run have tickets, or wait for the run's, which comes first, and what is noted."""
        wanted = IndexRange(keys.tickets_of(run_id), after=after, limit=limit)
        found = (await self._session.read(Read(slot=slot_of(run_id), indexes=(wanted,)))).indexes[0]
        return [(WorkItemId(entry.entry), entry.value.decode(errors="replace")) for entry in found]


async def copy_limit(source: Session, target: Session, place: RunId) -> None:
    """Copy a key from one server to another that has nothing of it; its record comes last, and makes it whole."""
    slot, cell = slot_of(place), limit_cell(place)
    for index in (keys.queue_of(place), keys.letters_of(place)):
        after = ""
        while True:
            wanted = IndexRange(index, after=after, limit=COPIED_AT_ONCE)
            found = (await source.read(Read(slot=slot, indexes=(wanted,)))).indexes[0]
            if not found:
                break
            writes: list[Write] = [Enter(index, each.entry, each.value) for each in found]
            if index == keys.letters_of(place):
                writes += (Enter(keys.LETTERS, *first_entry(place, each.entry, each.value)) for each in found)
            await target.commit(Batch(slot=slot, writes=tuple(writes)))
            after = found[-1].entry
    stored, shown = (await source.read(Read(slot=slot, cells=(cell, shown_cell(place))))).cells
    if stored.version:
        limit_id = place.removeprefix(LIMIT_PREFIX)
        look_ms = decode_limit(stored.value).look_ms
        last: tuple[Write, ...] = (Put(cell, stored.value), Enter(keys.LIMITS, limit_id))
        if shown.version:
            last += (Put(shown_cell(place), shown.value),)
        if look_ms:
            last += (enter_timer(place, look_ms),)
        await target.commit(Batch(slot=slot, checks=(Check(cell, ABSENT),), writes=last))  # or it is there


def limit_cell(place: RunId) -> Key:
    """Return the cell of a key."""
    return Key(place, "limit")


def ticket_write(run_id: RunId, change: EnterTicket | LeaveTicket) -> Write:
    """Return what notes, or forgets, that an item has a ticket."""
    match change:
        case EnterTicket(item_id, ticket):
            return Enter(keys.tickets_of(run_id), item_id, ticket.encode())
        case LeaveTicket(item_id):
            return Leave(keys.tickets_of(run_id), item_id)


def queue_entry(ticket: Ticket) -> str:
    """Return the entry of one who waits: those come first whose turn is first."""
    return ":".join(ticket)


def ticket_in(entry: str) -> Ticket:
    """Return the ticket of an entry."""
    number, item_id, run_id = entry.split(":", 2)
    return Ticket(number, WorkItemId(item_id), RunId(run_id))


def encode_limit(state: LimitState, token: bytes = b"") -> bytes:
    """Encode a key."""
    return pack_record(LIMIT, state.declared, state.override, state.holders, state.changed_ms, token, state.look_ms)


def decode_limit(data: bytes) -> LimitState:
    """Decode a key.

    Raises:
        CodecError: The bytes are none.
    """
    fields = unpack_record(LIMIT, data)
    declared, override, holders, changed_ms = fields[:4]
    look_ms = fields[5] if len(fields) > 5 else 0
    if declared < 1 or override < 0:
        raise CodecError("A concurrency key has no limit that could be one.")
    held = tuple(Ticket(number, WorkItemId(item), RunId(run)) for number, item, run in map(TICKET.part, holders))
    return LimitState(declared=declared, override=override, holders=held, changed_ms=changed_ms, look_ms=look_ms)
