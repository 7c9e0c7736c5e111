"""Claims of keys by which starts are told apart: each names the run that the first of them started, and ends in time.

A claim lies in a slot of its own, under a digest of its key, and is written before the run is. So whoever finds it
starts the same run, or finds it started, wherever the first one died. That it was started is noted in the claim, so
that it stands for its run even when that was deleted long ago. A timer has it looked after a little later, for the case
that the first one died before it noted so.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.timers import Timer, TimerKind
from floxide_amqp.ports.key_value import ABSENT, Batch, Check, Conflict, Delete, Key, Put, Read, Write
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.packing import BOOL, BYTES, INT, STR, Shape, pack_record, unpack_record
from floxide_amqp.stores.place_timers import enter_timer, leave_timer, removals, unchanged
from floxide_amqp.stores.session import Session

CLAIM_PREFIX: Final = " claim:"
"""What the partitions of claims begin with; no run's id begins with a blank."""

CLAIM: Final = Shape("claim of a key", 4, run_id=STR, until_ms=INT, is_started=BOOL, token=BYTES)


LOOK_AFTER_MS: Final = 60_000
"""When it is looked whether the run of a claim was started, if nobody has noted so: longer than a start takes, and
shorter than a run and its tombstone stay."""


class Claim(NamedTuple):
    """Which run a key stands for, until when, store time, and whether it is known to have been started.

    Attributes:
        look_at_ms: When a timer has it looked after before its time is over; of a claim that was just made, 0 for none.
    """

    run_id: RunId
    until_ms: int
    is_started: bool = False
    look_at_ms: int = 0


class ClaimStore:
    """Claims keys."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def find(self, place: RunId) -> Claim | None:
        """Return the claim of a key that holds; None where none does.

        Raises:
            UnreadableRecordError: It cannot be read.
        """
        cell = claim_cell(place)
        found = (await self._session.read(Read(slot=slot_of(place), cells=(cell,)))).cells[0]
        claim = read_record(decode_claim, found.value, cell) if found.version else None
        is_over = claim is None or claim.until_ms <= self._session.beside(place).now_ms()
        return None if is_over else claim

    async def claim(self, place: RunId, run_id: RunId, for_ms: int) -> tuple[Claim, bool]:
        """Claim a key for a run; return the claim that holds, and whether it is this one.

        Args:
            place: Where the key lies; see `claim_place`.
            run_id: The run.
            for_ms: How long the claim holds.

        Raises:
            UnreadableRecordError: A claim cannot be read.
        """
        cell = claim_cell(place)
        while True:
            found, removed = (await self._session.read(Read(slot=slot_of(place), cells=(cell, removals(place))))).cells
            now_ms = self._session.beside(place).now_ms()
            if found.version:
                claim = read_record(decode_claim, found.value, cell)
                if claim.until_ms > now_ms:
                    return claim, False
            look_at_ms = now_ms + LOOK_AFTER_MS if for_ms > LOOK_AFTER_MS else 0
            claim, token = Claim(run_id, now_ms + for_ms, look_at_ms=look_at_ms), self._session.new_token()
            writes: tuple[Write, ...] = (Put(cell, encode_claim(claim, token)), enter_timer(place, claim.until_ms))
            if look_at_ms:
                writes = (*writes, enter_timer(place, look_at_ms))
            checks = unchanged(place, cell, found.version, removed.version)
            batch = Batch(slot=slot_of(place), checks=checks, writes=writes, token=token, witness=cell)
            if not isinstance(await self._session.commit(batch), Conflict):
                return claim, True

    async def note_started(self, place: RunId, run_id: RunId, look_at_ms: int = 0) -> None:
        """Note in a claim that its run was started; one that stands for another run is left alone.

        Args:
            place: Where the key lies.
            run_id: The run.
            look_at_ms: When a timer would have looked for it, which is not needed any more; 0 where that is not known.
        """
        cell = claim_cell(place)
        asked = Read(slot=slot_of(place), cells=(cell, removals(place)))
        while True:
            found, removed = (await self._session.read(asked)).cells
            claim = read_record(decode_claim, found.value, cell) if found.version else None
            if claim is None or claim.run_id != run_id or claim.is_started:
                return
            writes: tuple[Write, ...] = (Put(cell, encode_claim(claim._replace(is_started=True))),)
            if look_at_ms:
                writes = (*writes, leave_timer(Timer(due_ms=look_at_ms, run_id=place, kind=TimerKind.PLACE)))
            checks = unchanged(place, cell, found.version, removed.version)
            noting = Batch(slot=slot_of(place), checks=checks, writes=writes)
            if not isinstance(await self._session.commit(noting), Conflict):
                return  # else something was removed from the slot, though hardly this

    async def look_after(self, timer: Timer) -> bool:
        """Remove a claim if this timer says that it is over; return whether nobody else was faster with something.

        Raises:
            UnreadableRecordError: It cannot be read.
        """
        place, cell = timer.run_id, claim_cell(timer.run_id)
        found, removed = (await self._session.read(Read(slot=slot_of(place), cells=(cell, removals(place))))).cells
        if not found.version or read_record(decode_claim, found.value, cell).until_ms != timer.due_ms:
            await self._session.commit(Batch(slot=slot_of(place), writes=(leave_timer(timer),)))
            return True
        writes = (Delete(cell), Put(removals(place), b""), leave_timer(timer))
        checks = unchanged(place, cell, found.version, removed.version)
        removing = Batch(slot=slot_of(place), checks=checks, writes=writes)
        return not isinstance(await self._session.commit(removing), Conflict)


async def copy_claim(source: Session, target: Session, place: RunId) -> None:
    """Copy a claim from one server to another that has nothing of it."""
    slot, cell = slot_of(place), claim_cell(place)
    stored = (await source.read(Read(slot=slot, cells=(cell,)))).cells[0]
    if stored.version:
        writes = (Put(cell, stored.value), enter_timer(place, decode_claim(stored.value).until_ms))
        await target.commit(Batch(slot=slot, checks=(Check(cell, ABSENT),), writes=writes))  # or it is there


def claim_place(workflow: str, key: str) -> RunId:
    """Return where the claim of a key lies: by a digest of it, so that nobody reads the key in the store."""
    digest = hashlib.blake2b(f"{workflow}\x1f{key}".encode(), digest_size=16).hexdigest()
    return RunId(f"{CLAIM_PREFIX}{digest}")


def claim_cell(place: RunId) -> Key:
    """Return the cell of a claim."""
    return Key(place, "claim")


def encode_claim(claim: Claim, token: bytes = b"") -> bytes:
    """Encode a claim."""
    return pack_record(CLAIM, claim.run_id, claim.until_ms, claim.is_started, token)


def decode_claim(data: bytes) -> Claim:
    """Decode a claim.

    Raises:
        CodecError: The bytes are none.
    """
    run_id, until_ms, is_started = unpack_record(CLAIM, data)[:3]
    return Claim(RunId(run_id), until_ms, is_started)
