"""Schedules as stored: what each is to do, how far it is, and its one timer, all in the slot of its name.

What it is to do changes when somebody says so; how far it is, with each occurrence. Whoever writes the one checks the
other, so that nothing is decided on what is not said any more. The timer is written with the state, always in the same
batch, and bears its number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.schedules import Occasion, Overlap, PlannedRun, RunTemplate, ScheduleSpec, ScheduleState, Settled
from floxide_amqp.core.timers import Timer, TimerKind
from floxide_amqp.exceptions import CodecError, NewerFormatError
from floxide_amqp.ports.key_value import (
    ABSENT,
    Batch,
    Cell,
    Check,
    Conflict,
    Delete,
    Enter,
    IndexRange,
    Leave,
    Put,
    Read,
    Write,
)
from floxide_amqp.stores import keys, schedule_keys
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.packing import ARRAY, BOOL, BYTES, INT, NONE, STR, Shape, pack_record, unpack_record
from floxide_amqp.stores.record_codec import encode_timer_value
from floxide_amqp.stores.session import Session

TEMPLATE: Final = Shape(
    "template of runs", 8, workflow=STR, version=STR, start=STR, queue=STR, timeout_ms=INT | NONE, input=BYTES,
    context=BYTES, hook=BYTES,
)  # fmt: skip
SPEC: Final = Shape(
    "schedule", 11, name=STR, template=ARRAY, every_ms=INT, cron=STR, timezone=STR, jitter_ms=INT, overlap=STR,
    catch_up_ms=INT, digest=STR, created_at_ms=INT, token=BYTES,
)  # fmt: skip
PLANNED: Final = Shape("planned run", 3, run_id=STR, at_ms=INT, cancels=ARRAY)
SETTLED: Final = Shape("settled occurrence", 5, occasion=STR, at_ms=INT, settled_at_ms=INT, run_id=STR, count=INT)
STATE: Final = Shape(
    "state of a schedule", 14, number=INT, paused=BOOL, note=STR, next_ms=INT, last_ms=INT, timer_ms=INT,
    starting=ARRAY, queue=ARRAY, open_runs=ARRAY, started=INT, skipped=INT, missed=INT, recent=ARRAY, token=BYTES,
)  # fmt: skip

_OVERLAPS: Final = {each.value: each for each in Overlap}
_OCCASIONS: Final = {each.value: each for each in Occasion}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSchedule:
    """A schedule as of one moment, with the versions of its two cells."""

    spec: ScheduleSpec
    state: ScheduleState
    spec_version: int
    state_version: int


class ScheduleStore:
    """Reads and writes schedules."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def find(self, name: str) -> StoredSchedule | None:
        """Return a schedule, or None where there is none.

        Raises:
            UnreadableRecordError: It cannot be read.
        """
        wanted = (schedule_keys.schedule_spec(name), schedule_keys.schedule_state(name))
        read = Read(slot=slot_of(schedule_keys.schedule_partition(name)), cells=wanted)
        spec, state = (await self._session.read(read)).cells
        if not spec.version or not state.version:
            return None
        return StoredSchedule(
            spec=read_record(decode_spec, spec.value, wanted[0]),
            state=read_record(decode_progress, state.value, wanted[1]),
            spec_version=spec.version, state_version=state.version,
        )  # fmt: skip

    async def names(self, *, after: str = "", limit: int = 100) -> list[str]:
        """Return the names of schedules, in order, behind one of them."""
        found = await self._session.scan(IndexRange(schedule_keys.SCHEDULES, after=after, limit=limit))
        return [entry.entry for entry in found]

    async def write(self, spec: ScheduleSpec, state: ScheduleState, before: StoredSchedule | None) -> bool:
        """Write a schedule in place of what it was; return whether nobody else was faster.

        Args:
            spec: What it is to do.
            state: How far it is, numbered anew.
            before: The schedule as it was read; None for a new one.
        """
        name, token = spec.name, self._session.new_token()
        partition, witness = schedule_keys.schedule_partition(name), schedule_keys.schedule_state(name)
        checks = (
            Check(schedule_keys.schedule_spec(name), ABSENT if before is None else before.spec_version),
            Check(witness, ABSENT if before is None else before.state_version),
        )
        writes: list[Write] = [Put(witness, encode_progress(state, token))]
        if before is None or before.spec != spec:
            writes += [Put(schedule_keys.schedule_spec(name), encode_spec(spec)), Enter(schedule_keys.SCHEDULES, name)]
        if before is not None and before.state.timer_ms:
            writes.append(Leave(keys.TIMERS, keys.timer_entry(timer_of(name, before.state))))
        writes += timer_writes(name, state)
        batch = Batch(slot=slot_of(partition), checks=checks, writes=tuple(writes), token=token, witness=witness)
        return not isinstance(await self._session.commit(batch), Conflict)

    async def delete(self, stored: StoredSchedule) -> bool:
        """Forget a schedule; return whether nobody else was faster."""
        name = stored.spec.name
        spec, state = schedule_keys.schedule_spec(name), schedule_keys.schedule_state(name)
        writes: list[Write] = [Delete(spec), Delete(state), Leave(schedule_keys.SCHEDULES, name)]
        if stored.state.timer_ms:
            writes.append(Leave(keys.TIMERS, keys.timer_entry(timer_of(name, stored.state))))
        batch = Batch(
            slot=slot_of(schedule_keys.schedule_partition(name)),
            checks=(Check(spec, stored.spec_version), Check(state, stored.state_version)), writes=tuple(writes),
        )  # fmt: skip
        return not isinstance(await self._session.commit(batch), Conflict)

    async def drop_timer(self, timer: Timer) -> None:
        """Take a timer off the list that is no schedule's any more."""
        leave = Leave(keys.TIMERS, keys.timer_entry(timer))
        await self._session.commit(Batch(slot=slot_of(timer.run_id), writes=(leave,)))


