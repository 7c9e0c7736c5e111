"""Due timers: fired precisely by the worker that set them, and by maintenance if that worker is gone.

Firing is a commit that checks the item's turn, so a timer that two processes fire does its work once.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools

from floxide_amqp.core import moves
from floxide_amqp.core.changes import DropTimer
from floxide_amqp.core.failure import describe_error
from floxide_amqp.core.records import RunFailure, Timer, TimerKind
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.exceptions import FloxideError, RunTimeoutError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.control_actions import fail_run
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.resuming import bring_back
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.writes import BatchWriter

_log = get_logger("floxide_amqp.timers")

MAX_LOCAL = 10_000
"""Timers kept in memory; those beyond are fired by maintenance, at its precision."""

WAITING = (WorkItemStatus.WAITING_RETRY, WorkItemStatus.HELD)


class TimerQueue:
    """The timers this process set, in a heap, fired to the millisecond."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._heap: list[tuple[int, int, Timer]] = []
        self._numbers = itertools.count()
        self._changed = asyncio.Event()

    def add(self, timer: Timer) -> None:
        """Fire a timer when it is due."""
        if len(self._heap) < MAX_LOCAL:
            heapq.heappush(self._heap, (timer.due_ms, next(self._numbers), timer))
            self._changed.set()

    async def run(self) -> None:
        """Fire timers until cancelled."""
        while True:
            self._changed.clear()
            await self._wait()
            while self._heap and self._heap[0][0] <= self._services.now_ms():
                timer = heapq.heappop(self._heap)[2]
                try:
                    await fire(self._services, timer)
                except Exception as error:  # noqa: BLE001 - a supervisor: it stays in the store, maintenance fires it
                    _log.warning(
                        "timer.failed", run_id=timer.run_id, item_id=timer.item_id, error=str(error),
                        exc_info=not isinstance(error, FloxideError),
                    )  # fmt: skip

    async def _wait(self) -> None:
        if not self._heap:
            await self._changed.wait()
            return
        pause = max(0.0, (self._heap[0][0] - self._services.now_ms()) / 1000)
        try:
            await asyncio.wait_for(self._changed.wait(), pause + 0.0005)
        except TimeoutError:
            return


async def fire(services: Services, timer: Timer) -> None:
    """Do what a due timer asks for, if it still applies, and take it off the list."""
    if timer.kind is TimerKind.RUN_TIMEOUT:
        await _fail_late_run(services, timer)
        return
    if timer.kind.is_of_run:
        await bring_back(services, timer)
        return
    run = await services.runs.find(timer.run_id)
    found = (await services.items.find(timer.run_id, (timer.item_id,)))[0]
    if run is None or run.state.status.is_terminal or found is None or found.turn != timer.turn:
        await _drop(services, timer)
        return
    now = services.now_ms()
    if timer.kind is TimerKind.REPUBLISH:
        if found.item.status is not WorkItemStatus.PENDING or run.state.status is RunStatus.PAUSED:
            await _drop(services, timer)
            return
        decision = moves.publish_again(found.item, timer, now, services.name)
    elif found.item.status in WAITING:
        decision = moves.wake(found.item, timer, run.state, run.epoch, now, services.name)
    else:
        await _drop(services, timer)
        return
    if isinstance(await services.commit(run.writer, decision), Conflict):
        return  # somebody else fired it, or the run changed: the next round looks again
    await publish(services, run.header, decision.effects.publish)


async def _fail_late_run(services: Services, timer: Timer) -> None:
    def failure(run: StoredRun) -> RunFailure:
        seconds = ((run.header.deadline_ms or 0) - run.header.created_at_ms) / 1000
        info = describe_error(RunTimeoutError(run_id=timer.run_id, timeout_seconds=seconds))
        return RunFailure(node="", item_id=run.header.start_item, error=info, attempts=1)

    run = await services.runs.find(timer.run_id)
    is_due = run is not None and run.state.deadline_ms == timer.due_ms
    if not is_due or not await fail_run(services, timer.run_id, failure):
        await _drop(services, timer)


async def _drop(services: Services, timer: Timer) -> None:
    writer = BatchWriter(timer.run_id, 0)
    await services.session.commit(writer.batch((), (DropTimer(timer),)))
