"""Publishing with confirms, many in flight at once.

Owns the publish connection's channel. A publish is never cancelled and never timed out on its own: when the oldest
unconfirmed one is over the deadline, the connection is replaced. What was in flight when a connection broke may be
stored, and is published again while the deadline lasts.

A message goes out at once where there is room and a channel, without a task: those are for what takes longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar

from floxide_amqp.drivers.amqp._errors import describe, is_access_refused, largest_size_allowed
from floxide_amqp.drivers.amqp.channel_wire import Answer
from floxide_amqp.drivers.amqp.connection import Link
from floxide_amqp.drivers.amqp.missing_queues import MissingQueues
from floxide_amqp.drivers.amqp.odd_frames import LONGEST_TEXT
from floxide_amqp.drivers.amqp.publication import Publication, PublishLane
from floxide_amqp.drivers.amqp.publish_window import PublishWindow
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
        self._window = PublishWindow(settings.publish_window, settings.publish_window_bytes)
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
        self._lane = PublishLane(session, session.wire(channel))  # first: it learns the reason before it is cut
        when_closed(channel, lambda error: _on_channel_closed(session, error))

    async def publish(self, messages: Sequence[Message], link: Link) -> Sequence[PublishOutcome]:
        """Publish messages and return what became of each, in order; cancelling the call leaves them on their way."""
        for message in messages:
            self._names.work_queue(message.queue)  # a name that cannot be is the caller's mistake, not an outcome
        if not link.is_open:
            return [PublishOutcome.UNKNOWN] * len(messages)
        if self._watchdog is None:
            self._watchdog = asyncio.create_task(self._watch())
        now = asyncio.get_running_loop().time()
        if not self._window.take(len(messages), sum(len(message.body) for message in messages)):
            in_turn = self._keep(self._publish_in_turn(messages, link, now))
            await asyncio.wait({in_turn})  # no shield: `drop_rest` cancels the task, and must not cancel the caller
            return [PublishOutcome.UNKNOWN] * len(messages) if in_turn.cancelled() else in_turn.result()
        begun = [self._begin(message, link, now) for message in messages]
        return [await asyncio.shield(publication.outcome) for publication in begun]

    async def aclose(self) -> None:
        """Wait for what is on its way, up to the deadline for a farewell."""
        under_way: set[asyncio.Future[Any]] = {*self._tasks, *(each.outcome for each in self._on_its_way)}
        if under_way:
            await asyncio.wait(under_way, timeout=self._settings.close_deadline)
        for publication in self._on_its_way:
            publication.settle(PublishOutcome.UNKNOWN)

    async def drop_rest(self) -> None:
        """Forget what could not be finished, once its connection is gone."""
        watchdog, self._watchdog = self._watchdog, None
        rest = [*self._tasks, *([] if watchdog is None else [watchdog])]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for publication in tuple(self._on_its_way):  # one whose task had not begun yet when it was cancelled
            self._finish(publication, PublishOutcome.UNKNOWN)

    async def _publish_in_turn(
        self, messages: Sequence[Message], link: Link, asked_at: float
    ) -> Sequence[PublishOutcome]:
        """Publish each message once there is room for it, as long as there is some in time."""
        begun: list[Publication] = []
        for message in messages:
            if not await self._window.wait(len(message.body), asked_at):
                break
            begun.append(self._begin(message, link, asked_at))
        outcomes = [await publication.outcome for publication in begun]
        return outcomes + [PublishOutcome.UNKNOWN] * (len(messages) - len(begun))

    def _begin(self, message: Message, link: Link, asked_at: float) -> Publication:
        """Publish a message that has its place in the window."""
        # A long batch may take longer than the deadline, as long as confirms keep coming.
        deadline = max(asked_at, self._confirmed_at) + self._settings.publish_deadline
        outcome: asyncio.Future[PublishOutcome] = asyncio.get_running_loop().create_future()
        publication = Publication(message, deadline, outcome, link, self._on_answer)
        self._on_its_way.add(publication)
        if len(message.body) > self._max_message_bytes:
            self._finish(publication, PublishOutcome.REFUSED)
        elif self._lane is not None and self._lane.is_open:
            self._attempt(self._lane, publication)
        else:
            self._keep(self._carry(publication))
        return publication

    def _attempt(self, lane: PublishLane, publication: Publication) -> None:
        """Publish once; `_on_answer` learns what became of it."""
        message = publication.message
        publication.lane, publication.sent_at = lane, asyncio.get_running_loop().time()
        lane.wire.publish(
            message.body, exchange=self._names.work_exchange, routing_key=message.queue, mode=PERSISTENT,
            correlation_id=_fitting(message.correlation_id), receipt=publication,
        )  # fmt: skip

    async def _carry(self, publication: Publication) -> None:
        """Publish as soon as there is a channel, if that is before the time is over."""
        lane = None
        try:
            lane = await self._open_lane(publication)
        finally:
            if lane is None:
                self._finish(publication, PublishOutcome.UNKNOWN)
        if lane is not None:
            self._attempt(lane, publication)

    def _on_answer(
        self, publication: Publication, lane: PublishLane, answer: Answer, error: BaseException | None
    ) -> None:
        """Finish with a message, or try again."""
        queue = publication.message.queue
        if answer is Answer.LOST:
            outcome = self._after_loss(error, publication.message)
            if outcome is None and not publication.outcome.done():
                self._keep(self._carry(publication))
            else:
                self._finish(publication, outcome or PublishOutcome.UNKNOWN)
            return
        lane.session.touch()
        if answer is Answer.TAKEN:
            self._refusals.note_confirmed(queue)
            self._confirmed_at = lane.session.answered_at
            self._finish(publication, PublishOutcome.CONFIRMED)
        elif answer is Answer.REFUSED:
            self._note_refused(lane, queue)
            self._finish(publication, PublishOutcome.REFUSED)
        elif publication.was_returned or not self._settings.declares_missing_queues:
            self._finish(publication, PublishOutcome.RETURNED)
        else:
            self._keep(self._find_queue(publication, lane))

    def _note_refused(self, lane: PublishLane, queue: str) -> None:
        if lane.is_open and self._refusals.note_refused(queue, asyncio.get_running_loop().time()):
            _logger.warning("broker.publishes_refused", queue=queue)
            lane.session.abort(f"the broker refuses every message for {queue}")

    async def _find_queue(self, publication: Publication, lane: PublishLane) -> None:
        """Declare the queue that a message missed, and publish again; once, for its binding may be gone again."""
        publication.was_returned = True
        is_there = False
        try:
            is_there = await self._missing_queues.declare(lane.session, publication.message.queue)
        finally:
            if not is_there:
                self._finish(publication, PublishOutcome.RETURNED)
        if is_there:
            await self._carry(publication)

    def _after_loss(self, error: BaseException | None, message: Message) -> PublishOutcome | None:
        """Tell from how the channel was closed whether this very message was the reason."""
        if error is not None and is_access_refused(error):
            return PublishOutcome.REFUSED
        limit = largest_size_allowed(error)
        if limit is not None and limit < self._max_message_bytes:
            self._max_message_bytes = limit
            _logger.warning("broker.message_limit_learned", max_message_bytes=limit)
        return PublishOutcome.REFUSED if len(message.body) > self._max_message_bytes else None

    async def _open_lane(self, publication: Publication) -> PublishLane | None:
        """Wait for a channel that takes messages; None once the time is over."""
        link = publication.link
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
            overdue = now - self._settings.publish_deadline
            if self._confirmed_at < overdue:  # while confirms come, there is room for the next ones in turn
                self._window.give_up(asked_before=overdue)

    def _check_deadline(self, publication: Publication, now: float) -> None:
        session = None if self._lane is None else self._lane.session
        if session is not None and session.is_usable and not session.is_blocked:
            sent_at = publication.sent_at
            if sent_at is not None and now - max(sent_at, session.takes_since) > self._settings.publish_deadline:
                _logger.error("broker.confirms_stalled", deadline_seconds=self._settings.publish_deadline)
                session.abort("publishes are not confirmed")
        if now > publication.deadline:
            publication.settle(PublishOutcome.UNKNOWN)

    def _finish(self, publication: Publication, outcome: PublishOutcome) -> None:
        publication.settle(outcome)
        if publication in self._on_its_way:
            self._on_its_way.remove(publication)
            self._window.leave(len(publication.message.body))

    def _keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _fitting(text: str) -> str:
    """Make a text one that a property can say, and has room for."""
    if text.isascii():
        return text[:LONGEST_TEXT]
    return text.encode(errors="replace")[:LONGEST_TEXT].decode(errors="ignore")


def _on_channel_closed(session: Session, error: BaseException | None) -> None:
    if session.is_usable:
        session.abort("the publish channel was closed" + ("" if error is None else f": {describe(error)}"))
