"""Control actions on a run: one commit against its epoch, then hints to whoever works on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from floxide_amqp.core import run_moves
from floxide_amqp.core.changes import Change, PutRun, WhenCount
from floxide_amqp.core.decisions import Decision, Effects
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.log_changes import AppendAudit
from floxide_amqp.core.log_records import AuditRecord
from floxide_amqp.core.records import RunFailure, RunState
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import FloxideError, InvalidRunStateError
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.effects import effects_of
from floxide_amqp.runtime.messages import ControlKind
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.undoing import undo_next
from floxide_amqp.stores.runs import StoredRun

MAX_TEXT = 2_000
"""Characters kept of who did something, why, and to what."""

PAUSABLE = (RunStatus.PENDING, RunStatus.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Somebody wants something done to a run.

    Attributes:
        by: Who, in the caller's words; the process where nobody said.
        reason: Why; may be empty.
    """

    by: str = ""
    reason: str = ""

    def noted(self, services: Services, action: str, detail: str = "") -> AppendAudit:
        """Return the change that notes it in the run's audit log."""
        record = AuditRecord(
            at_ms=services.now_ms(), action=action, by=(self.by or services.name)[:MAX_TEXT],
            reason=self.reason[:MAX_TEXT], detail=detail[:MAX_TEXT],
        )  # fmt: skip
        return AppendAudit(record)


NOBODY = Request()
"""The engine itself."""


NOTHING = Decision(conditions=(), changes=())
"""Nothing was to be committed."""


@dataclass(frozen=True, slots=True)
class Controlled:
    """What a control action came to.

    Attributes:
        run: The run as it was read.
        effects: What follows; None where there was nothing to do.
        decision: What was committed.
    """

    run: StoredRun
    effects: Effects | None
    decision: Decision = NOTHING


async def control(
    services: Services, run_id: RunId, decide: Callable[[StoredRun], Decision | None], *more: Change
) -> Controlled:
    """Commit a control action on what the run is now, again as often as somebody else was faster.

    Args:
        services: The process's parts.
        run_id: The run.
        decide: Returns the action's commit for the run as read, or None if there is nothing to do.
        more: What the commit changes besides.

    Raises:
        RunNotFoundError: There is no such run.
    """
    tried: tuple[StoredRun, Decision] | None = None
    while True:
        run = await services.runs.load(run_id)
        if tried is not None and _puts(tried[1].changes, run.state):  # it was applied, and only its reply was lost
            before, applied = tried
            is_undoing = run.state.status is RunStatus.COMPENSATING and applied.undoing is not None
            return Controlled(before, applied.undoing if is_undoing else applied.effects, applied)
        decision = decide(run)
        if decision is None:
            return Controlled(run, None)
        decision = replace(decision, changes=(*decision.changes, *more))
        outcome = await services.commit(run.writer, decision)
        if not isinstance(outcome, Conflict):
            return Controlled(run, effects_of(run_id, decision, outcome), decision)
        tried = run, decision


def _puts(changes: Iterable[Change], state: RunState) -> bool:
    """Whether some of these changes, in whatever case, put a run into this state."""
    for change in changes:
        if isinstance(change, PutRun):
            if change.state == state:
                return True
        elif isinstance(change, WhenCount) and (_puts(change.then, state) or _puts(change.otherwise, state)):
            return True
    return False


async def cancel_run(services: Services, run_id: RunId, *, reason: str = "", by: str = "") -> bool:
    """Cancel a run; return whether it was alive. Steps in flight are interrupted, late commits refused.

    What was done is undone first, where the workflow says how: also of a run that has failed, if that was not done.

    Raises:
        RunNotFoundError: There is no such run.
    """

    def decide(run: StoredRun) -> Decision | None:
        state = run.state
        is_left = state.status is RunStatus.FAILED and run.counts.to_undo > 0 and not state.was_undone
        if state.status is RunStatus.COMPENSATING or (state.status.is_terminal and not is_left):
            return None
        return run_moves.cancel_run(run.header, state, run.epoch, services.now_ms(run_id), reason)

    done = await control(services, run_id, decide, Request(by=by, reason=reason).noted(services, "cancel"))
    return await follow_end(services, done, ControlKind.CANCEL)


async def terminate_run(services: Services, run_id: RunId, *, reason: str = "", by: str = "") -> bool:
    """End a run at once; return whether it was alive. Nothing is undone any more, late commits are refused.

    Raises:
        RunNotFoundError: There is no such run.
    """

    def decide(run: StoredRun) -> Decision | None:
        if run.state.status.is_terminal:
            return None
        return run_moves.terminate_run(
            run.header, run.state, run.epoch, services.now_ms(run_id), reason or "terminated"
        )

    done = await control(services, run_id, decide, Request(by=by, reason=reason).noted(services, "terminate"))
    return await follow_end(services, done, ControlKind.CANCEL)


async def pause_run(services: Services, run_id: RunId, *, reason: str = "", by: str = "") -> bool:
    """Pause a run: what is in flight ends and is committed, nothing new begins; return whether it went on until then.

    Raises:
        RunNotFoundError: There is no such run.
        InvalidRunStateError: The run is over, or undoes what it did.
    """

    def decide(run: StoredRun) -> Decision | None:
        if run.state.status is RunStatus.PAUSED:
            return None
        if run.state.status not in PAUSABLE:
            raise InvalidRunStateError(run_id=run_id, action="pause", status=run.state.status.value)
        return run_moves.pause_run(run.state, run.epoch, services.now_ms(run_id), reason)

    done = await control(services, run_id, decide, Request(by=by, reason=reason).noted(services, "pause"))
    await services.broadcast(ControlKind.PAUSE, run_id)
    return done.effects is not None


async def fail_run(
    services: Services, run_id: RunId, failure: Callable[[StoredRun], RunFailure], *, undoes: bool = True
) -> bool:
    """Fail a run from outside its steps (its timeout); return whether it was alive.

    Without `undoes` nothing is undone: resuming the run goes on with what it was about.
    """

    def decide(run: StoredRun) -> Decision | None:
        if run.state.status.is_terminal or (undoes and run.state.status is RunStatus.COMPENSATING):
            return None
        return run_moves.fail_run(
            run.header, run.state, run.epoch, services.now_ms(run_id), failure(run), undoes=undoes
        )

    return await follow_end(services, await control(services, run_id, decide), None)


async def follow_end(services: Services, done: Controlled, hint: ControlKind | None) -> bool:
    """Tell those who must know that a run has ended, or undoes what it did; return whether there was anything to do."""
    run_id, effects = done.run.header.run_id, done.effects
    if effects is None:
        return False
    services.inflight.interrupt(run_id, but_undoing=effects.finished is None)
    if hint is not None:
        await services.broadcast(hint, run_id)
    if effects.finished is not None:
        await services.announce_end(done.run.header, effects.finished)
    elif effects.timer is not None:
        if hint is None:
            await services.broadcast(ControlKind.STOP, run_id)
        services.on_timer(effects.timer)
        with suppress(FloxideError):  # the timer stays, and leads there
            await undo_next(services, effects.timer)
    return True
