"""Putting, steering and looking at schedules, for applications that declare them and ``orchestrator.schedules``."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from floxide_amqp.core.instants import at
from floxide_amqp.core.run_ids import check_run_id
from floxide_amqp.core.schedules import (
    RunTemplate,
    ScheduleSpec,
    ScheduleState,
    paused,
    resumed,
    triggered,
    triggered_run_id,
)
from floxide_amqp.exceptions import FloxideError, PayloadMismatchError, ScheduleNotFoundError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.occurrences import timing_of
from floxide_amqp.runtime.registry import Registry, graph_of
from floxide_amqp.runtime.schedule import Schedule, check_name
from floxide_amqp.runtime.schedule_firing import begin_planned, fire_schedule, was_begun, write_schedule
from floxide_amqp.runtime.schedule_views import ScheduleInfo, schedule_info
from floxide_amqp.runtime.scheduled_runs import template_of
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.starting import encoded_start
from floxide_amqp.stores import schedule_keys
from floxide_amqp.stores.encoding import encode_payload
from floxide_amqp.stores.schedules import StoredSchedule, timer_of
from floxide_amqp.stores.sealed import Place
from floxide_amqp.stores.sealed_places import SCHEDULED_CONTEXT, SCHEDULED_INPUT

_log = get_logger("floxide_amqp.schedules")

MAX_PAGE: Final = 1_000
"""Schedules on a page, and occurrences told in advance, at most."""

Change = Callable[[ScheduleSpec, ScheduleState, int], ScheduleState]


class Schedules:
    """The schedules of a store: ``orchestrator.schedules``.

    Args:
        services: The process's parts.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def put(self, schedule: Schedule[Any]) -> ScheduleInfo:
        """Put a schedule into the store, or give one of its name another content; putting it again changes nothing.

        Where its times are others, it goes on from now; else it is as far as it was, and paused if it was.

        Raises:
            CodecError: The input is not of the workflow's type.
            DefinitionError: The context is missing or of another class.
        """
        return await put_schedule(self._services, schedule)

    async def get(self, name: str) -> ScheduleInfo:
        """Return a schedule.

        Raises:
            ScheduleNotFoundError: There is none of this name.
        """
        return schedule_info(await _load(self._services, name))

    async def list(self, *, after: str = "", limit: int = 100) -> Sequence[ScheduleInfo]:
        """Return schedules by their names, 1 to 1,000 of them, behind the name `after`."""
        names = await self._services.schedules.names(after=after, limit=max(1, min(limit, MAX_PAGE)))
        found = await asyncio.gather(*(self._services.schedules.find(name) for name in names))
        return [schedule_info(stored) for stored in found if stored is not None]

    async def pause(self, name: str, *, reason: str = "") -> None:
        """Let nothing begin any more; runs that have begun go on, and what waits in the queue is kept.

        Raises:
            ScheduleNotFoundError: There is none of this name.
        """
        await _change(self._services, name, lambda _spec, state, _now: paused(state, reason))

    async def resume(self, name: str) -> None:
        """Go on from now; what was due during the pause is not caught up.

        Raises:
            ScheduleNotFoundError: There is none of this name.
        """
        await _change(self._services, name, lambda spec, state, now: resumed(state, now, timing_of(spec)))

    async def trigger(self, name: str, *, trigger_id: str = "") -> str:
        """Start a run of a schedule now, whatever runs already, and also while it is paused.

        Args:
            name: The schedule.
            trigger_id: Tells this from all others, so that it may be repeated: up to 60 printable characters; a random
                one if left out.

        Returns:
            The run's id, ``<name>@trigger-<trigger_id>``. Once this returns, the run is as sure as the store, and it
            is there to be looked at; only where it could not be started from here, because its server is down or this
            process lacks the key of the schedule's input, it is left to the leader, and the log says so.

        Raises:
            ScheduleNotFoundError: There is none of this name.
            InvalidRunIdError: No run's id can end so.
        """
        trigger_id = trigger_id or secrets.token_hex(6)
        run_id = triggered_run_id(name, trigger_id)
        check_run_id(run_id)
        stored = await _trigger(self._services, name, trigger_id)
        try:
            await fire_schedule(self._services, timer_of(name, stored.state))
            await begin_planned(self._services, stored, run_id)  # the schedule may have changed meanwhile
        except FloxideError as error:
            _log.warning("schedule.left_to_leader", schedule=name, error=str(error))
        return run_id

    async def delete(self, name: str) -> bool:
        """Forget a schedule; its runs stay. One that an application declares comes back with its next worker.

        Returns:
            Whether it was there.
        """
        while (stored := await self._services.schedules.find(name)) is not None:
            if await self._services.schedules.delete(stored):
                return True
        return False

    async def next(self, name: str, *, count: int = 5) -> Sequence[datetime]:
        """Return the next occurrences of a schedule, 1 to 1,000, aware UTC, without jitter.

        Raises:
            ScheduleNotFoundError: There is none of this name.
            ConfigurationError: This process cannot tell: it lacks cronsim, or the time zone.
        """
        stored = await _load(self._services, name)
        timing, at_ms = timing_of(stored.spec), stored.state.next_ms
        found: list[datetime] = []
        while at_ms and len(found) < min(count, MAX_PAGE):
            found.append(at(at_ms))
            at_ms = timing.after(at_ms)
        return found


