"""What becomes of a source's messages: runs that are recorded, duplicates, and what no run can be made of.

A message is settled when the store knows what became of it, and not before. Whatever happens in between, it comes
again, and its run is found by its id: nothing is lost by that, and nothing begins twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from floxide_amqp.core.decisions import Outgoing
from floxide_amqp.core.failure import storable
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.message_records import Quarantined
from floxide_amqp.core.records import RunHeader
from floxide_amqp.core.sources import SourceCounts, SourceMessage
from floxide_amqp.exceptions import (
    CodecError,
    FloxideError,
    RunDeletedError,
    StoreError,
    UnknownKeyError,
    UnreadableRecordError,
)
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.message_source import SourceDelivery
from floxide_amqp.runtime.amqp_source import AmqpSource
from floxide_amqp.runtime.message_decoding import attributes_of, context_of, input_of, priority_of, run_id_of
from floxide_amqp.runtime.open_runs import OpenRuns
from floxide_amqp.runtime.registry import graph_of
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.side_by_side import side_by_side
from floxide_amqp.runtime.source_counts import count_items
from floxide_amqp.runtime.starting import StartRequest, prepare, send_first, store
from floxide_amqp.stores.session import WAITED_FOR
from floxide_amqp.stores.source_messages import seal_message

_log = get_logger("floxide_amqp.sources")

PAUSE_SECONDS: Final = 0.5
"""Pause before the store is asked again that was out of reach; doubles."""

LONGEST_PAUSE_SECONDS: Final = 10.0

NOT_SAID: Final = "no run can be made of it (the reason is not stored: encryption is on)"
"""In place of a reason that may quote what the message says."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unusable:
    """A message that no run can be made of.

    Attributes:
        error: Why.
    """

    delivery: SourceDelivery
    error: Exception


@dataclass(slots=True)
class _Usable:
    delivery: SourceDelivery
    value: Any
    run_id: RunId
    request: StartRequest | None = None


