"""Keys of rate limits as stored: each one record in a slot of its own, which goes when it has no use any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.rate_lines import (
    IDLE_US,
    ONE_A_SECOND,
    Instant,
    RateState,
    Wish,
    at_rate,
    begun_anew,
    is_idle,
    reserve,
)
from floxide_amqp.core.rates import Rate
from floxide_amqp.core.timers import Timer
from floxide_amqp.exceptions import CodecError, UnreadableRecordError
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
from floxide_amqp.stores.packing import ARRAY, BYTES, INT, Shape, pack_record, unpack_record
from floxide_amqp.stores.place_timers import enter_timer, leave_timer, removals, shown_cell, unchanged
from floxide_amqp.stores.session import Session

RATE_PREFIX: Final = " rate:"
"""What the partitions of keys of rate limits begin with; no run's id begins with a blank."""

RATE: Final = Shape(
    "key of a rate limit", 6, declared=ARRAY, override=ARRAY, next_us=INT, line_us=INT, look_ms=INT, token=BYTES,
    again_us=INT,
)  # fmt: skip
NUMBERS: Final = Shape("rate", 3, limit=INT, per_ms=INT, burst=INT)


class StoredRate(NamedTuple):
    """A key as one snapshot: its state, the version of that, what was removed beside it, and its text, sealed.

    `is_damaged` says that its record cannot be read, and the state is that of a new one.
    """

    state: RateState
    version: int
    removals: int
    shown: bytes = b""
    is_damaged: bool = False


