"""Reading the dead letters of a namespace, on a connection of its own.

A dead letter queue that does not answer (see `floxide_amqp.drivers.amqp.consumer`) would cost whoever shares its
connection that connection again and again, so nobody does. One that twice did not answer is replaced like a task queue:
what the broker put there is only a hint, and what it holds cannot be read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, cast
from uuid import uuid4

import aiormq
from pamqp.commands import Basic

from floxide_amqp.drivers.amqp._errors import describe
from floxide_amqp.drivers.amqp.channel_wire import Arrival
from floxide_amqp.drivers.amqp.connection import Link
from floxide_amqp.drivers.amqp.consumer import DEAD_AFTER_UNANSWERED
from floxide_amqp.drivers.amqp.health import RoleHealth, health_of
from floxide_amqp.drivers.amqp.keeper import Keeper
from floxide_amqp.drivers.amqp.session import Session, UnansweredCallError, when_closed
from floxide_amqp.drivers.amqp.settings import DEFAULT_NAMESPACE, DEFAULT_SETTINGS, AmqpSettings, broker_url
from floxide_amqp.drivers.amqp.topology import Names, count_messages, delete_dead_queue, ensure_dead_letters
from floxide_amqp.drivers.amqp.work_queue import connection_name
from floxide_amqp.exceptions import BrokerError
from floxide_amqp.logs import get_logger

_logger = get_logger(__name__)

DEATHS: Final = "x-death"
"""The header in which the broker says where and why it gave a message up; the latest first."""


class AmqpDeadDelivery:
    """One dead letter, on one generation of its channel."""

    __slots__ = ("_tag", "body", "count", "lane", "queue", "reason")

    def __init__(self, lane: LetterLane, arrival: Arrival) -> None:
        self.lane = lane
        self._tag = arrival.tag
        self.body = arrival.body
        self.queue, self.reason, self.count = read_death(arrival.properties().headers)

    async def acknowledge(self) -> None:
        """Take it off the queue; a stale delivery is forgotten in silence."""
        self.lane.settle(self._tag, requeue=False)

    async def release(self) -> None:
        """Give it back for redelivery; a stale delivery is forgotten in silence."""
        self.lane.settle(self._tag, requeue=True)


def read_death(headers: object) -> tuple[str, str, int]:
    """Return the task queue, the reason and the count of a message's latest death, as far as its headers say so.

    Anybody may have written the headers, so nothing is taken for granted about them.

    Source:
        RabbitMQ manual, "Dead Letter Exchanges", "Effects on Messages".
    """
    deaths: object = cast("Mapping[str, object]", headers).get(DEATHS) if isinstance(headers, Mapping) else None
    latest: object = cast("list[object]", deaths)[0] if isinstance(deaths, list) and deaths else None
    if not isinstance(latest, Mapping):
        return "", "", 0
    death = cast("Mapping[str, object]", latest)
    keys: Any = death.get("routing-keys")
    queue: Any = cast("list[object]", keys)[0] if isinstance(keys, list) and keys else ""
    reason, count = death.get("reason"), death.get("count")
    return (
        queue if isinstance(queue, str) else "",
        reason if isinstance(reason, str) else "",
        count if isinstance(count, int) and count > 0 else 0,
    )


class LetterLane:
    """One generation of the reader's channel."""

    def __init__(self, reader: AmqpDeadLetterReader, session: Session, channel: aiormq.Channel) -> None:
        self.session = session
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.disturbed = asyncio.Event()
        self._reader = reader
        self._channel = channel
        self._unsettled: set[int] = set()
        self._tag = ""
        self._closing = False
        self._wire = session.wire(channel)
        when_closed(channel, self._on_closed)
        channel.on_consumer_cancel_callbacks.add(self._on_cancelled_by_broker)

    @property
    def is_alive(self) -> bool:
        """Whether what was delivered on it can still be settled."""
        return not self.closed.done() and self.session.is_usable

    async def mend(self) -> None:
        """Subscribe where there is no consumer, after making sure that the queue exists."""
        if self._tag:
            return
        reader = self._reader
        await reader.replace_if_dead(self.session)
        await ensure_dead_letters(self.session, reader.names)
        await self.session.call("Setting the prefetch", self._channel.basic_qos(prefetch_count=reader.prefetch))
        tag, queue = f"dead.{uuid4().hex}", reader.names.dead_queue
        self._tag = tag
        consuming = self._wire.consume(queue, tag, self._on_message)
        try:
            await self.session.call(f"Consuming {queue}", consuming)
        except UnansweredCallError:
            reader.unanswered += 1
            raise
        reader.unanswered = 0
        _logger.info("broker.dead_letters_read", queue=queue, generation=self.session.generation)

    async def probe(self) -> None:
        """Find out whether the broker has forgotten the consumer without saying so."""
        found = await count_messages(self.session, self._reader.names.dead_queue)
        if found is None or found[1] == 0 or self._tag not in self._channel.consumers:
            _logger.warning("broker.consumer_missing", queue=self._reader.names.dead_queue)
            self._tag = ""
            self.disturbed.set()

    def settle(self, tag: int, *, requeue: bool) -> None:
        """Acknowledge or give back, once; the broker closes the channel on a tag that is settled twice."""
        if not self.is_alive or tag not in self._unsettled:
            return
        self._unsettled.remove(tag)
        if requeue:
            self._wire.give_back(tag)
        else:
            self._wire.acknowledge(tag)

    async def close(self) -> None:
        """Close the channel; what is unsettled is delivered again."""
        self._closing = True
        self._wire.stop_writing()
        await self.session.close_channel(self._channel)
        self._end()

    def _on_message(self, arrival: Arrival) -> None:
        self._unsettled.add(arrival.tag)
        self._reader.put(AmqpDeadDelivery(self, arrival))

    def _on_cancelled_by_broker(self, frame: Basic.Cancel) -> None:
        if frame.consumer_tag == self._tag:
            _logger.warning("broker.consumer_cancelled", queue=self._reader.names.dead_queue)
            self._tag = ""
            self.disturbed.set()

    def _on_closed(self, error: BaseException | None) -> None:
        if self.session.is_usable and not self._closing:
            _logger.warning("broker.channel_closed", reason="" if error is None else describe(error))
        self._end()

    def _end(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        self._reader.forget(self)


class AmqpDeadLetterReader:
    """An open subscription to dead letters; see `AmqpDeadLetterQueue.read`."""

    def __init__(self, link: Link, names: Names, settings: AmqpSettings, prefetch: int) -> None:
        """Describe the subscription; nothing happens before `open`."""
        self.names = names
        self.prefetch = prefetch
        self.unanswered = 0
        self._settings = settings
        self._buffered: deque[AmqpDeadDelivery] = deque()
        self._arrived = asyncio.Event()
        self._failure: BrokerError | None = None
        self._keeper = Keeper[LetterLane](
            link,
            settings,
            what="reader of dead letters",
            attach=self._attach,
            on_attached=self._on_attached,
            on_failure=self._on_failure,
        )

    @property
    def problem(self) -> str:
        """Why the subscription does not stand now; empty when it does."""
        return self._keeper.problem

    async def open(self) -> None:
        """Subscribe; see `Keeper.open` for what it raises."""
        await self._keeper.open()

    async def receive(self) -> AmqpDeadDelivery:
        """Wait for the next letter; safe to cancel.

        Raises:
            BrokerError: The subscription cannot be healed by waiting.
        """
        while not self._buffered:
            if self._failure is not None:
                raise self._failure
            self._arrived.clear()
            await self._arrived.wait()
        return self._buffered.popleft()

    async def aclose(self) -> None:
        """Close the channel; letters in hand go back."""
        await self._keeper.aclose()

    async def replace_if_dead(self, session: Session) -> None:
        """Delete the queue if it let consumers wait in vain and holds nothing that the broker can see."""
        if not self._settings.replaces_dead_queues or self.unanswered < DEAD_AFTER_UNANSWERED:
            return
        await delete_dead_queue(session, self.names.dead_queue)
        self.unanswered = 0

    def put(self, delivery: AmqpDeadDelivery) -> None:
        """Hand a letter to whoever waits."""
        self._buffered.append(delivery)
        self._arrived.set()

    def forget(self, lane: LetterLane) -> None:
        """Drop what came on a channel that is gone: the broker delivers it again."""
        self._buffered = deque(delivery for delivery in self._buffered if delivery.lane is not lane)

    async def _attach(self, session: Session) -> LetterLane:
        lane = LetterLane(self, session, await session.open_channel())
        try:
            await lane.mend()
        except BaseException:
            await lane.close()
            raise
        return lane

    def _on_attached(self, lane: LetterLane) -> None:
        del lane
        self._failure = None

    def _on_failure(self, error: BrokerError) -> None:
        self._failure = error
        self._arrived.set()


class AmqpDeadLetterQueue:
    """The dead letters of a namespace on RabbitMQ; it connects while somebody reads."""

    def __init__(
        self, url: str, *, namespace: str = DEFAULT_NAMESPACE, settings: AmqpSettings = DEFAULT_SETTINGS
    ) -> None:
        """Describe it; nothing is connected yet. Arguments as for `AmqpWorkQueue`.

        Raises:
            ConfigurationError: The URL or the namespace is wrong.
        """
        self._names = Names(namespace)
        self._settings = settings
        self._url = broker_url(url, settings)
        self._connection_name = connection_name(namespace)
        self._reading: tuple[Link, AmqpDeadLetterReader] | None = None

    def health(self) -> tuple[RoleHealth, ...]:
        """Return what is known about the connection; nothing while nobody reads."""
        if self._reading is None:
            return ()
        link, reader = self._reading
        return (health_of(link, (reader,)),)

    def read(self, *, prefetch: int) -> AbstractAsyncContextManager[AmqpDeadLetterReader]:
        """Connect and subscribe, declaring what is missing; entering returns once subscribed.

        Entering raises `BrokerUnavailableError`, `BrokerAccessRefusedError` or `TopologyClashError`.
        """
        if prefetch < 1:
            raise ValueError("reading dead letters needs a prefetch of at least 1")
        return self._read(prefetch)

    @asynccontextmanager
    async def _read(self, prefetch: int) -> AsyncGenerator[AmqpDeadLetterReader, None]:
        link = Link("dead letters", self._url, self._settings, name=self._connection_name)
        reader = AmqpDeadLetterReader(link, self._names, self._settings, prefetch)
        link.open()
        try:
            await reader.open()
            self._reading = (link, reader)
            yield reader
        finally:
            self._reading = None
            await reader.aclose()
            await link.aclose()
