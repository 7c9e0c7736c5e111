"""The control port over RabbitMQ: a fanout exchange to all workers, a topic exchange for events.

Each listener and each subscriber has an exclusive queue of its own, freshly named on every connection: the old one may
stay locked until the broker notices that its connection is gone. Messages are transient and unconfirmed, for they are
hints.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

import aiormq
from pamqp.commands import Basic

from floxide_amqp.drivers.amqp._errors import describe, is_access_refused
from floxide_amqp.drivers.amqp.channel_wire import ChannelWire
from floxide_amqp.drivers.amqp.connection import Link
from floxide_amqp.drivers.amqp.health import RoleHealth, health_of
from floxide_amqp.drivers.amqp.keeper import Keeper
from floxide_amqp.drivers.amqp.session import Session, when_closed
from floxide_amqp.drivers.amqp.settings import DEFAULT_NAMESPACE, DEFAULT_SETTINGS, AmqpSettings, broker_url
from floxide_amqp.drivers.amqp.topology import Names, count_messages, ensure_exchange
from floxide_amqp.drivers.amqp.work_queue import connection_name
from floxide_amqp.drivers.hint_buffer import HintBuffer
from floxide_amqp.exceptions import BrokerError
from floxide_amqp.logs import get_logger

_logger = get_logger(__name__)

LONGEST_KEY_BYTES: Final = 255
"""Of a routing key; whoever asks for hints chooses it."""

MOST_UNSENT_BYTES: Final = 8 * 1024 * 1024
"""Of hints, some ten thousand: a broker that has not read so many gets no more until it has."""

TRANSIENT: Final = 1
"""AMQP delivery mode: not written to disk."""


class HintLane:
    """One generation of a subscription: a channel with an exclusive queue."""

    def __init__(
        self, session: Session, channel: aiormq.Channel, queue: str, exchange: str, routing_key: str
    ) -> None:  # fmt: skip
        self.session = session
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.disturbed = asyncio.Event()
        self.queue = queue
        self._channel = channel
        self._exchange = exchange
        self._routing_key = routing_key
        self._wire = session.wire(channel)
        when_closed(channel, lambda _: self._end())
        channel.on_consumer_cancel_callbacks.add(self._on_cancelled_by_broker)

    async def subscribe(self, buffer: HintBuffer) -> None:
        """Declare the queue, bind it, and have what arrives put into the buffer."""
        channel, call = self._channel, self.session.call
        await call(f"Declaring queue {self.queue}", channel.queue_declare(self.queue, exclusive=True, auto_delete=True))
        await self._bind()
        consuming = self._wire.consume(
            self.queue, uuid4().hex, lambda arrival: buffer.put(arrival.body), no_ack=True
        )  # fmt: skip
        await call(f"Consuming {self.queue}", consuming)

    async def mend(self) -> None:
        """Give this generation up: a fresh queue on a fresh channel takes its place."""
        self._end()

    async def probe(self) -> None:
        """See whether the broker still knows the queue and its consumer; bind it, for its exchange may be a new one."""
        found = await count_messages(self.session, self.queue)
        if found is None or found[1] == 0 or not self._channel.consumers:
            _logger.warning("broker.consumer_missing", queue=self.queue)
            self.disturbed.set()
            return
        await self._bind()

    async def close(self) -> None:
        """Close the channel; the queue goes with its last consumer."""
        self._wire.stop_writing()
        await self.session.close_channel(self._channel)
        self._end()

    async def _bind(self) -> None:
        binding = self._channel.queue_bind(self.queue, self._exchange, self._routing_key)
        await self.session.call(f"Binding queue {self.queue}", binding)

    def _on_cancelled_by_broker(self, frame: Basic.Cancel) -> None:
        _logger.warning("broker.consumer_cancelled", queue=self.queue, consumer_tag=frame.consumer_tag)
        self.disturbed.set()

    def _end(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


class AmqpControlBus:
    """Broadcast and events on RabbitMQ, over one connection of its own; open it with ``async with``."""

    def __init__(
        self, url: str, *, namespace: str = DEFAULT_NAMESPACE, settings: AmqpSettings = DEFAULT_SETTINGS
    ) -> None:
        """Describe the bus; nothing is connected yet. Arguments as for `AmqpWorkQueue`.

        Raises:
            ConfigurationError: The URL or the namespace is wrong.
        """
        self._names = Names(namespace)
        self._settings = settings
        self._wire: ChannelWire | None = None
        self._link = Link(
            "control",
            broker_url(url, settings),
            settings,
            name=connection_name(namespace),
            prepare=self._prepare,
        )
        self._buffers: set[HintBuffer] = set()
        self._keepers: set[Keeper[HintLane]] = set()

    async def __aenter__(self) -> Self:
        """Connect; raises as `AmqpWorkQueue` does."""
        await self._link.connect(within=self._settings.open_deadline)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        await self.aclose()

    async def aclose(self) -> None:
        """End every subscription and close the connection; a second call does nothing."""
        for buffer in tuple(self._buffers):
            buffer.close()
        await self._link.aclose()

    def health(self) -> Sequence[RoleHealth]:
        """Return what is known about its one role, without asking the broker."""
        return [health_of(self._link, self._keepers)]

    async def broadcast(self, body: bytes) -> None:
        """Hand a control message to every worker that listens now; best effort."""
        await self._send(self._names.control_exchange, "", body)

    def listen(self, worker_id: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Receive every control message from when the context is entered on; heals by itself."""
        return self._subscribed(
            self._names.control_exchange, "", lambda: self._names.control_queue(worker_id, uuid4().hex[:12])
        )

    async def announce(self, routing_key: str, body: bytes) -> None:
        """Hand an event to whoever subscribed to its routing key; best effort."""
        await self._send(self._names.event_exchange, routing_key, body)

    def subscribe(self, pattern: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Receive events whose routing key matches, from when the context is entered on; heals by itself."""
        return self._subscribed(self._names.event_exchange, pattern, lambda: self._names.event_queue(uuid4().hex))

    async def _prepare(self, session: Session) -> None:
        await self._declare_exchanges(session)
        channel = await session.open_channel()
        self._wire = session.wire(channel)
        when_closed(channel, lambda error: self._on_channel_closed(session, error))

    async def _declare_exchanges(self, session: Session) -> None:
        await ensure_exchange(session, self._names.control_exchange, "fanout")
        await ensure_exchange(session, self._names.event_exchange, "topic")

    def _on_channel_closed(self, session: Session, error: BaseException | None) -> None:
        """Begin anew where hints can no longer be sent: an exchange may be gone, and the bindings with it.

        A user who may not send any begins anew seldom, for he may still receive them.
        """
        if session.is_usable:
            is_refused = error is not None and is_access_refused(error)
            reason = "the control channel was closed" + ("" if error is None else f": {describe(error)}")
            delay = self._settings.probe_interval if is_refused else 0.0
            asyncio.get_running_loop().call_later(delay, session.abort, reason)

    async def _send(self, exchange: str, routing_key: str, body: bytes) -> None:
        session, wire = self._link.current, self._wire
        if session is None or session.is_blocked or wire is None or not wire.is_open:
            _logger.warning("broker.hint_dropped", exchange=exchange, reason="not connected")
            return
        if session.unsent_bytes > MOST_UNSENT_BYTES:
            _logger.warning("broker.hint_dropped", exchange=exchange, reason="the broker does not read")
            return
        if len(routing_key.encode()) > LONGEST_KEY_BYTES:
            _logger.warning("broker.hint_dropped", exchange=exchange, reason="its routing key is too long")
            return
        wire.publish(body, exchange=exchange, routing_key=routing_key, mode=TRANSIENT)
        await asyncio.sleep(0)  # until it is handed to the socket, with what others send in this turn of the loop

    @asynccontextmanager
    async def _subscribed(
        self, exchange: str, routing_key: str, fresh_name: Callable[[], str]
    ) -> AsyncGenerator[AsyncIterator[bytes], None]:
        buffer = HintBuffer()
        generations = 0
        tried: Session | None = None

        async def attach(session: Session) -> HintLane:
            nonlocal tried
            if session is tried:  # not the connection is gone, but maybe the exchange
                await self._declare_exchanges(session)
            tried = session
            lane = HintLane(session, await session.open_channel(), fresh_name(), exchange, routing_key)
            try:
                await lane.subscribe(buffer)
            except BaseException:
                await lane.close()
                raise
            return lane

        def on_attached(_: HintLane) -> None:
            nonlocal generations
            generations += 1
            if generations > 1:
                buffer.mark_gap()

        keeper = Keeper[HintLane](
            self._link,
            self._settings,
            what=f"subscription to {exchange}",
            attach=attach,
            on_attached=on_attached,
            on_failure=_ignore,
        )
        self._buffers.add(buffer)
        self._keepers.add(keeper)
        try:
            await keeper.open()
            yield buffer
        finally:
            self._buffers.discard(buffer)
            self._keepers.discard(keeper)
            await keeper.aclose()
            buffer.close()


def _ignore(_: BrokerError) -> None:
    """The log has it; a subscription waits for better times, for its reader polls the store anyway."""
