"""Due timers: fired precisely by the worker that set them, and by maintenance if that worker is gone.

Firing is a commit that checks the item's turn, so a timer that two processes fire does its work once.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools

from floxide_amqp.core import moves, publish_moves
from floxide_amqp.core.failure import describe_error
from floxide_amqp.core.ids import WorkItemId
from floxide_amqp.core.place_changes import DropTimer
from floxide_amqp.core.records import RunFailure
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind
from floxide_amqp.exceptions import FloxideError, RunTimeoutError, UnreadableRecordError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.control_actions import fail_run
from floxide_amqp.runtime.places import look_after
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.resuming import bring_back
from floxide_amqp.runtime.schedule_firing import fire_schedule
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import side_by_side
from floxide_amqp.runtime.undoing import undo_next
from floxide_amqp.runtime.unreadable import fail_unreadable
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.writes import BatchWriter

_log = get_logger("floxide_amqp.timers")

MAX_LOCAL = 10_000
"""Timers kept in memory; those beyond are fired by maintenance, at its precision."""

SOON_MS = 2 * 60 * 1000
"""Timers due later are left to maintenance: what waits for hours or days holds no worker's memory. Where rounds of
maintenance are further apart, those due before the second round from now are kept."""

WAITING = (WorkItemStatus.WAITING_RETRY, WorkItemStatus.HELD)


class TimerQueue:
    """The timers this process set, in a heap, fired to the millisecond."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._heap: list[tuple[int, int, Timer]] = []
        self._numbers = itertools.count()
        self._changed = asyncio.Event()

    def add(self, timer: Timer) -> None:
        """Fire a timer when it is due; where there are too many, those that are due late make room."""
        services = self._services
        wait_ms = timer.due_ms - services.now_ms(timer.run_id)
        if wait_ms > max(SOON_MS, 2000 * services.timeouts.maintenance):
            return
        due_ms = services.now_ms() + wait_ms  # by one clock: those of several servers may be apart
        if len(self._heap) >= MAX_LOCAL and self._heap[-1][0] > due_ms:
            # a leaf of the heap: not the very last timer, but none of the next
            services.own_timers.drop(self._heap.pop()[2])
        if len(self._heap) < MAX_LOCAL:
            services.own_timers.add(timer)
            heapq.heappush(self._heap, (due_ms, next(self._numbers), timer))
            self._changed.set()

    async def run(self) -> None:
        """Fire timers until cancelled."""
        while True:
            self._changed.clear()
            await self._wait()
            await side_by_side(self._fire, self._take_due())

    def _take_due(self) -> list[Timer]:
        """Take what is due; what lies on a server that is out of reach stays with maintenance, which waits for it."""
        services, due, early = self._services, list[Timer](), list[Timer]()
        now = services.now_ms()
        while self._heap and self._heap[0][0] <= now:
            timer = heapq.heappop(self._heap)[2]
            (early if timer.due_ms > services.now_ms(timer.run_id) else due).append(timer)
        for timer in early:  # the one clock has jumped since, and not that of its server
            services.own_timers.drop(timer)  # it may be due too late by now to be kept
            self.add(timer)
        for timer in due:
            if services.is_out_of_reach(timer.run_id):
                services.own_timers.drop(timer)
        return [timer for timer in due if services.own_timers.is_waiting(timer)]

    async def _fire(self, timer: Timer) -> None:
        own = self._services.own_timers
        if not own.is_waiting(timer):  # maintenance has fired it
            return
        try:
            with own.firing(timer) as may_fire:
                if may_fire:
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


async def fire(services: Services, timer: Timer) -> bool:
    """Do what a due timer asks for, if it still applies, and take it off the list.

    Returns:
        Whether that is settled; if not, somebody else was faster with something, and the next round looks again.
    """
    services.figures.timers_fired += 1
    if timer.kind is TimerKind.RUN_TIMEOUT:
        await _fail_late_run(services, timer)
        return True
    if timer.kind is TimerKind.SCHEDULE:
        return await fire_schedule(services, timer)
    if timer.kind is TimerKind.PLACE:
        return await look_after(services, timer)
    if timer.kind is TimerKind.UNDO:
        return await _undo(services, timer)
    if timer.kind.is_of_run:
        await bring_back(services, timer)
        return True
    try:
        run, found = await services.runs.find_with_item(timer.run_id, timer.item_id, with_counts=False)
    except UnreadableRecordError as error:
        if not await fail_unreadable(services, timer.run_id, timer.item_id, error):
            raise
        run, found = None, None
    if run is None or found is None or not _applies(timer, run, found):
        await _drop(services, timer)
        return True
    if timer.kind is TimerKind.REPUBLISH:
        tries = await services.indexes.tries(timer.run_id, found.item.queue, publish_moves.entry_of_repeat(timer))
        decision = publish_moves.publish_again(
            found.item, timer, services.now_ms(timer.run_id), services.name, tries=tries
        )
    else:
        decision = moves.wake(found.item, timer, run.state, run.epoch, services.now_ms(timer.run_id), services.name)
    if isinstance(await services.commit(run.writer, decision), Conflict):
        return False
    await publish(services, run.header, decision.effects.publish)
    return True


def _applies(timer: Timer, run: StoredRun, found: StoredItem) -> bool:
    if run.state.is_over_for(found.item) or found.turn != timer.turn:
        return False
    if timer.kind is TimerKind.REPUBLISH:
        return found.item.status is WorkItemStatus.PENDING and run.state.status is not RunStatus.PAUSED
    return found.item.status in WAITING


async def _undo(services: Services, timer: Timer) -> bool:
    try:
        return await undo_next(services, timer)
    except UnreadableRecordError as error:
        if not await fail_unreadable(services, timer.run_id, WorkItemId(""), error):
            raise
        await _drop(services, timer)
        return True


async def _fail_late_run(services: Services, timer: Timer) -> None:
    def failure(run: StoredRun) -> RunFailure:
        seconds = ((run.header.deadline_ms or 0) - run.header.begins_at_ms) / 1000
        info = describe_error(RunTimeoutError(run_id=timer.run_id, timeout_seconds=seconds))
        return RunFailure(node="", item_id=run.header.start_item, error=info, attempts=1)

    run = await services.runs.find(timer.run_id)
    is_due = run is not None and run.state.deadline_ms == timer.due_ms
    if not is_due or not await fail_run(services, timer.run_id, failure):
        await _drop(services, timer)


async def _drop(services: Services, timer: Timer) -> None:
    writer = BatchWriter(timer.run_id, 0)
    await services.session.commit(writer.batch((), (DropTimer(timer),)))