class SourceIntake:
    """Makes runs of messages.

    Args:
        services: The process's parts.
        source: The source.
        open_runs: Told how many runs were started.
    """

    def __init__(self, services: Services, source: AmqpSource[Any], open_runs: OpenRuns) -> None:
        self._services = services
        self._source = source
        self._graph = graph_of(source.workflow)
        self._open_runs = open_runs

    async def record(self, deliveries: Sequence[SourceDelivery]) -> SourceCounts:
        """Record what becomes of messages, then settle them; waits for a store that is out of reach.

        Raises:
            StoreError: What waiting does not cure; the messages stay as they are.
        """
        usable, unusable = await self._prepared(deliveries)
        started, twins, refused = await self._started(usable)
        unusable += refused
        await side_by_side(self._set_aside, unusable)
        is_kept = self._source.on_unusable == "quarantine"
        counts = SourceCounts(
            received=len(deliveries), started=len(started), duplicates=twins,
            quarantined=len(unusable) if is_kept else 0, rejected=0 if is_kept else len(unusable),
        )  # fmt: skip
        await count_items(self._services, self._source.name, counts, started, self._open_runs)
        set_aside = {id(each.delivery) for each in unusable}
        for delivery in deliveries:
            if is_kept or id(delivery) not in set_aside:
                await delivery.acknowledge()
            else:
                await delivery.reject()
        return counts

    async def start_one(self, message: SourceMessage) -> RunId:
        """Make a run of a message that was kept; return its id.

        Raises:
            CodecError: None can be made of it.
            RunError: Its run is there and was started with something else, or was deleted not long ago.
        """
        value = input_of(self._source, self._graph, message)
        usable = _Usable(_Kept(message), value, run_id_of(self._source, message, value))
        await self._services.session.learn_times([usable.run_id])
        request = self._request(usable)
        first = await store(self._services, request)
        if first is not None:
            await send_first(self._services, self._graph, [(request.header, first)])
        return usable.run_id

    # --- from a message to a run

    async def _prepared(self, deliveries: Sequence[SourceDelivery]) -> tuple[list[_Usable], list[Unusable]]:
        usable: list[_Usable] = []
        unusable: list[Unusable] = []
        for delivery in deliveries:
            try:
                value = input_of(self._source, self._graph, delivery.message)
                usable.append(_Usable(delivery, value, run_id_of(self._source, delivery.message, value)))
            except CodecError as error:
                unusable.append(Unusable(delivery, error))
        await self._services.session.learn_times(each.run_id for each in usable)
        for each in usable:
            try:
                each.request = self._request(each)
            except FloxideError as error:
                unusable.append(Unusable(each.delivery, error))
        return [each for each in usable if each.request is not None], unusable

    def _request(self, usable: _Usable) -> StartRequest:
        source, message = self._source, usable.delivery.message
        return prepare(
            self._services, self._graph, usable.value, context_of(source, message, usable.value), usable.run_id, "",
            attributes=attributes_of(source.attributes, message), priority=priority_of(source, message),
        )  # fmt: skip

    async def _started(self, usable: Sequence[_Usable]) -> tuple[list[RunId], int, list[Unusable]]:
        """Store runs; return those that are new, how many were there already, and what no run could be made of."""
        new: list[RunId] = []
        twins, refused = 0, list[Unusable]()
        outgoing: list[tuple[RunHeader, Outgoing]] = []
        found = await asyncio.gather(*(self._stored(each) for each in usable))
        for each, result in zip(usable, found, strict=True):
            if isinstance(result, RunDeletedError) or result is None:
                twins += 1
            elif isinstance(result, Exception):
                refused.append(Unusable(each.delivery, result))
            else:
                if each.request is not None:
                    outgoing.append((each.request.header, result))
                if result.recovered:
                    twins += 1
                else:
                    new.append(each.run_id)
        await send_first(self._services, self._graph, outgoing)
        return new, twins, refused

    async def _stored(self, usable: _Usable) -> Outgoing | Exception | None:
        """Store a run; return its first message, None where it was there, or why it cannot be."""
        request = usable.request
        if request is None:
            return None
        try:
            return await when_in_reach(lambda: store(self._services, request))
        except UnreadableRecordError as error:  # of its run, which is there: other messages have others
            return error
        except (StoreError, UnknownKeyError):
            raise
        except Exception as error:  # noqa: BLE001 - an interceptor of the user's may raise anything: it is kept
            return error

    # --- what no run can be made of

    async def _set_aside(self, unusable: Unusable) -> None:
        source, services, message = self._source, self._services, unusable.delivery.message
        reason = NOT_SAID if services.sealing.hides else storable(str(unusable.error))
        if source.on_unusable == "reject":
            _log.error("source.message_rejected", source=source.name, message_id=message.message_id, reason=reason)
            return
        now = services.now_ms()
        # no digest of the body: two messages may have the same, and an encrypted one is not to be guessed
        quarantine_id = f"{now:014d}-{services.session.new_token().hex()}"
        kept, cut_from = self._kept(quarantine_id, message)
        found = Quarantined(
            quarantine_id=quarantine_id, queue=source.queue, reason=reason, body=kept, at_ms=now, cut_from=cut_from,
            source=source.name,
        )  # fmt: skip
        await when_in_reach(lambda: services.quarantine.add(found))
        services.figures.quarantined += 1
        _log.error(
            "source.message_quarantined", source=source.name, quarantine_id=quarantine_id,
            message_id=message.message_id, reason=reason,
        )  # fmt: skip

    def _kept(self, quarantine_id: str, message: SourceMessage) -> tuple[bytes, int]:
        """Return what is kept of a message; of one that is too long its beginning, and how long it was."""
        sealing, name = self._services.sealing, self._source.name
        try:
            return seal_message(sealing, name, quarantine_id, message), 0
        except CodecError:
            short = replace(message, body=message.body[: self._source.max_bytes // 2], headers={})
            return seal_message(sealing, name, quarantine_id, short), len(message.body)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A message from the quarantine, which no queue waits for."""

    message: SourceMessage

    async def acknowledge(self) -> None:
        """Do nothing."""

    async def reject(self) -> None:
        """Do nothing."""


async def when_in_reach(act: Callable[[], Awaitable[T]]) -> T:
    """Do something with the store, again and again where it is out of reach."""
    pause = PAUSE_SECONDS
    while True:
        try:
            return await act()
        except WAITED_FOR as error:
            _log.warning("source.waits_for_store", error=str(error), retry_in_seconds=pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
