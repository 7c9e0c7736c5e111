"""Schedules: what they are, and what falls due of them at a moment. Pure: clocks and calendars come in as arguments.

An *occurrence* is a moment at which a schedule says that a run shall begin. Each is settled once: begun, put into the
queue, skipped because of what still runs, or missed because nobody was there for too long. What is settled is written
before the run is started, with the run's id, so whoever finds it written starts the same run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Protocol

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.instants import at

MAX_PASSED: Final = 1_000
"""Occurrences that one commit settles at most; those left over come with the next."""

MAX_QUEUED: Final = 100
"""Occurrences that wait for the runs before them at most; those beyond are skipped."""

MAX_OPEN: Final = 100
"""Runs that a schedule remembers as not over."""

MAX_RECENT: Final = 20
"""Settled occurrences that are kept to be looked at."""

ON_TIME_MS = 60_000
"""An occurrence that is late by no more than that was not missed: rounds of maintenance and commits take their time."""

LOOK_MS: Final = 5_000
"""Between two looks at whether the run has ended for whose end an occurrence waits."""


class Overlap(Enum):
    """What becomes of an occurrence while a run of the same schedule is not over."""

    SKIP = "skip"
    """No run is started."""
    QUEUE = "queue"
    """Its run is started when the ones before it are over."""
    CANCEL_PREVIOUS = "cancel_previous"
    """The runs before it are cancelled, and its run is started at once."""
    ALLOW = "allow"
    """Its run is started beside the others."""


class Occasion(Enum):
    """What became of an occurrence."""

    STARTED = "started"
    TRIGGERED = "triggered"
    SKIPPED = "skipped"
    MISSED = "missed"


class Timing(Protocol):
    """When a schedule's occurrences are."""

    def after(self, at_ms: int) -> int:
        """Return the first occurrence later than a moment, milliseconds since 1970; 0 where there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTemplate:
    """What a schedule's runs are started with, so that a process without their workflow can start them.

    Attributes:
        input, context: Encoded; sealed as they lie in the store.
        hook: What stands for the node that runs first if such a run is cancelled, encoded; empty for none.
    """

    workflow: str
    version: str
    start: str
    queue: str
    timeout_ms: int | None
    input: bytes
    context: bytes
    hook: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec:
    """What somebody has said of a schedule: it changes only when they say something else.

    Attributes:
        every_ms: Between two occurrences, counted from 1970; 0 where `cron` says when.
        cron: A cron expression, in `timezone`; empty where `every_ms` says when.
        jitter_ms: Each occurrence is put off by a part of it of its own.
        catch_up_ms: Occurrences older than that are missed.
        digest: Tells whether another schedule of the name says the same.
    """

    name: str
    template: RunTemplate
    every_ms: int
    cron: str
    timezone: str
    jitter_ms: int
    overlap: Overlap
    catch_up_ms: int
    digest: str
    created_at_ms: int

    @property
    def timing(self) -> tuple[int, str, str]:
        """What says when its occurrences are."""
        return self.every_ms, self.cron, self.timezone

    def due_ms(self, at_ms: int) -> int:
        """Return when an occurrence is due: with jitter later than it is, by the same for ever."""
        if not self.jitter_ms:
            return at_ms
        digest = hashlib.blake2b(f"{self.name}\0{at_ms}".encode(), digest_size=8).digest()
        return at_ms + int.from_bytes(digest, "big") * self.jitter_ms // 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """A run that is to be started.

    Attributes:
        at_ms: Its occurrence, or when somebody triggered it.
        cancels: Runs that are cancelled before.
    """

    run_id: RunId
    at_ms: int
    cancels: tuple[RunId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of an occurrence, or of several in a row.

    Attributes:
        at_ms: The occurrence; of several the last one.
        settled_at_ms: When that was decided.
        run_id: The run it started; empty for none.
        count: How many occurrences; at most 1,000 are counted in a row.
    """

    occasion: Occasion
    at_ms: int
    settled_at_ms: int
    run_id: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleState:
    """How far a schedule is.

    Attributes:
        number: Rises with each change; a timer of another number is an old one.
        paused: Whether nothing begins but what is triggered.
        note: Why, in the words of whoever paused it.
        next_ms: The next occurrence; 0 for none.
        last_ms: The last occurrence that was settled; 0 for none.
        timer_ms: When its timer is due; 0 for none.
        starting: Runs that are decided on and may not be started yet.
        queue: Runs that wait for the end of those before them.
        open_runs: Runs that were not over when it last looked.
        started, skipped, missed: How many occurrences.
        recent: What became of the last ones, the latest last.
    """

    number: int = 0
    paused: bool = False
    note: str = ""
    next_ms: int = 0
    last_ms: int = 0
    timer_ms: int = 0
    starting: tuple[PlannedRun, ...] = ()
    queue: tuple[PlannedRun, ...] = ()
    open_runs: tuple[RunId, ...] = ()
    started: int = 0
    skipped: int = 0
    missed: int = 0
    recent: tuple[Settled, ...] = ()


def run_id_at(name: str, at_ms: int) -> RunId:
    """Return the id of an occurrence's run, such as ``nightly@2026-07-01T00:00:00Z``."""
    text = at(at_ms).isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds")
    return RunId(f"{name}@{text.replace('+00:00', 'Z')}")


def triggered_run_id(name: str, trigger_id: str) -> RunId:
    """Return the id of a run that somebody triggered."""
    return RunId(f"{name}@trigger-{trigger_id}")


