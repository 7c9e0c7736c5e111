"""Resuming a run: its live items become pending, one commit says that it goes on, then they are brought on their way.

The items of a failed run are reset before the commit that lets it go on, while nothing but this touches them: later,
those that somebody works on again could not be told from those that were left behind. The commit also sets a timer
that brings the items on their way, and doing it takes the timer away: whoever resumes a run may die in between, and the
run goes on all the same.

A run may have more items than are brought back in the time that the timer leaves. So they are brought back in
stretches, and after each the timer moves on: it says from where on somebody else would have to do it, and not before
the next stretch should be done.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator
from dataclasses import replace

from floxide_amqp.core import moves, publish_moves, run_moves
from floxide_amqp.core.bodies import is_at_work
from floxide_amqp.core.decisions import Decision
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.place_changes import DropTimer, SetTimer
from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind
from floxide_amqp.exceptions import InvalidRunStateError, UnreadableRecordError
from floxide_amqp.ports.key_value import Check, Conflict
from floxide_amqp.runtime.control_actions import NOBODY, Request, control, follow_end
from floxide_amqp.runtime.frontier import ENDED
from floxide_amqp.runtime.messages import ControlKind
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import AT_ONCE, side_by_side
from floxide_amqp.runtime.unreadable import fail_unreadable
from floxide_amqp.stores import keys
from floxide_amqp.stores.items import PAGE
from floxide_amqp.stores.parked_places import leave_parked
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.session import WAITED_FOR
from floxide_amqp.stores.writes import BatchWriter

AGAIN_AFTER_MS = 60_000
"""When somebody else brings items on their way, if who resumed the run has not: longer than a stretch takes, even
where the broker is away and a publish takes its whole deadline."""

STRETCH_SECONDS = 5.0
"""After that time a stretch ends with the page it is at, so that what brings back a large run for another does not keep
a round of maintenance from its end."""

RESUMABLE = (RunStatus.PAUSED, RunStatus.FAILED)

RESET = frozenset(
    {
        WorkItemStatus.FAILED,
        WorkItemStatus.IN_PROGRESS,
        WorkItemStatus.WAITING_RETRY,
        WorkItemStatus.HELD,
        WorkItemStatus.PARKED,
    }
)
"""Items of a failed run that become pending: its timers do not fire, and its workers have dropped their steps.