class RateStore:
    """Reads and changes keys of rate limits.

    Attributes:
        on_damaged: Told the id of a key whose record cannot be read, and why.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.on_damaged: Callable[[str, Exception], object] = _ignore

    async def find(self, rate_id: str) -> StoredRate:
        """Return a key, as nobody has asked for it where it is not there, and as begun anew where it is damaged.

        Raises:
            UnreadableRecordError: A newer release wrote it.
        """
        place = rate_place(rate_id)
        cell = rate_cell(place)
        wanted = (cell, removals(place), shown_cell(place))
        found, removed, shown = (await self._session.read(Read(slot=slot_of(place), cells=wanted))).cells
        is_damaged, state = False, RateState()
        try:
            state = read_record(decode_rate, found.value, cell) if found.version else state
        except UnreadableRecordError as error:
            if error.is_newer:
                raise
            is_damaged = True
            self.on_damaged(rate_id, error)
        return StoredRate(state, found.version, removed.version, shown.value, is_damaged)

    async def reserve(
        self, rate_id: str, declared: Rate, wishes: Sequence[Wish], now_us: Callable[[], int], shown: bytes = b""
    ) -> list[Instant]:
        """Give bodies their instants, in one commit, again if somebody else was faster.

        Args:
            rate_id: The key.
            declared: The rate by the code.
            wishes: The bodies.
            now_us: Returns the time of the key's server, asked once that has answered.
            shown: The key's text, sealed, where it is called by a digest.

        Raises:
            UnreadableRecordError: A newer release wrote the key.
        """
        while True:
            found = await self.find(rate_id)
            at_us = now_us()
            before = begun_anew(declared, at_us) if found.is_damaged else found.state
            state, instants = reserve(before, declared, wishes, at_us)
            more = (Put(shown_cell(rate_place(rate_id)), shown),) if shown and not found.shown else ()
            if state == found.state or await self._write(rate_id, found, state, *more):
                return instants

    async def set(self, rate_id: str, override: Rate | None, shown: bytes = b"") -> RateState:
        """Let another rate hold from now on; None for what the code says."""
        while True:
            found = await self.find(rate_id)
            now_us = 1000 * self._session.beside(rate_place(rate_id)).now_ms()
            before = begun_anew(override or ONE_A_SECOND, now_us) if found.is_damaged else found.state
            state = at_rate(before, replace(before, override=override), now_us)
            more = (Put(shown_cell(rate_place(rate_id)), shown),) if shown and not found.shown else ()
            if state == found.state or await self._write(rate_id, found, state, *more):
                return state

    async def look_after(self, timer: Timer) -> bool:
        """Remove a key that has no use any more; return whether nobody else was faster with something.

        Raises:
            UnreadableRecordError: A newer release wrote it.
        """
        place, gone = timer.run_id, leave_timer(timer)
        rate_id = place.removeprefix(RATE_PREFIX)
        found = await self.find(rate_id)
        if not found.version or found.state.look_ms != timer.due_ms:
            await self._session.commit(Batch(slot=slot_of(place), writes=(gone,)))
            return True
        state, cell = found.state, rate_cell(place)
        if not is_idle(state, self._session.beside(place).now_ms()):
            return await self._write(rate_id, found, replace(state, look_ms=0), gone)
        writes: tuple[Write, ...] = (Delete(cell), Leave(keys.RATES, rate_id), Put(removals(place), b""), gone)
        writes += (Delete(shown_cell(place)),) if found.shown else ()
        if state.override is not None:
            writes = (Put(cell, encode_rate(replace(state, look_ms=0))), gone)
        checks = unchanged(place, cell, found.version, found.removals)
        removed = await self._session.commit(Batch(slot=slot_of(place), checks=checks, writes=writes))
        return not isinstance(removed, Conflict)

    async def ids(self, *, after: str = "", limit: int = 100) -> list[str]:
        """Return the ids of keys that bodies started by lately, or that were set, in order, behind one of them."""
        return [entry.entry for entry in await self._session.scan(IndexRange(keys.RATES, after=after, limit=limit))]

    async def _write(self, rate_id: str, found: StoredRate, state: RateState, *more: Write) -> bool:
        place = rate_place(rate_id)
        cell, token = rate_cell(place), self._session.new_token()
        end_ms = max(state.next_us, state.end_us) // 1000
        look_ms = state.look_ms or max(self._session.beside(place).now_ms(), end_ms) + IDLE_US // 1000 + 1
        writes: list[Write] = [Put(cell, encode_rate(replace(state, look_ms=look_ms), token)), *more]
        if look_ms != found.state.look_ms:
            writes.append(enter_timer(place, look_ms))
        if not found.version:
            writes.append(Enter(keys.RATES, rate_id))
        checks = unchanged(place, cell, found.version, found.removals)
        batch = Batch(slot=slot_of(place), checks=checks, writes=tuple(writes), token=token, witness=cell)
        return not isinstance(await self._session.commit(batch), Conflict)


def _ignore(rate_id: str, error: Exception) -> None:
    """For who tells nobody."""


async def copy_rate(source: Session, target: Session, place: RunId) -> None:
    """Copy a key from one server to another that has nothing of it."""
    slot, cell = slot_of(place), rate_cell(place)
    stored, shown = (await source.read(Read(slot=slot, cells=(cell, shown_cell(place))))).cells
    if stored.version:
        writes: tuple[Write, ...] = (Put(cell, stored.value), Enter(keys.RATES, place.removeprefix(RATE_PREFIX)))
        if shown.version:
            writes += (Put(shown_cell(place), shown.value),)
        if look_ms := decode_rate(stored.value).look_ms:
            writes += (enter_timer(place, look_ms),)
        await target.commit(Batch(slot=slot, checks=(Check(cell, ABSENT),), writes=writes))  # or it is there


def rate_place(rate_id: str) -> RunId:
    """Return the partition of a key, which has its place among the slots as a run has."""
    return RunId(f"{RATE_PREFIX}{rate_id}")


def rate_cell(place: RunId) -> Key:
    """Return the cell of a key."""
    return Key(place, "rate")


def encode_rate(state: RateState, token: bytes = b"") -> bytes:
    """Encode a key."""
    override = () if state.override is None else tuple(state.override)
    return pack_record(
        RATE, tuple(state.declared), override, state.next_us, state.line_us, state.look_ms, token, state.again_us
    )  # fmt: skip


def decode_rate(data: bytes) -> RateState:
    """Decode a key.

    Raises:
        CodecError: The bytes are none.
    """
    fields = unpack_record(RATE, data)
    declared, override, next_us, line_us, look_ms = fields[:5]
    return RateState(
        declared=_rate(declared), override=_rate(override) if override else None, next_us=next_us, line_us=line_us,
        look_ms=look_ms, again_us=fields[6] if len(fields) > 6 else 0,
    )  # fmt: skip


def _rate(numbers: Any) -> Rate:
    rate = Rate(*NUMBERS.part(numbers))
    if rate.limit < 1 or rate.per_ms < 1 or rate.burst < 0:
        raise CodecError("A key of a rate limit has no rate that could be one.")
    return rate
