"""Publishing with confirms, many in flight at once.

Owns the publish connection's channel. A publish is never cancelled and never timed out on its own: when the oldest
unconfirmed one is over the deadline, the connection is replaced. Each attempt has a fresh message id, because returned
messages are matched by it. What was in flight when a connection broke may be stored, and is published again while the
deadline lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar
from uuid import uuid4

from aiormq.exceptions import ChannelAccessRefused, DeliveryError, PublishError
from pamqp.commands import Basic

from floxide_amqp.drivers.amqp._errors import describe, is_foreign, is_unrequested_cancellation, largest_size_allowed
from floxide_amqp.drivers.amqp.connection import Link
from floxide_amqp.drivers.amqp.frames import publish
from floxide_amqp.drivers.amqp.missing_queues import MissingQueues
from floxide_amqp.drivers.amqp.publication import Publication, PublishLane
from floxide_amqp.drivers.amqp.refusals import Refusals
from floxide_amqp.drivers.amqp.session import Session, when_closed
from floxide_amqp.drivers.amqp.settings import AmqpSettings
from floxide_amqp.drivers.amqp.topology import Names, ensure_exchange
from floxide_amqp.exceptions import BrokerError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.work_queue import Message, PublishOutcome

_logger = get_logger(__name__)

PERSISTENT: Final = 2
"""AMQP delivery mode: written to disk."""

WATCH_SECONDS: Final = 0.25
"""How often unconfirmed messages are looked at."""

T = TypeVar("T")


class Publisher:
    """Publishes into the work exchange; see `AmqpWorkQueue`."""

    def __init__(self, names: Names, settings: AmqpSettings) -> None:
        self._names = names
        self._settings = settings
        self._missing_queues = MissingQueues(names)
        self._refusals = Refusals()
        self._lane: PublishLane | None = None
        self._on_its_way: set[Publication] = set()
        self._bytes_on_their_way = 0
        self._room = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watchdog: asyncio.Task[None] | None = None
        self._confirmed_at = 0.0
        self._max_message_bytes = settings.max_message_bytes

    @property
    def max_message_bytes(self) -> int:
        """Largest body: the setting, or less where the broker turned out to allow less."""
        return self._max_message_bytes

    async def prepare(self, session: Session) -> None:
        """Make a new connection ready to publish."""
        await ensure_exchange(session, self._names.work_exchange, "direct")
        channel = await session.open_channel(publisher_confirms=True)
        when_closed(channel, lambda error: _on_channel_closed(session, error))
        self._lane = PublishLane(session, channel)

    async def publish(self, messages: Sequence[Message], link: Link) -> Sequence[PublishOutcome]:
        """Publish messages and return what became of each, in order; cancelling the call leaves them on their way."""
        for message in messages:
            self._names.work_queue(message.queue)  # a name that cannot be is the caller's mistake, not an outcome
        if not link.is_open:
            return [PublishOutcome.UNKNOWN] * len(messages)
        return await asyncio.shield(self._keep(self._publish_all(messages, link)))

    async def aclose(self) -> None:
        """Wait for what is on its way, up to the deadline for a farewell."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._settings.close_deadline)
        for publication in self._on_its_way:
            publication.settle(PublishOutcome.UNKNOWN)
        if self._watchdog is not None:
            self._watchdog.cancel()
            await asyncio.gather(self._watchdog, return_exceptions=True)
            self._watchdog = None

    async def drop_rest(self) -> None:
        """Forget what could not be finished, once its connection is gone."""
        rest = tuple(self._tasks)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _publish_all(self, messages: Sequence[Message], link: Link) -> Sequence[PublishOutcome]:
        if self._watchdog is None:
            self._watchdog = asyncio.create_task(self._watch())
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        publications: list[Publication] = []
        for message in messages:
            await self._wait_for_room(len(message.body))
            # A long batch may take longer than the deadline, as long as confirms keep coming.
            deadline = max(asked_at, self._confirmed_at) + self._settings.publish_deadline
            publication = Publication(message, deadline, loop.create_future())
            publications.append(publication)
            if len(message.body) > self._max_message_bytes:
                publication.settle(PublishOutcome.REFUSED)
                continue
            self._enter(publication)
            self._keep(self._carry(publication, link))
        return [await publication.outcome for publication in publications]

    async def _carry(self, publication: Publication, link: Link) -> None:
        """Try until the outcome is known or the time is over."""
        try:
            while not publication.outcome.done():
                lane = await self._open_lane(publication, link)
                if lane is None:
                    break
                outcome = await self._attempt(lane, publication)
                if outcome is PublishOutcome.RETURNED and await self._is_worth_another_try(lane, publication):
                    continue
                if outcome is not None:
                    publication.settle(outcome)
        finally:
            publication.settle(PublishOutcome.UNKNOWN)
            self._leave(publication)

    async def _attempt(self, lane: PublishLane, publication: Publication) -> PublishOutcome | None:
        """Publish once; None where the connection broke before the broker said what it did."""
        message = publication.message
        publication.sent_at = asyncio.get_running_loop().time()
        publication.lane, publication.task = lane, asyncio.current_task()
        try:
            confirmation = await publish(
                lane.channel, message.body, exchange=self._names.work_exchange, routing_key=message.queue,
                mode=PERSISTENT, message_id=uuid4().hex, correlation_id=message.correlation_id[:255], mandatory=True,
            )  # fmt: skip
        except PublishError:
            lane.session.touch()
            return PublishOutcome.RETURNED
        except DeliveryError:
            lane.session.touch()
            self._note_refused(lane, message.queue)
            return PublishOutcome.REFUSED
        except asyncio.CancelledError:
            if publication.is_abandoned and publication.task is not None:
                publication.task.uncancel()
            elif not is_unrequested_cancellation():
                raise
            return None
        except Exception as error:
            if not is_foreign(error):
                raise
            return self._after_loss(error, message)
        finally:
            publication.sent_at = publication.lane = publication.task = publication.stranded_at = None
            publication.is_abandoned = False
        if not isinstance(confirmation, Basic.Ack):
            return PublishOutcome.REFUSED
        lane.session.touch()
        self._refusals.note_confirmed(message.queue)
        self._confirmed_at = asyncio.get_running_loop().time()
        return PublishOutcome.CONFIRMED

    def _note_refused(self, lane: PublishLane, queue: str) -> None:
        if lane.is_open and self._refusals.note_refused(queue, asyncio.get_running_loop().time()):
            _logger.warning("broker.publishes_refused", queue=queue)
            lane.session.abort(f"the broker refuses every message for {queue}")

    async def _is_worth_another_try(self, lane: PublishLane, publication: Publication) -> bool:
        """Declare the queue that a message missed; once, for its binding may be gone again."""
        if publication.was_returned or not self._settings.declares_missing_queues:
            return False
        publication.was_returned = True
        return await self._missing_queues.declare(lane.session, publication.message.queue)

    def _after_loss(self, error: Exception, message: Message) -> PublishOutcome | None:
        """Tell from how the channel was closed whether this very message was the reason."""
        if isinstance(error, ChannelAccessRefused):
            return PublishOutcome.REFUSED
        limit = largest_size_allowed(error)
        if limit is not None and limit < self._max_message_bytes:
            self._max_message_bytes = limit
            _logger.warning("broker.message_limit_learned", max_message_bytes=limit)
        return PublishOutcome.REFUSED if len(message.body) > self._max_message_bytes else None

    async def _open_lane(self, publication: Publication, link: Link) -> PublishLane | None:
        """Wait for a channel that takes messages; None once the time is over."""
        while not publication.outcome.done():
            lane = self._lane
            if lane is not None and lane.is_open:
                return lane
            remaining = publication.deadline - asyncio.get_running_loop().time()
            if remaining <= 0 or not link.is_open:
                break
            await self._pause(link, remaining)
        return None

    async def _pause(self, link: Link, remaining: float) -> None:
        """Wait for the supervisor to do something."""
        if link.current is not None:
            await asyncio.sleep(min(remaining, WATCH_SECONDS / 5))  # blocked, or just breaking
            return
        try:
            await link.session(within=remaining)
        except BrokerError:
            await asyncio.sleep(min(remaining, WATCH_SECONDS))

    async def _watch(self) -> None:
        """Settle what is over its deadline, and replace a connection that stopped confirming."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = asyncio.get_running_loop().time()
            for publication in tuple(self._on_its_way):
                self._check_deadline(publication, now)
                publication.free_if_stranded(now)

    def _check_deadline(self, publication: Publication, now: float) -> None:
        session = None if self._lane is None else self._lane.session
        if session is not None and session.is_usable and not session.is_blocked:
            sent_at = publication.sent_at
            if sent_at is not None and now - sent_at > self._settings.publish_deadline:
                _logger.error("broker.confirms_stalled", deadline_seconds=self._settings.publish_deadline)
                session.abort("publishes are not confirmed")
        if now > publication.deadline:
            publication.settle(PublishOutcome.UNKNOWN)

    async def _wait_for_room(self, size: int) -> None:
        while not self._has_room(size):
            self._room.clear()
            await self._room.wait()

    def _enter(self, publication: Publication) -> None:
        self._on_its_way.add(publication)
        self._bytes_on_their_way += len(publication.message.body)

    def _leave(self, publication: Publication) -> None:
        self._on_its_way.discard(publication)
        self._bytes_on_their_way -= len(publication.message.body)
        self._room.set()

    def _has_room(self, size: int) -> bool:
        if not self._on_its_way:
            return True
        fits = self._bytes_on_their_way + size <= self._settings.publish_window_bytes
        return fits and len(self._on_its_way) < self._settings.publish_window

    def _keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _on_channel_closed(session: Session, error: BaseException | None) -> None:
    if session.is_usable:
        session.abort("the publish channel was closed" + ("" if error is None else f": {describe(error)}"))