Not one whose body may still be at work and is to be undone: it stays in its worker's hands until that has ended.
"""


async def resume_run(
    services: Services, run_id: RunId, *, action: str = "resume", detail: str = "", request: Request = NOBODY
) -> bool:
    """Let a paused or failed run go on; return whether it was one, for one that runs is left as it is.

    One that has failed while it undid what was done goes on with that.

    Args:
        services: The process's parts.
        run_id: The run.
        action: What is noted in its audit log.
        detail: To what it was done, for that log.
        request: Who, and why, for that log.

    Raises:
        RunNotFoundError: There is no such run.
        InvalidRunStateError: The run is completed or cancelled, or what it did has been undone.
    """
    reset_at = 0

    def decide(run: StoredRun) -> Decision | None:
        refuse_undone(run, action)
        if run.state.status in (RunStatus.COMPLETED, RunStatus.CANCELLED):
            raise InvalidRunStateError(run_id=run_id, action=action, status=run.state.status.value)
        if run.state.status is RunStatus.FAILED and run.state.ends_as is not None:
            return run_moves.resume_undoing(run.header, run.state, run.epoch, services.now_ms(run_id))
        is_ready = run.state.status is not RunStatus.FAILED or run.epoch == reset_at
        if run.state.status not in RESUMABLE or not is_ready:
            return None
        now = services.now_ms(run_id)
        return run_moves.resume_run(run.header, run.state, run.epoch, now, again_at_ms=now + AGAIN_AFTER_MS)

    while True:
        done = await control(services, run_id, decide, request.noted(services, action, detail))
        if done.effects is not None or done.run.state.status is not RunStatus.FAILED:
            break
        await _reset_items(services, done.run)
        reset_at = done.run.epoch
    if done.effects is None or done.effects.timer is None:
        return False
    if done.effects.timer.kind is TimerKind.UNDO:
        return await follow_end(services, done, None)
    services.note_deadline(done.decision)
    await services.broadcast(ControlKind.RESUME, run_id)
    left: Timer | None = done.effects.timer
    while left is not None:
        left = await bring_back(services, left, is_own=True)
    return True


def refuse_undone(run: StoredRun, action: str) -> None:
    """Raise where what a run did has been undone: it cannot go on as if that were still so.

    Raises:
        InvalidRunStateError: It has been.
    """
    if run.state.was_undone:
        raise InvalidRunStateError(
            run_id=run.header.run_id, action=action,
            status=f"{run.state.status.value}, and what it did has been undone",
            cure="Start another run, or fork this one.",
        )  # fmt: skip


async def _reset_items(services: Services, run: StoredRun) -> None:
    """Make what is left of a failed run pending; nothing is published before it goes on."""
    async for page in _live_items(services, run.header.run_id):
        await side_by_side(functools.partial(_reset_one, services, run), page)


async def _reset_one(services: Services, run: StoredRun, item_id: WorkItemId) -> None:
    """Look again after a conflict about the item: somebody noted meanwhile that he holds it."""
    run_id = run.header.run_id
    while True:
        found = (await services.items.find(run_id, (item_id,)))[0]
        if found is None or found.item.status not in RESET or is_at_work(found.item):
            return
        if await has_been_left_out(services, run_id, found.item):
            return
        decision = moves.reset(
            found.item, found.turn, run.state, run.epoch, services.now_ms(run_id), services.name, run_id=run_id,
            forget=leave_parked(found.item, run.header.workflow, run.header.version),
        )  # fmt: skip
        outcome = await services.commit(run.writer, decision)
        if not isinstance(outcome, Conflict) or outcome.check == Check(keys.state(run_id), run.epoch):
            return


async def has_been_left_out(services: Services, run_id: RunId, item: WorkItem) -> bool:
    """Whether an item is held in a fan-out that has ended without it: woken, it would end it a second time."""
    if item.status is not WorkItemStatus.HELD or item.has_wake or not item.scope:
        return False
    scope = await services.items.scope(run_id, item.scope[-1])
    return (await services.items.find(run_id, (scope.then.item_id,)))[0] is not None


async def bring_back(services: Services, timer: Timer, *, is_own: bool = False) -> Timer | None:
    """Publish pending items of a resumed run and see that something leads to the others, for one stretch.

    Args:
        services: The process's parts.
        timer: Says from where on; it is taken away.
        is_own: Whether this process resumed the run, and goes on with it; else the timer is due, and will be again.

    Returns:
        The timer that was set for the rest; None where nothing is left to do here.

    Raises:
        FloxideError: Something could not be brought on its way; the rest was, and the timer stays.
    """
    run = await services.runs.find(timer.run_id)
    rest: WorkItemId | None = None
    if run is not None and run.epoch == timer.turn:  # else somebody stopped it since, and whoever resumes it next sees
        rest, error = await _bring_back_some(services, timer)
        if error is not None:
            if rest is not None and not is_own:
                await _write(services, SetTimer(replace(timer, due_ms=services.now_ms(timer.run_id), after=rest)))
            raise error
    if rest is None:
        await _write(services, DropTimer(timer))
        return None
    if is_own and not await services.indexes.has_timer(timer):
        return None  # this took so long that somebody else goes on with it
    left = replace(timer, due_ms=services.now_ms(timer.run_id) + (AGAIN_AFTER_MS if is_own else 0), after=rest)
    await _write(services, DropTimer(timer), SetTimer(left))
    return left


async def _write(services: Services, *changes: SetTimer | DropTimer) -> None:
    run_id = changes[0].timer.run_id
    await services.session.commit(BatchWriter(run_id, 0).batch((), changes))


async def _bring_back_some(services: Services, timer: Timer) -> tuple[WorkItemId | None, Exception | None]:
    """Bring items on their way; return the last one if there may be more, and the first error there was."""
    loop, after = asyncio.get_running_loop(), timer.after
    until, error = loop.time() + STRETCH_SECONDS, None
    while True:
        page = await services.items.live_ids(timer.run_id, after=after, limit=AT_ONCE)
        try:
            await side_by_side(functools.partial(_bring_back_one, services, timer.run_id), page)
        except WAITED_FOR:
            raise
        except Exception as raised:  # noqa: BLE001 - returned: one item does not keep those behind it from their turn
            error = error or raised
        if len(page) < AT_ONCE:
            return None, error
        after = page[-1]
        if loop.time() >= until:
            return after, error


async def _live_items(services: Services, run_id: RunId) -> AsyncGenerator[list[WorkItemId]]:
    after = ""
    while True:
        page = await services.items.live_ids(run_id, after=after)
        yield page
        if len(page) < PAGE:
            return
        after = page[-1]


async def _bring_back_one(services: Services, run_id: RunId, item_id: WorkItemId) -> None:
    """Look again after each conflict, until the item needs nothing or the run is stopped again.

    The item's turn stays: a step may have begun before the run stopped.
    """
    while True:
        try:
            run, found = await services.runs.find_with_item(run_id, item_id)
        except UnreadableRecordError as error:
            if not await fail_unreadable(services, run_id, item_id, error):
                raise
            return
        if run is None or found is None or run.state.status is not RunStatus.RUNNING:
            return
        if found.item.status in ENDED and found.item.kept is not None:  # it ended meanwhile, and its worker went on
            item_id = found.item.kept
            continue
        is_claimed = found.item.status is WorkItemStatus.IN_PROGRESS and not found.item.anchored
        if not is_claimed and found.item.status is not WorkItemStatus.PENDING:
            return
        decision = publish_moves.republish(found.item, found.turn, services.now_ms(run_id), services.name, ())
        if not isinstance(await services.commit(run.writer, decision), Conflict):
            if not is_claimed:  # a copy of a message whose entry went while the run was paused: it only needs another
                await publish(services, run.header, decision.effects.publish)
            return