class DeclaredSchedules:
    """Each worker's part: puts the schedules that its application declares, once for each server of the store.

    Args:
        services: The process's parts, with the part of the store on one server.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        here, whole = services.session, services.whole.session
        self._left = [
            each for each in services.declared if whole.beside(schedule_keys.schedule_partition(each.name)) is here
        ]

    async def put(self) -> None:
        """Put those that were not put yet."""
        while self._left:
            await put_schedule(self._services, self._left[0])
            del self._left[0]


def check_schedules(schedules: Iterable[Schedule[Any]], registry: Registry) -> tuple[Schedule[Any], ...]:
    """Return the schedules given to an application.

    Raises:
        CodecError: The input of one is not of its workflow's type.
        ConfigurationError: The application lacks the workflow of one, or two have one name.
    """
    checked = tuple(schedules)
    registry.check_declared("schedule", checked)
    for each in checked:
        try:
            encode_payload(graph_of(each.workflow).input, each.input)
        except PayloadMismatchError as error:
            raise error.at(f"The input of schedule {each.name!r}") from error
    return checked


async def put_schedule(services: Services, schedule: Schedule[Any]) -> ScheduleInfo:
    """Put a schedule into the store, unless it is there; raises as `Schedules.put`."""
    check_name(schedule.name)
    graph = graph_of(schedule.workflow)
    payload, context = encoded_start(services, graph, schedule.input, schedule.context)
    sealing, partition = services.sealing, schedule_keys.schedule_partition(schedule.name)
    template = template_of(graph)
    parts = _digest_parts(schedule, template, payload, context)
    while True:
        stored, now = await services.schedules.find(schedule.name), services.now_ms(partition)
        if stored is not None and sealing.is_digest_of(stored.spec.digest, *parts):
            return schedule_info(stored)
        spec = ScheduleSpec(
            name=schedule.name,
            template=replace(
                template, input=sealing.seal(payload, Place(partition, SCHEDULED_INPUT)),
                context=sealing.seal(context, Place(partition, SCHEDULED_CONTEXT)),
            ),
            every_ms=schedule.every_ms, cron=schedule.cron or "", timezone=schedule.timezone,
            jitter_ms=schedule.jitter_ms, overlap=schedule.policy, catch_up_ms=schedule.catch_up_ms,
            digest=sealing.digest(*parts), created_at_ms=now if stored is None else stored.spec.created_at_ms,
        )  # fmt: skip
        state = ScheduleState(paused=schedule.paused) if stored is None else stored.state
        if stored is None or stored.spec.timing != spec.timing:
            state = replace(state, next_ms=schedule.timing.after(max(now, state.last_ms)))
        written = await write_schedule(services, spec, state, stored, now)
        if written is not None:
            _log.info("schedule.put", schedule=spec.name, workflow=template.workflow, version=template.version)
            return schedule_info(written)


async def _change(services: Services, name: str, change: Change) -> StoredSchedule:
    """Change a schedule's state; what changes nothing is not written."""
    while True:
        stored = await _load(services, name)
        now = services.now_ms(schedule_keys.schedule_partition(name))
        state = change(stored.spec, stored.state, now)
        if state == stored.state:
            return stored
        written = await write_schedule(services, stored.spec, state, stored, now)
        if written is not None:
            return written


async def _trigger(services: Services, name: str, trigger_id: str) -> StoredSchedule:
    """Decide on a run that somebody triggers, unless it was begun before: a schedule knows its last runs only."""
    while True:
        stored = await _load(services, name)
        now = services.now_ms(schedule_keys.schedule_partition(name))
        state = triggered(stored.spec, stored.state, trigger_id, now)
        if state == stored.state or await was_begun(services, name, triggered_run_id(name, trigger_id)):
            return stored
        written = await write_schedule(services, stored.spec, state, stored, now)
        if written is not None:
            return written


async def _load(services: Services, name: str) -> StoredSchedule:
    stored = await services.schedules.find(name)
    if stored is None:
        raise ScheduleNotFoundError(name=name)
    return stored


def _digest_parts(schedule: Schedule[Any], template: RunTemplate, payload: bytes, context: bytes) -> tuple[bytes, ...]:
    """What makes a schedule the same as another."""
    said = (
        schedule.name, template.workflow, template.version, template.start, template.queue, str(template.timeout_ms),
        str(schedule.every_ms), schedule.cron or "", schedule.timezone, str(schedule.jitter_ms), schedule.policy.value,
        str(schedule.catch_up_ms),
    )  # fmt: skip
    return (*(each.encode() for each in said), template.hook, payload, context)
