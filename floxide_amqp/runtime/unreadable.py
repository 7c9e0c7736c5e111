"""What becomes of messages and records that cannot be read: they end where somebody sees them, and nothing spins.

* A message that is none goes into the quarantine, whole, with its reason.
* A run one of whose records is damaged fails, and its failure names the record; resuming it tries again.
* Where not even the run can be read, the message goes into the quarantine; what the store notes of it stays.
* What a newer release wrote is left to workers of that release, as long as there may be some.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import replace

from floxide_amqp.core.failure import describe_error
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.message_records import Envelope, Quarantined
from floxide_amqp.core.place_changes import LeaveMessage
from floxide_amqp.core.records import RunFailure
from floxide_amqp.exceptions import (
    CodecError,
    MissingKeyError,
    NewerFormatError,
    RunNotFoundError,
    UndecodableError,
    UnreadableRecordError,
)
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.work_queue import Delivery
from floxide_amqp.runtime.control_actions import fail_run
from floxide_amqp.runtime.keyless import park_where_it_stands
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.setting_aside import set_aside_where_it_stands
from floxide_amqp.stores.indexes import MessageNote
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.writes import BatchWriter

_log = get_logger("floxide_amqp.unreadable")

PAUSE_FOR_OTHERS_SECONDS = 1.0
"""Pause before a message of a newer release goes back, so that it does not spin."""

LEFT_TO_OTHERS_SECONDS = 300.0
"""How long a message of a newer release comes back here before it counts as one that nobody will take: longer than a
rolling upgrade lets one release starve. It is quarantined then; the store knows its item, and sends another message."""

MAX_REMEMBERED = 10_000
"""Messages of newer releases that are remembered; the oldest are forgotten, and get their time once more."""


class Unreadable:
    """Deals with what this worker cannot read.

    Args:
        services: The process's parts.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._first_seen: OrderedDict[bytes, float] = OrderedDict()

    async def refuse(self, delivery: Delivery, error: CodecError) -> None:
        """Deal with a message that cannot be decoded."""
        if not isinstance(error, NewerFormatError) or not await self._leave_to_others(delivery, str(error)):
            await self._quarantine(delivery, str(error))

    async def stop_at(self, delivery: Delivery, envelope: Envelope, error: UnreadableRecordError) -> None:
        """Deal with a message that led to a record which cannot be read."""
        if error.is_newer and await self._leave_to_others(delivery, str(error)):
            return
        if await fail_unreadable(self._services, envelope.run_id, envelope.item_id, error):
            if envelope.entry:
                leave = LeaveMessage(envelope.queue, envelope.entry)
                await self._services.session.commit(BatchWriter(envelope.run_id, 0).batch((), (leave,)))
            await delivery.acknowledge()
            return
        await self._quarantine(delivery, f"It is about item {envelope.item_id} of run {envelope.run_id!r}. {error}")

    async def wait_for_key(self, delivery: Delivery, envelope: Envelope, error: MissingKeyError) -> None:
        """Deal with a message whose chain came to what this process has no key for: its item waits for one that has."""
        if await park_where_it_stands(self._services, envelope, error):
            await delivery.acknowledge()
            return
        await asyncio.sleep(PAUSE_FOR_OTHERS_SECONDS)  # somebody else is at the item: the message finds out who
        await delivery.release()

    async def set_aside(self, delivery: Delivery, envelope: Envelope, error: UndecodableError) -> None:
        """Deal with a message whose chain came to what this code does not decode: its item waits to be requeued."""
        if await set_aside_where_it_stands(self._services, envelope, str(error)):
            await delivery.acknowledge()
            return
        await asyncio.sleep(PAUSE_FOR_OTHERS_SECONDS)  # somebody else is at the item: the message finds out who
        await delivery.release()

    async def _leave_to_others(self, delivery: Delivery, reason: str) -> bool:
        """Give a message back for a newer release; return False if it has come back here for too long."""
        digest = hashlib.blake2b(delivery.body, digest_size=16).digest()
        now = asyncio.get_running_loop().time()
        first = self._first_seen.setdefault(digest, now)
        if now - first > LEFT_TO_OTHERS_SECONDS:
            del self._first_seen[digest]
            return False
        if len(self._first_seen) > MAX_REMEMBERED:
            self._first_seen.popitem(last=False)
        _log.warning("message.left_to_others", queue=delivery.queue, reason=reason)
        await asyncio.sleep(PAUSE_FOR_OTHERS_SECONDS)
        await delivery.release()
        return True

    async def _quarantine(self, delivery: Delivery, reason: str) -> None:
        """Keep a message with its reason, and only then take it off the queue."""
        await quarantine(self._services, delivery.queue, delivery.body, reason)
        await delivery.acknowledge()


async def quarantine(services: Services, queue: str, body: bytes, reason: str) -> None:
    """Keep bytes that nobody can read, with the reason."""
    now = services.now_ms()
    name = f"{now:014d}-{hashlib.blake2b(body, digest_size=8).hexdigest()}"
    await services.quarantine.add(Quarantined(quarantine_id=name, queue=queue, reason=reason, body=body, at_ms=now))
    services.figures.quarantined += 1
    _log.error("message.quarantined", quarantine_id=name, queue=queue, reason=reason)


async def fail_unreadable(services: Services, run_id: RunId, item_id: WorkItemId, error: UnreadableRecordError) -> bool:
    """Fail a run because one of its records is damaged; return whether the run is over.

    False where the run itself cannot be read, and where nothing is damaged: a newer release wrote the record.
    """
    if error.is_newer:
        return False

    def failure(run: StoredRun) -> RunFailure:
        described = replace(describe_error(error), traceback="")
        return RunFailure(node="", item_id=item_id or run.header.start_item, error=described, attempts=0)

    try:
        if await fail_run(services, run_id, failure, undoes=False):
            _log.error("run.unreadable", run_id=run_id, item_id=item_id, place=error.place, problem=error.problem)
    except (UnreadableRecordError, RunNotFoundError):
        return False
    return True


async def put_aside(services: Services, note: MessageNote) -> None:
    """Take what is noted of a message, and cannot be read, off the list: its bytes go into the quarantine."""
    if note.damaged is None or note.damage is None or note.damage.is_newer:
        return
    await quarantine(services, note.queue, note.damaged.value, f"What the store noted of a message: {note.damage}")
    await services.indexes.drop_message(note.queue, note.damaged)
