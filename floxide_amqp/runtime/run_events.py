"""What happens to a run, as it happens: typed events from the store's logs, in order, to be gone on with anywhere.

The logs are the truth and are read by position. Workers that commit something of a run that somebody follows say so
on the broker, which saves time; where nothing is heard, the store is looked at now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.instants import at
from floxide_amqp.core.log_records import AuditRecord, ErrorRecord, HistoryEntry
from floxide_amqp.core.moments import Moment, MomentKind
from floxide_amqp.core.records import RunHeader, RunState
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.exceptions import RunNotFoundError
from floxide_amqp.ports.key_value import Read
from floxide_amqp.runtime.followers import ASKED_AGAIN_SECONDS, ASKED_EVERY_SECONDS
from floxide_amqp.runtime.messages import ControlKind
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.showing import failure_in_words
from floxide_amqp.runtime.waiting import Waiters
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.run_logs import LogPosition, TellingPage, Told, telling_of
from floxide_amqp.stores.runs import read_header
from floxide_amqp.stores.sealed_records import readable_record, readable_state


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """Something that happened to a run.

    Attributes:
        run_id: The run.
        at: When, by the store's time as the process that committed it knew it.
        position: Where to go on: `Orchestrator.events` continues behind this event.
    """

    run_id: str
    at: datetime
    position: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(RunEvent):
    """The run was stored; its first message is on its way."""

    workflow: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemEnded(RunEvent):
    """A work item ended: one of the classes below says how.

    Attributes:
        attempts: Tries it took.
        duration: Of the last body.
        worker: Who committed it.
        parent: The item that it followed from; may be empty.
    """

    item_id: str
    node: str
    attempts: int
    duration: timedelta
    worker: str
    parent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemCompleted(ItemEnded):
    """A node did its work, and what follows from it is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFailed(ItemEnded):
    """A work item failed for good and its fallback took over; one without a fallback fails the run instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemCancelled(ItemEnded):
    """A work item was not needed any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(RunEvent):
    """A try of a work item failed.

    Attributes:
        attempt: Which one; 1 for the first.
        will_retry: Whether it is tried again.
    """

    item_id: str
    node: str
    attempt: int
    error_type: str
    message: str
    worker: str
    will_retry: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemHeld(RunEvent):
    """A work item waits; one that does so again and again tells it about a hundred times.

    Attributes:
        signals: What it waits for; empty where only time, or nothing, wakes it.
        until: When it goes on by itself; None where it does not.
    """

    item_id: str
    node: str
    signals: tuple[str, ...]
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSignalled(RunEvent):
    """The run accepted a signal."""

    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSteered(RunEvent):
    """Somebody did something to the run.

    Attributes:
        action: What, by the method of `Orchestrator` that does it: ``pause``, ``resume``, ``cancel``.
        by: Who, in the caller's words; the process where nobody said.
        reason: Why; may be empty.
        detail: To what of it; may be empty.
    """

    action: str
    by: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(RunEvent):
    """The run is over; a failed one may be taken up again, and then ends again.

    Attributes:
        status: How.
        failure: Why it failed, in one line; empty otherwise.
        reason: What was said when it was cancelled; may be empty.
    """

    status: RunStatus
    failure: str
    reason: str


async def events(
    services: Services, waiters: Waiters, run_id: RunId, *, after: str = "", follow: bool = True
) -> AsyncGenerator[RunEvent]:
    """Go through what happens to a run until it has ended; see `Orchestrator.events`."""
    position = LogPosition.parse(after)
    loop = asyncio.get_running_loop()
    ask_at, pause = loop.time(), ASKED_AGAIN_SECONDS
    with waiters.expecting(run_id) as heard:
        while True:
            if follow and loop.time() >= ask_at:
                await services.broadcast(ControlKind.FOLLOW, run_id, key=waiters.key)
                ask_at, pause = loop.time() + pause, ASKED_EVERY_SECONDS
            heard.clear()
            look = await _look(services, run_id, position)
            for event in look.events:
                yield event
            if look.is_over or (look.page.is_all and not follow):
                return
            if look.page.is_all:
                with suppress(TimeoutError):
                    backstop = services.timeouts.result_backstop
                    await asyncio.wait_for(heard.wait(), min(backstop, max(ask_at - loop.time(), 0.001)))
            position = look.page.position


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look at a run's logs found."""

    events: list[RunEvent]
    page: TellingPage
    is_over: bool


