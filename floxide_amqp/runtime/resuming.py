"""Resuming a run: one commit says that it goes on, then its live items are brought on their way one by one.

The commit also sets a timer that does the second part again, and doing it takes the timer away: whoever resumes a run
may die in between, and the run goes on all the same.
"""

from __future__ import annotations

from floxide_amqp.core import moves
from floxide_amqp.core.changes import DropTimer
from floxide_amqp.core.decisions import Decision
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.records import Timer, TimerKind
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.exceptions import InvalidRunStateError
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.control_actions import control
from floxide_amqp.runtime.messages import ControlKind
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.items import PAGE
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.writes import BatchWriter

AGAIN_AFTER_MS = 30_000
"""When somebody else brings the items on their way, if who resumed the run has not: longer than that takes."""

RESUMABLE = (RunStatus.PAUSED, RunStatus.FAILED)

RESET: dict[TimerKind, frozenset[WorkItemStatus]] = {
    TimerKind.RESUME_PAUSED: frozenset({WorkItemStatus.PENDING}),
    TimerKind.RESUME_FAILED: frozenset(
        {
            WorkItemStatus.PENDING,
            WorkItemStatus.FAILED,
            WorkItemStatus.IN_PROGRESS,
            WorkItemStatus.WAITING_RETRY,
            WorkItemStatus.HELD,
            WorkItemStatus.PARKED,
        }
    ),
}
"""Items to bring on their way: messages were let go while the run was paused; timers of a failed run do not fire."""


async def resume_run(services: Services, run_id: RunId) -> None:
    """Let a paused or failed run go on; one that runs is left as it is.

    Raises:
        RunNotFoundError: There is no such run.
        InvalidRunStateError: The run is completed or cancelled.
    """

    def decide(run: StoredRun) -> Decision | None:
        if run.state.status in (RunStatus.COMPLETED, RunStatus.CANCELLED):
            raise InvalidRunStateError(run_id=run_id, action="resume", status=run.state.status.value)
        if run.state.status not in RESUMABLE:
            return None
        now = services.now_ms()
        return moves.resume_run(run_id, run.state, run.epoch, now, again_at_ms=now + AGAIN_AFTER_MS)

    _, decision = await control(services, run_id, decide)
    if decision is None or decision.effects.timer is None:
        return
    await services.broadcast(ControlKind.RESUME, run_id)
    await bring_back(services, decision.effects.timer)


async def bring_back(services: Services, timer: Timer) -> None:
    """Bring the live items of a resumed run on their way, and take away the timer that asks for it."""
    after = ""
    while True:
        page = await services.items.live_ids(timer.run_id, after=after)
        for item_id in page:
            await _bring_back_one(services, timer, item_id)
        if len(page) < PAGE:
            break
        after = page[-1]
    await services.session.commit(BatchWriter(timer.run_id, 0).batch((), (DropTimer(timer),)))


async def _bring_back_one(services: Services, timer: Timer, item_id: WorkItemId) -> None:
    """Look again after each conflict, until the item needs nothing or the run is stopped again."""
    while True:
        run = await services.runs.load(timer.run_id)
        found = (await services.items.find(timer.run_id, (item_id,)))[0]
        if run.state.status is not RunStatus.RUNNING or found is None or found.item.status not in RESET[timer.kind]:
            return
        now = services.now_ms()
        if found.item.status is WorkItemStatus.PENDING:  # its turn stays: a step may have begun before the run stopped
            decision = moves.republish(found.item, found.turn, now, services.name, ())
        else:
            decision = moves.reset(
                found.item, found.turn, run.state, run.epoch, now, services.name, run_id=timer.run_id
            )
        if not isinstance(await services.commit(run.writer, decision), Conflict):
            await publish(services, run.header, decision.effects.publish)
            return