def timer_of(name: str, state: ScheduleState) -> Timer:
    """Return the timer that goes with a schedule's state."""
    return Timer(
        due_ms=state.timer_ms, run_id=schedule_keys.schedule_partition(name), kind=TimerKind.SCHEDULE, turn=state.number
    )  # fmt: skip


def timer_writes(name: str, state: ScheduleState) -> tuple[Write, ...]:
    """Return what sets the timer that goes with a schedule's state; nothing where it has none."""
    if not state.timer_ms:
        return ()
    timer = timer_of(name, state)
    return (Enter(keys.TIMERS, keys.timer_entry(timer), encode_timer_value(timer.kind, timer.turn)),)


def copied_schedule(name: str, spec: Cell, state: Cell) -> tuple[Write, ...]:
    """Return what writes a schedule, as it lies on one server, to another that has nothing of it.

    Raises:
        UnreadableRecordError: It cannot be read.
    """
    spec_key, state_key = schedule_keys.schedule_spec(name), schedule_keys.schedule_state(name)
    read = read_record(decode_progress, state.value, state_key)
    return (
        Put(spec_key, spec.value), Put(state_key, state.value),
        Enter(schedule_keys.SCHEDULES, name), *timer_writes(name, read)
    )  # fmt: skip


def encode_spec(spec: ScheduleSpec) -> bytes:
    """Encode what a schedule is to do."""
    t = spec.template
    template = (t.workflow, t.version, t.start, t.queue, t.timeout_ms, t.input, t.context, t.hook)
    return pack_record(
        SPEC, spec.name, template, spec.every_ms, spec.cron, spec.timezone, spec.jitter_ms, spec.overlap.value,
        spec.catch_up_ms, spec.digest, spec.created_at_ms, b"",
    )  # fmt: skip


def decode_spec(data: bytes) -> ScheduleSpec:
    """Decode what a schedule is to do.

    Raises:
        CodecError: The bytes are nothing of the kind.
    """
    v: Sequence[Any] = unpack_record(SPEC, data)
    workflow, version, start, queue, timeout_ms, input_, context, hook = TEMPLATE.part(v[1])
    template = RunTemplate(
        workflow=workflow, version=version, start=start, queue=queue, timeout_ms=timeout_ms, input=input_,
        context=context, hook=hook,
    )  # fmt: skip
    overlap = _OVERLAPS.get(v[6])
    if overlap is None:
        raise NewerFormatError(what="schedule", found=f"the overlap policy {v[6]!r:.40}")
    return ScheduleSpec(
        name=v[0], template=template, every_ms=v[2], cron=v[3], timezone=v[4], jitter_ms=v[5], overlap=overlap,
        catch_up_ms=v[7], digest=v[8], created_at_ms=v[9],
    )  # fmt: skip


def encode_progress(state: ScheduleState, token: bytes = b"") -> bytes:
    """Encode how far a schedule is; `token` is the commit that writes it."""
    return pack_record(
        STATE, state.number, state.paused, state.note, state.next_ms, state.last_ms, state.timer_ms,
        tuple(map(_planned_out, state.starting)), tuple(map(_planned_out, state.queue)), state.open_runs,
        state.started, state.skipped, state.missed,
        tuple((each.occasion.value, each.at_ms, each.settled_at_ms, each.run_id, each.count) for each in state.recent),
        token,
    )  # fmt: skip


def decode_progress(data: bytes) -> ScheduleState:
    """Decode how far a schedule is.

    Raises:
        CodecError: The bytes are nothing of the kind.
    """
    v: Sequence[Any] = unpack_record(STATE, data)
    return ScheduleState(
        number=v[0], paused=v[1], note=v[2], next_ms=v[3], last_ms=v[4], timer_ms=v[5],
        starting=tuple([_planned_in(each) for each in v[6]]), queue=tuple([_planned_in(each) for each in v[7]]),
        open_runs=_run_ids(v[8]), started=v[9], skipped=v[10], missed=v[11],
        recent=tuple([_settled_in(each) for each in v[12]]),
    )  # fmt: skip


def _planned_out(planned: PlannedRun) -> tuple[Any, ...]:
    return planned.run_id, planned.at_ms, planned.cancels


def _planned_in(values: Any) -> PlannedRun:
    run_id, at_ms, cancels = PLANNED.part(values)
    return PlannedRun(run_id=RunId(run_id), at_ms=at_ms, cancels=_run_ids(cancels))


def _settled_in(values: Any) -> Settled:
    occasion, at_ms, settled_at_ms, run_id, count = SETTLED.part(values)
    known = _OCCASIONS.get(occasion)
    if known is None:
        raise NewerFormatError(what="settled occurrence", found=f"the occasion {occasion!r:.40}")
    return Settled(occasion=known, at_ms=at_ms, settled_at_ms=settled_at_ms, run_id=run_id, count=count)


def _run_ids(values: Any) -> tuple[RunId, ...]:
    if not all(isinstance(each, str) for each in values):
        raise CodecError("Not every id of a run is a text.")
    return tuple([RunId(each) for each in values])
