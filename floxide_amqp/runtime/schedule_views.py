"""What is said of a schedule: no bytes, no numbers of milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from floxide_amqp.core.instants import at
from floxide_amqp.core.schedules import Occasion, Overlap
from floxide_amqp.stores.schedules import StoredSchedule


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleEvent:
    """What became of an occurrence, or of several in a row.

    Attributes:
        what: Started, triggered by somebody, skipped because of what still ran, or missed because it was too old.
        at: The occurrence; of several the last one; aware UTC.
        settled_at: When that was decided.
        run_id: The run it started; empty for none.
        count: How many occurrences; of many in a row that were missed at most 1,000 are counted at a time.
    """

    what: Occasion
    at: datetime
    settled_at: datetime
    run_id: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleInfo:
    """A schedule.

    Attributes:
        every: Between two occurrences; None where `cron` says when.
        cron: A cron expression in `timezone`; empty where `every` says when.
        note: Why it is paused, in the words of whoever did it.
        next_at: The next occurrence, without jitter, aware UTC; None for none, or while it is paused.
        last_at: The last occurrence that was settled.
        waiting: Occurrences whose runs wait for the end of those before them.
        open_runs: Its runs that were not over when it last looked; with `Overlap.ALLOW` only the last one it started.
        started, skipped, missed: How many occurrences, since it was made.
        recent: What became of the last ones, the latest last.
    """

    name: str
    workflow: str
    version: str
    every: timedelta | None
    cron: str
    timezone: str
    jitter: timedelta
    overlap: Overlap
    catch_up: timedelta
    paused: bool
    note: str
    created_at: datetime
    next_at: datetime | None
    last_at: datetime | None
    waiting: int
    open_runs: Sequence[str]
    started: int
    skipped: int
    missed: int
    recent: Sequence[ScheduleEvent]


def schedule_info(stored: StoredSchedule) -> ScheduleInfo:
    """Return what is said of a schedule."""
    spec, state = stored.spec, stored.state
    return ScheduleInfo(
        name=spec.name, workflow=spec.template.workflow, version=spec.template.version,
        every=timedelta(milliseconds=spec.every_ms) if spec.every_ms else None, cron=spec.cron, timezone=spec.timezone,
        jitter=timedelta(milliseconds=spec.jitter_ms), overlap=spec.overlap,
        catch_up=timedelta(milliseconds=spec.catch_up_ms), paused=state.paused, note=state.note,
        created_at=at(spec.created_at_ms), next_at=at(state.next_ms) if state.next_ms and not state.paused else None,
        last_at=at(state.last_ms) if state.last_ms else None, waiting=len(state.queue), open_runs=state.open_runs,
        started=state.started, skipped=state.skipped, missed=state.missed,
        recent=tuple([
            ScheduleEvent(
                what=each.occasion, at=at(each.at_ms), settled_at=at(each.settled_at_ms), run_id=each.run_id,
                count=each.count,
            )
            for each in state.recent
        ]),
    )  # fmt: skip
