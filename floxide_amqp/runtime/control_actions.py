"""Control actions on a run: one commit against its epoch, then hints to whoever works on it."""

from __future__ import annotations

from collections.abc import Callable

from floxide_amqp.core import moves
from floxide_amqp.core.changes import PutRun
from floxide_amqp.core.decisions import Decision
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.records import RunFailure
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.exceptions import InvalidRunStateError
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.messages import ControlKind
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.runs import StoredRun


async def control(
    services: Services, run_id: RunId, decide: Callable[[StoredRun], Decision | None]
) -> tuple[StoredRun, Decision | None]:
    """Commit a control action on what the run is now, again as often as somebody else was faster.

    Args:
        services: The process's parts.
        run_id: The run.
        decide: Returns the action's commit for the run as read, or None if there is nothing to do.

    Raises:
        RunNotFoundError: There is no such run.
    """
    tried: tuple[StoredRun, Decision] | None = None
    while True:
        run = await services.runs.load(run_id)
        if tried is not None and PutRun(run.state, tried[0].state.status) in tried[1].changes:
            return tried  # it was applied, and only its reply was lost
        decision = decide(run)
        if decision is None:
            return run, None
        if not isinstance(await services.commit(run.writer, decision), Conflict):
            return run, decision
        tried = run, decision


async def cancel_run(services: Services, run_id: RunId, *, reason: str = "") -> bool:
    """Cancel a run; return whether it was alive. Steps in flight are interrupted, late commits refused.

    Raises:
        RunNotFoundError: There is no such run.
    """

    def decide(run: StoredRun) -> Decision | None:
        if run.state.status.is_terminal:
            return None
        return moves.cancel_run(run.header, run.state, run.epoch, services.now_ms(), reason)

    run, decision = await control(services, run_id, decide)
    if decision is None:
        return False
    services.inflight.interrupt(run_id)
    await services.broadcast(ControlKind.CANCEL, run_id)
    await services.announce_end(run.header, RunStatus.CANCELLED)
    return True


async def pause_run(services: Services, run_id: RunId, *, reason: str = "") -> None:
    """Pause a run: what is in flight ends and is committed, nothing new begins. Pausing twice is fine.

    Raises:
        RunNotFoundError: There is no such run.
        InvalidRunStateError: The run is over.
    """

    def decide(run: StoredRun) -> Decision | None:
        if run.state.status is RunStatus.PAUSED:
            return None
        if run.state.status.is_terminal:
            raise InvalidRunStateError(run_id=run_id, action="pause", status=run.state.status.value)
        return moves.pause_run(run.state, run.epoch, services.now_ms(), reason)

    await control(services, run_id, decide)
    await services.broadcast(ControlKind.PAUSE, run_id)


async def fail_run(services: Services, run_id: RunId, failure: Callable[[StoredRun], RunFailure]) -> bool:
    """Fail a run from outside its steps (its timeout); return whether it was alive."""

    def decide(run: StoredRun) -> Decision | None:
        if run.state.status.is_terminal:
            return None
        return moves.fail_run(run.header, run.state, run.epoch, services.now_ms(), failure(run))

    run, decision = await control(services, run_id, decide)
    if decision is None:
        return False
    services.inflight.interrupt(run_id)
    await services.announce_end(run.header, RunStatus.FAILED)
    return True