def next_turn(
    spec: ScheduleSpec, state: ScheduleState, now_ms: int, over: Collection[RunId], timing: Timing
) -> ScheduleState:
    """Settle what is due, up to the first run that is to be started.

    Args:
        spec: The schedule.
        state: How far it is; what is left in `starting` waits for a server that is away.
        now_ms: The time, of the server that has the schedule.
        over: Those of its open runs that are over.
        timing: When its occurrences are.

    Returns:
        The state to commit; the runs in its `starting` are to be started once it stands.
    """
    state = replace(state, open_runs=tuple([each for each in state.open_runs if each not in over]))
    if state.paused:
        return state
    state = _missed(spec, state, now_ms, timing)
    if state.queue and (spec.overlap is Overlap.ALLOW or not state.open_runs):
        return _begun(spec, replace(state, queue=state.queue[1:]), state.queue[0], now_ms)
    for _ in range(MAX_PASSED):
        at_ms = state.next_ms
        if not at_ms or spec.due_ms(at_ms) > now_ms:
            break
        state = replace(state, next_ms=timing.after(at_ms), last_ms=at_ms)
        planned = PlannedRun(run_id=run_id_at(spec.name, at_ms), at_ms=at_ms)
        is_busy = bool(state.open_runs or state.queue)
        if spec.overlap is Overlap.CANCEL_PREVIOUS and state.next_ms and spec.due_ms(state.next_ms) <= now_ms:
            state = _skipped(state, at_ms, now_ms)  # it would be cancelled at once
        elif spec.overlap is Overlap.CANCEL_PREVIOUS:
            return _begun(spec, state, replace(planned, cancels=state.open_runs), now_ms)
        elif spec.overlap is Overlap.ALLOW or not is_busy:
            return _begun(spec, state, planned, now_ms)
        elif spec.overlap is Overlap.QUEUE and len(state.queue) < MAX_QUEUED:
            state = replace(state, queue=(*state.queue, planned))
        else:
            state = _skipped(state, at_ms, now_ms)
    return state


def triggered(spec: ScheduleSpec, state: ScheduleState, trigger_id: str, now_ms: int) -> ScheduleState:
    """Return a schedule of which a run is to be started now, whatever its policy, and also while it is paused."""
    run_id = triggered_run_id(spec.name, trigger_id)
    known = (*state.open_runs, *(each.run_id for each in state.starting), *(each.run_id for each in state.recent))
    if run_id in known:
        return state
    return _begun(spec, state, PlannedRun(run_id=run_id, at_ms=now_ms), now_ms, Occasion.TRIGGERED)


def paused(state: ScheduleState, note: str) -> ScheduleState:
    """Return a schedule of which nothing begins any more; what waits in its queue is kept."""
    return replace(state, paused=True, note=note)


def resumed(state: ScheduleState, now_ms: int, timing: Timing) -> ScheduleState:
    """Return a schedule that goes on from now: occurrences during the pause are no misses, and are not caught up."""
    if not state.paused:
        return state
    return replace(state, paused=False, note="", next_ms=timing.after(max(now_ms, state.last_ms)))


def timed(spec: ScheduleSpec, state: ScheduleState, now_ms: int, *, left: bool = False) -> ScheduleState:
    """Return the state as it is to be committed: numbered, and with the time at which it is to be looked at again.

    Args:
        spec: The schedule.
        state: How far it is.
        now_ms: The time.
        left: Whether what is in `starting` could not be started, and shall wait a little.
    """
    times: list[int] = []
    if state.starting:
        times.append(now_ms + (LOOK_MS if left else 0))
    if not state.paused:
        if state.queue:
            times.append(now_ms + LOOK_MS)
        if state.next_ms:
            times.append(spec.due_ms(state.next_ms))
    return replace(state, number=state.number + 1, timer_ms=min(times, default=0))


def _missed(spec: ScheduleSpec, state: ScheduleState, now_ms: int, timing: Timing) -> ScheduleState:
    """Pass over occurrences that are too old to be caught up; of very many in a row only the first are counted."""
    too_old = now_ms - max(spec.catch_up_ms, ON_TIME_MS)
    at_ms, last_ms, count = state.next_ms, state.last_ms, 0
    while at_ms and spec.due_ms(at_ms) < too_old:
        last_ms, count = at_ms, count + 1
        at_ms = timing.after(at_ms if count < MAX_PASSED else max(at_ms, too_old - spec.jitter_ms - 1))
        if count >= MAX_PASSED:
            break
    if not count:
        return state
    settled = Settled(occasion=Occasion.MISSED, at_ms=last_ms, settled_at_ms=now_ms, count=count)
    recent = (*state.recent, settled)[-MAX_RECENT:]
    return replace(state, next_ms=at_ms, last_ms=last_ms, missed=state.missed + count, recent=recent)


def _skipped(state: ScheduleState, at_ms: int, now_ms: int) -> ScheduleState:
    before, recent = state.recent[-1:], state.recent
    settled = Settled(occasion=Occasion.SKIPPED, at_ms=at_ms, settled_at_ms=now_ms)
    if before and before[0].occasion is Occasion.SKIPPED:
        settled, recent = replace(settled, count=before[0].count + 1), recent[:-1]
    return replace(state, skipped=state.skipped + 1, recent=(*recent, settled)[-MAX_RECENT:])


def _begun(
    spec: ScheduleSpec, state: ScheduleState, planned: PlannedRun, now_ms: int, occasion: Occasion = Occasion.STARTED
) -> ScheduleState:
    settled = Settled(occasion=occasion, at_ms=planned.at_ms, settled_at_ms=now_ms, run_id=planned.run_id)
    remembered = () if spec.overlap is Overlap.ALLOW else state.open_runs
    return replace(
        state, starting=(*state.starting, planned), open_runs=(*remembered, planned.run_id)[-MAX_OPEN:],
        started=state.started + 1, recent=(*state.recent, settled)[-MAX_RECENT:],
    )  # fmt: skip
