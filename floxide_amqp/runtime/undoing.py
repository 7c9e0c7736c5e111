"""Brings on what a run undoes next, once it has failed or was cancelled: see `floxide_amqp.core.compensation`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from floxide_amqp.core import compensation as undo
from floxide_amqp.core import moves, publish_moves
from floxide_amqp.core.bodies import is_at_work
from floxide_amqp.core.commit_conditions import EpochIs, TurnIs
from floxide_amqp.core.decisions import Decision, Effects
from floxide_amqp.core.ids import WorkItemId
from floxide_amqp.core.place_changes import DropTimer, SetTimer
from floxide_amqp.core.records import Compensable, WorkItem
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.publishing import publish
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.compensables import CompensableStore
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.parked_places import leave_parked
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.sealed import sealed_payload
from floxide_amqp.stores.writes import BatchWriter

_log = get_logger("floxide_amqp.undoing")

MAX_TRIES = 5
"""Conflicts in a row before the timer is left to the next round: somebody else brings on the same."""

PAGE = 50
"""Steps looked at in one round trip."""


@dataclass(frozen=True, slots=True)
class _Due:
    """A step to be undone now; `number` is its place in the log, -1 of one that is not in it."""

    step: Compensable
    number: int


@dataclass(frozen=True, slots=True)
class _Busy:
    """An item to wait for: its body may still run, or it undoes something itself, and brings on the next when it ends.

    Attributes:
        is_undoing: Which of both.
    """

    stored: StoredItem
    is_undoing: bool


_Next: TypeAlias = _Due | _Busy | None


async def undo_next(services: Services, timer: Timer) -> bool:
    """Bring on what a compensating run undoes next, in place of the timer that led here; with nothing left, end it.

    Returns:
        Whether that is settled; if not, somebody else was faster with something.
    """
    for _ in range(MAX_TRIES):
        run = await services.runs.find(timer.run_id)
        if run is None or run.state.status is not RunStatus.COMPENSATING or run.epoch != timer.turn:
            await services.session.commit(BatchWriter(timer.run_id, 0).batch((), (DropTimer(timer),)))
            return True
        decision = _decide(services, run, timer, await _find_next(services, run, timer))
        if not isinstance(await services.commit(run.writer, decision), Conflict):
            await _follow(services, run, decision.effects)
            return True
    return False


def _decide(services: Services, run: StoredRun, timer: Timer, found: _Next) -> Decision:
    header, epoch, now = run.header, run.epoch, services.now_ms(run.header.run_id)
    if isinstance(found, _Due):
        return undo.undo_step(header, epoch, found.step, found.number, timer, now, services.name)
    if isinstance(found, _Busy):
        item, turn = found.stored.item, found.stored.turn
        if found.is_undoing:
            return _lead_to(services, run, timer, item, turn)
        return undo.wait_for_body(item.item_id, turn, epoch, timer, now)
    ended = undo.end_undoing(run.state, now)
    return Decision(
        conditions=(EpochIs(epoch),), changes=(*ended, DropTimer(timer)), effects=Effects(finished=run.state.ends_as)
    )


def _lead_to(services: Services, run: StoredRun, timer: Timer, item: WorkItem, turn: int) -> Decision:
    """A compensation is live already: see that something leads to it, which the run may have lost while it was over."""
    run_id, epoch, now = timer.run_id, run.epoch, services.now_ms(timer.run_id)
    if item.status is WorkItemStatus.WAITING_RETRY:
        retry = Timer(due_ms=item.due_ms, run_id=run_id, item_id=item.item_id, kind=TimerKind.RETRY, turn=turn)
        return Decision(
            conditions=(TurnIs(item.item_id, turn), EpochIs(epoch)), changes=(DropTimer(timer), SetTimer(retry)),
            effects=Effects(timer=retry), epoch_after=epoch,
        )  # fmt: skip
    if item.status is WorkItemStatus.PARKED:
        forget = leave_parked(item, run.header.workflow, run.header.version)
        decision = moves.reset(item, turn, run.state, epoch, now, services.name, run_id=run_id, forget=forget)
        return replace(decision, changes=(*decision.changes, DropTimer(timer)))
    decision = publish_moves.republish(
        item, turn, now, services.name, (DropTimer(timer),)
    )  # pending, or in somebody's hands
    return replace(decision, conditions=(*decision.conditions, EpochIs(epoch)))


async def _follow(services: Services, run: StoredRun, effects: Effects) -> None:
    if effects.timer is not None:
        services.on_timer(effects.timer)
    await publish(services, run.header, effects.publish)
    for out in effects.publish:
        _log.info("step.undoing", run_id=run.header.run_id, item_id=out.item.parent, node=out.item.node)
    if effects.finished is not None:
        services.cache.forget(run.header.run_id)
        await services.announce_end(run.header, effects.finished)


async def _find_next(services: Services, run: StoredRun, timer: Timer) -> _Next:
    """Steps that have begun and not ended come first, then those of the log from its end on."""
    begun = await _find_begun(services, run)
    return begun if begun is not None else await _find_ended(services, run, timer)


async def _find_begun(services: Services, run: StoredRun) -> _Next:
    """Any whose body has ended; one that may still run only if there is no other."""
    store, run_id = CompensableStore(services.session), run.header.run_id
    busy: _Busy | None = None
    after = ""
    while True:
        page = await store.begun(run_id, after=after, limit=PAGE)
        for step, undoing in zip(page, await _undoing_of(services, run, page), strict=True):
            if step.item_id == undo.HOOK:
                if run.state.ends_as is not RunStatus.CANCELLED:
                    continue
                return _Due(step, -1) if undoing is None else _Busy(undoing, is_undoing=True)
            if undoing is not None:
                return _Busy(undoing, is_undoing=True)
            stored = (await services.items.find(run_id, (step.item_id,)))[0]
            if stored is None or not is_at_work(stored.item):
                return _Due(step, -1)
            busy = _Busy(stored, is_undoing=False)
        if len(page) < PAGE:
            return busy
        after = page[-1].item_id


async def _find_ended(services: Services, run: StoredRun, timer: Timer) -> _Next:
    store, run_id = CompensableStore(services.session), run.header.run_id
    end = int(timer.after) if timer.after else await store.length(run_id)
    while end > 0:
        start = max(0, end - PAGE)
        first, page = await store.ended(run_id, start=start, limit=end - start)
        undoing = await _undoing_of(services, run, page)
        for number in reversed(range(len(page))):
            found, step = undoing[number], page[number]
            if found is None:
                output = step.output
                if output is not None:
                    output = sealed_payload(output, undo.undoing_id(run_id, step.item_id))
                return _Due(replace(step, output=output), first + number)
            if found.item.status not in (WorkItemStatus.COMPLETED, WorkItemStatus.FAILED):
                return _Busy(found, is_undoing=True)
        end = start
    return None


async def _undoing_of(services: Services, run: StoredRun, steps: list[Compensable]) -> list[StoredItem | None]:
    run_id = run.header.run_id
    ids: list[WorkItemId] = [undo.undoing_id(run_id, step.item_id) for step in steps]
    return await services.items.find(run_id, ids) if ids else []
