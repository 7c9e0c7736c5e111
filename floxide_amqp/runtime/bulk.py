"""One action on many runs: those that a filter means, at a bounded rate, with progress, whatever becomes of each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypedDict, Unpack

from floxide_amqp.core.ids import RunId
from floxide_amqp.exceptions import ConfigurationError, FloxideError, InvalidRunStateError, RunNotFoundError
from floxide_amqp.runtime import by_hand, control_actions, resuming, retention
from floxide_amqp.runtime.control_actions import Request
from floxide_amqp.runtime.run_filter import RunFilter
from floxide_amqp.runtime.searching import all_runs
from floxide_amqp.runtime.services import Services

AT_ONCE: Final = 20
"""Runs that are acted on side by side: so many share the round trips, and steps of other runs are not kept waiting."""

DEFAULT_RATE: Final = 100.0
"""Runs per second, where nobody says: ten thousand take a minute and a half, and nobody else notices."""

MAX_FAILURES: Final = 1_000
"""Failures that a report tells one by one."""

MAX_RATE: Final = 100_000.0
"""The highest rate that means anything."""


class BulkAction(StrEnum):
    """What is done to each run."""

    CANCEL = "cancel"
    TERMINATE = "terminate"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class BulkFailure:
    """A run for which it could not be done, and why."""

    run_id: str
    error: FloxideError


@dataclass(slots=True)
class BulkReport:
    """What has become of the runs so far; whole once the call returns.

    Attributes:
        matched: Runs that the filter meant.
        done: Runs for which it was done.
        unchanged: Runs for which there was nothing to do: they were over already, or paused.
        failed: Runs for which it could not be done.
        failures: The first 1,000 of these.
    """

    matched: int = 0
    done: int = 0
    unchanged: int = 0
    failed: int = 0
    failures: list[BulkFailure] = field(default_factory=list[BulkFailure])


class ManyOptions(TypedDict, total=False):
    """How something is done to many runs.

    Attributes:
        rate: So many per second at most, 0.001 to 100,000; 100 if left out.
        on_progress: Told after each run how far it is; must not block.
        is_rehearsal: Only count the runs that are meant.
        reason: Why.
        by: Who wants it.
    """

    rate: float
    on_progress: Callable[[BulkReport], object] | None
    is_rehearsal: bool
    reason: str
    by: str


async def act_on_many(
    services: Services, action: BulkAction, where: RunFilter, **how: Unpack[ManyOptions]
) -> BulkReport:
    """Do something to all runs that a filter means, newest first; see `Steering.cancel_many`.

    Raises:
        ConfigurationError: The rate is no number from 0.001 to 100,000.
        StoreError: The runs could not be listed; what was done stays done.
    """
    rate, on_progress = how.get("rate", DEFAULT_RATE), how.get("on_progress")
    is_rehearsal, request = how.get("is_rehearsal", False), Request(by=how.get("by", ""), reason=how.get("reason", ""))
    if not 0.001 <= rate <= MAX_RATE:
        raise ConfigurationError(f"rate={rate!r} must be runs per second, from 0.001 to {MAX_RATE:,.0f}.")
    act, report = _ACTIONS[action], BulkReport()
    pace, places = _Pace(rate), asyncio.Semaphore(AT_ONCE)

    async def one(run_id: RunId) -> None:
        try:
            changed = await act(services, run_id, request)
        except RunNotFoundError:  # somebody deleted it meanwhile
            report.unchanged += 1
        except FloxideError as error:
            report.failed += 1
            if len(report.failures) < MAX_FAILURES:
                report.failures.append(BulkFailure(run_id, error))
        else:
            report.done += changed
            report.unchanged += not changed
        finally:
            places.release()
        if on_progress is not None:
            on_progress(report)

    try:
        async with asyncio.TaskGroup() as group:
            async for found in all_runs(services, where):
                report.matched += 1
                if is_rehearsal:
                    continue
                await pace.wait()
                await places.acquire()
                group.create_task(one(found.run.header.run_id))
    except ExceptionGroup as several:  # what callers catch is the error itself
        raise several.exceptions[0] from several
    return report


class _Pace:
    """Lets so many go per second, evenly."""

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate
        self._next = asyncio.get_running_loop().time()

    async def wait(self) -> None:
        """Return when it is the next one's turn."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now - 10 * self._interval)  # who was late may catch up, but not with everything
        pause = self._next - now
        self._next += self._interval
        if pause > 0:
            await asyncio.sleep(pause)


async def _cancel(services: Services, run_id: RunId, request: Request) -> bool:
    return await control_actions.cancel_run(services, run_id, reason=request.reason, by=request.by)


async def _terminate(services: Services, run_id: RunId, request: Request) -> bool:
    return await control_actions.terminate_run(services, run_id, reason=request.reason, by=request.by)


async def _pause(services: Services, run_id: RunId, request: Request) -> bool:
    return await control_actions.pause_run(services, run_id, reason=request.reason, by=request.by)


async def _resume(services: Services, run_id: RunId, request: Request) -> bool:
    return await resuming.resume_run(services, run_id, request=request)


async def _retry(services: Services, run_id: RunId, request: Request) -> bool:
    try:
        await by_hand.retry_run(services, run_id, request)
    except InvalidRunStateError:
        if (await services.runs.load(run_id)).state.failure is None:  # it goes on already
            return False
        raise
    return True


async def _delete(services: Services, run_id: RunId, request: Request) -> bool:
    del request  # of a deleted run nothing is left that could tell who wanted it
    return await retention.delete_run(services, run_id)


_ACTIONS: Final[dict[BulkAction, Callable[[Services, RunId, Request], Awaitable[bool]]]] = {
    BulkAction.CANCEL: _cancel,
    BulkAction.TERMINATE: _terminate,
    BulkAction.PAUSE: _pause,
    BulkAction.RESUME: _resume,
    BulkAction.RETRY: _retry,
    BulkAction.DELETE: _delete,
}
