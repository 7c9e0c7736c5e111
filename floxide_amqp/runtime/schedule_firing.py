"""What is done when a schedule is due: settling occurrences, and starting the runs that were decided on.

What is due is first settled with one commit, which names the runs that are to be started, and then they are started.
So whoever finds it settled, after a crash or beside somebody slower, starts the same runs, which is no more than to
find them there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.schedules import Overlap, PlannedRun, ScheduleSpec, ScheduleState, next_turn, timed
from floxide_amqp.core.timers import Timer
from floxide_amqp.exceptions import RunDeletedError, RunNotFoundError, UnreadableRecordError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.control_actions import cancel_run
from floxide_amqp.runtime.occurrences import timing_of
from floxide_amqp.runtime.scheduled_runs import start_planned
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores import schedule_keys
from floxide_amqp.stores.schedules import StoredSchedule, timer_of
from floxide_amqp.stores.session import WAITED_FOR

_log = get_logger("floxide_amqp.schedules")

MAX_TURNS: Final = 100
"""Runs that one firing of a schedule starts at most: others wait for their turn."""

FAR_SECONDS: Final = 5.0
"""Longest wait for the server of a run, where it is not that of the schedule."""


async def fire_schedule(services: Services, timer: Timer) -> bool:
    """Do what is due of a schedule; return whether nobody else was faster.

    Raises:
        ConfigurationError: This process cannot tell when the next occurrence is.
    """
    name = schedule_keys.schedule_of(timer.run_id) or ""
    stored = await services.schedules.find(name)
    if stored is None or timer_of(name, stored.state) != timer:
        await services.schedules.drop_timer(timer)
        return True
    for _ in range(MAX_TURNS):
        following = await _turn(services, stored)
        if following is None:
            return False
        if following.state.timer_ms == 0 or not _is_to_go_on(stored.state, following.state):
            break
        stored = following
    return True


async def _turn(services: Services, stored: StoredSchedule) -> StoredSchedule | None:
    """Start what was decided on, and decide on what is next; None where somebody else was faster."""
    spec, before = stored.spec, stored.state
    left = tuple([each for each in before.starting if not await _is_started(services, spec, each)])
    over = await _over(services, spec, before, left)
    now = services.now_ms(schedule_keys.schedule_partition(spec.name))
    state = next_turn(spec, replace(before, starting=left), now, over, timing_of(spec))
    if state.missed > before.missed:
        _log.warning("schedule.missed", schedule=spec.name, occurrences=state.missed - before.missed)
    return await write_schedule(services, spec, state, stored, now, waits=state.starting == left)


def _is_to_go_on(before: ScheduleState, after: ScheduleState) -> bool:
    """Whether there is something to be started that could not be started just now."""
    tried = {each.run_id for each in before.starting}
    return any(each.run_id not in tried for each in after.starting)


async def write_schedule(
    services: Services, spec: ScheduleSpec, state: ScheduleState, before: StoredSchedule | None, now_ms: int,
    *, waits: bool = False,
) -> StoredSchedule | None:  # fmt: skip
    """Write a schedule in place of what it was, with its timer; return it as it is now, None where somebody was faster.

    Args:
        services: The process's parts.
        spec: What it is to do.
        state: How far it is.
        before: The schedule as it was read; None for a new one.
        now_ms: The time, of its server.
        waits: Whether what is in `state.starting` could not be started just now.
    """
    state = timed(spec, state, now_ms, left=waits)
    if not await services.schedules.write(spec, state, before):
        return None
    if state.timer_ms:
        services.whole.on_timer(timer_of(spec.name, state))
    is_new = before is None or before.spec != spec
    return StoredSchedule(
        spec=spec, state=state, spec_version=(0 if before is None else before.spec_version) + is_new,
        state_version=1 if before is None else before.state_version + 1,
    )  # fmt: skip


async def _is_started(services: Services, spec: ScheduleSpec, planned: PlannedRun) -> bool:
    """Start a run, after those were cancelled that it takes the place of; False where their server is away."""
    whole = services.whole
    run_ids = (*planned.cancels, planned.run_id)
    if any(whole.is_out_of_reach(run_id) for run_id in run_ids):
        return False
    here = whole.session.beside(schedule_keys.schedule_partition(spec.name))
    is_far = any(whole.session.beside(run_id) is not here for run_id in run_ids)
    try:
        async with asyncio.timeout(FAR_SECONDS if is_far else None):
            for run_id in planned.cancels:
                await _cancel(whole, run_id, spec.name)
            await start_planned(whole, spec, planned)
    except (TimeoutError, *WAITED_FOR) as error:
        if not is_far:
            raise
        _log.warning("schedule.waits_for_server", schedule=spec.name, run_id=planned.run_id, error=str(error))
        return False
    return True


async def was_begun(services: Services, name: str, run_id: RunId) -> bool:
    """Return whether a run of a schedule is there, or was until not long ago; False where its server is away."""
    whole = services.whole
    if whole.is_out_of_reach(run_id):
        return False
    is_far = whole.session.beside(run_id) is not whole.session.beside(schedule_keys.schedule_partition(name))
    try:
        async with asyncio.timeout(FAR_SECONDS if is_far else None):
            await whole.runs.load(run_id)
    except (RunDeletedError, UnreadableRecordError):
        return True
    except RunNotFoundError:
        return False
    except (TimeoutError, *WAITED_FOR):
        if not is_far:
            raise
        return False
    return True


async def begin_planned(services: Services, stored: StoredSchedule, run_id: RunId) -> None:
    """Start a run that was decided on, whatever has become of the schedule since."""
    for planned in stored.state.starting:
        if planned.run_id == run_id and not await was_begun(services, stored.spec.name, run_id):
            await _is_started(services, stored.spec, planned)


async def _cancel(services: Services, run_id: RunId, name: str) -> None:
    try:
        await cancel_run(services, run_id, reason=f"the next run of schedule {name!r} begins", by=f"schedule {name}")
    except RunNotFoundError:
        return


async def _over(
    services: Services, spec: ScheduleSpec, state: ScheduleState, left: Sequence[PlannedRun]
) -> frozenset[RunId]:
    """Return those of a schedule's open runs that are over; of one whose server is away nobody knows."""
    if spec.overlap is Overlap.ALLOW:
        return frozenset()
    whole, waiting = services.whole, {each.run_id for each in left}
    here = whole.session.beside(schedule_keys.schedule_partition(spec.name))
    over: set[RunId] = set()
    for run_id in state.open_runs:
        if run_id in waiting or whole.is_out_of_reach(run_id):
            continue
        is_far = whole.session.beside(run_id) is not here
        try:
            async with asyncio.timeout(FAR_SECONDS if is_far else None):
                run = await whole.runs.find(run_id)
        except (TimeoutError, *WAITED_FOR):
            if not is_far:
                raise
            continue
        if run is None or run.state.status.is_terminal:
            over.add(run_id)
    return frozenset(over)
