"""Group 3: runs that wait for a time, begin later or end too late; a schedule, and what is triggered of it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

from floxide_amqp import Context, Hold, Occasion, RunNotFoundError, Schedule, Workflow, WorkflowCtx, node
from tests.chaos.checks.timers import DELAY_SECONDS, EVERY_SECONDS, HELD_SECONDS, LONG_SECONDS, SCHEDULE
from tests.chaos.groups.desk import Desk, Group
from tests.chaos.notes import note


class Waited(Context):
    has_waited: bool = False


@node
async def rest(ctx: WorkflowCtx[Waited], seconds: float) -> str | Hold:
    if ctx.state.has_waited:
        note(ctx, "on")
        return "rested"
    ctx.state.has_waited = True
    note(ctx, "held")
    return Hold(for_=seconds)


class Resting(Workflow[float, str, Waited], version="1"):
    start = rest


@node
async def wait_until(ctx: WorkflowCtx[Waited], seconds: float) -> str | Hold:
    if ctx.state.has_waited:
        note(ctx, "on")
        return "rested"
    ctx.state.has_waited = True
    note(ctx, "held")
    return Hold(until_time=datetime.now(UTC) + timedelta(seconds=seconds))


class WaitingUntil(Workflow[float, str, Waited], version="1"):
    start = wait_until


@node
async def tick(ctx: WorkflowCtx, what: str) -> str:
    return what


class Ticking(Workflow[str, str], version="1"):
    start = tick


BEAT = Schedule(SCHEDULE, Ticking, "beat", every=EVERY_SECONDS, overlap="allow")


async def deed(desk: Desk, kind: str, number: int) -> None:
    """Start a run that has to do with times, and wait for its end."""
    run_id = f"timers-{kind}-{number}"
    match kind:
        case "for":
            await desk.start(Resting, HELD_SECONDS, run_id)
        case "until":
            await desk.start(WaitingUntil, HELD_SECONDS, run_id)
        case "delayed":
            await desk.start(Ticking, run_id, run_id, delay=DELAY_SECONDS)
        case "deadline":
            await desk.start(Resting, LONG_SECONDS, run_id, timeout=DELAY_SECONDS)
        case "triggered":
            schedules = desk.orchestrator.schedules
            await desk.ask(lambda: schedules.put(BEAT))
            run_id = await desk.ask(lambda: _trigger(desk, number))
            await desk.until(lambda: _is_there(desk, run_id))  # it is decided on, and whoever leads may start it
            desk.journal.write(f"started {run_id}")
    await desk.end_of(run_id)


async def _trigger(desk: Desk, number: int) -> str:
    desk.tell("triggering", SCHEDULE)  # one that is repeated much later counts again, and is the same run
    return await desk.orchestrator.schedules.trigger(SCHEDULE, trigger_id=str(number))


async def _is_there(desk: Desk, run_id: str) -> bool:
    with suppress(RunNotFoundError):
        await desk.orchestrator.status(run_id)
        return True
    return False


async def close(desk: Desk) -> None:
    """Let the schedule start nothing any more, once it has started something by itself."""
    await desk.ask(lambda: desk.orchestrator.schedules.put(BEAT))
    await desk.until(lambda: _has_begun(desk))
    await desk.ask(lambda: desk.orchestrator.schedules.pause(SCHEDULE))
    info = await desk.ask(lambda: desk.orchestrator.schedules.get(SCHEDULE))
    desk.tell("schedule", SCHEDULE, {"started": info.started, "skipped": info.skipped, "missed": info.missed})


async def _has_begun(desk: Desk) -> bool:
    info = await desk.orchestrator.schedules.get(SCHEDULE)
    return info.paused or any(event.what is Occasion.STARTED for event in info.recent)


GROUP = Group(
    3, "timers", ("triggered", "for", "until", "delayed", "deadline"), (Resting, WaitingUntil, Ticking), deed, close
)