async def _look(services: Services, run_id: RunId, position: LogPosition) -> _Look:
    """Read what is new of a run.

    Raises:
        RunNotFoundError: There is no such run, any more.
        UnreadableRecordError: Something of it cannot be read.
    """
    ranges = position.ranges(run_id)
    read = Read(slot=slot_of(run_id), cells=(keys.header(run_id), keys.state(run_id)), logs=ranges)
    found = await services.session.read(read)
    header_cell, state_cell = found.cells
    if not header_cell.version or not state_cell.version:
        await services.runs.load(run_id)  # says why it is not there
        raise RunNotFoundError(run_id=run_id)
    header = read_header(run_id, header_cell.value)
    events: list[RunEvent] = []
    if position.epoch == 0:
        position = replace(position, epoch=1)
        events.append(_started(header, position))
    page = telling_of(position, ranges, found.logs)
    events += (_event(services, run_id, told, str(behind)) for told, behind in page.told)
    state = readable_state(
        services.sealing, run_id, read_record(codec.decode_state, state_cell.value, keys.state(run_id))
    )
    is_over = page.is_all and state.status.is_terminal
    if is_over and state_cell.version > page.position.epoch:
        ended_at = replace(page.position, epoch=state_cell.version)
        events.append(_ended(run_id, state, ended_at))
    return _Look(events, page, is_over)


def _started(header: RunHeader, position: LogPosition) -> RunStarted:
    return RunStarted(
        run_id=header.run_id, at=at(header.created_at_ms), position=str(position), workflow=header.workflow,
        version=header.version,
    )  # fmt: skip


def _ended(run_id: RunId, state: RunState, position: LogPosition) -> RunEnded:
    ended_at = state.updated_at_ms if state.finished_at_ms is None else state.finished_at_ms
    return RunEnded(
        run_id=run_id, at=at(ended_at), position=str(position), status=state.status, failure=failure_in_words(state),
        reason=state.reason,
    )  # fmt: skip


_ENDED: dict[WorkItemStatus, type[ItemEnded]] = {
    WorkItemStatus.COMPLETED: ItemCompleted,
    WorkItemStatus.FAILED: ItemFailed,
    WorkItemStatus.CANCELLED: ItemCancelled,
}


def _event(services: Services, run_id: RunId, told: Told, position: str) -> RunEvent:
    """Return an entry of a log as shown."""
    facts: dict[str, Any] = {"run_id": run_id, "position": position}
    match told:
        case HistoryEntry():
            return _ENDED[told.status](
                item_id=told.item_id, node=told.node, attempts=told.attempts, worker=told.worker, parent=told.parent,
                duration=timedelta(microseconds=told.duration_us), at=at(told.ended_at_ms), **facts,
            )  # fmt: skip
        case ErrorRecord():
            record = readable_record(services.sealing, run_id, told)
            return AttemptFailed(
                item_id=record.item_id, node=record.node, attempt=record.attempt, worker=record.worker,
                error_type=record.error.error_type, message=record.error.message, will_retry=record.will_retry,
                at=at(record.at_ms), **facts,
            )  # fmt: skip
        case AuditRecord():
            return RunSteered(
                action=told.action, by=told.by, reason=told.reason, detail=told.detail, at=at(told.at_ms), **facts
            )
        case Moment(kind=MomentKind.SIGNALLED):
            return RunSignalled(signal=told.name, at=at(told.at_ms), **facts)
        case Moment():
            return ItemHeld(
                item_id=told.item_id, node=told.node, signals=tuple(told.name.split()),
                until=at(told.until_ms) if told.until_ms else None, at=at(told.at_ms), **facts,
            )  # fmt: skip
