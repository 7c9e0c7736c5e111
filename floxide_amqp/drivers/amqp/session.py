"""One connection, from its handshake to its loss.

What belongs to a session (channels, delivery tags, confirms) is worthless after it; its generation tells it from those
before and after.

Invariants:

* No call to the broker is ever cancelled: aiormq closes the channel of a cancelled call. A call that takes too long
  costs the whole connection, whose socket is then cut.
* A CancelledError that nobody asked for never leaves this module.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar, cast

import aio_pika
import aiormq
import aiormq.abc

from floxide_amqp.drivers.amqp._errors import describe, reason_for
from floxide_amqp.drivers.amqp.channel_wire import ChannelWire
from floxide_amqp.drivers.amqp.frame_stream import BlockWatch
from floxide_amqp.drivers.amqp.settings import AmqpSettings, redacted
from floxide_amqp.drivers.amqp.transport import CuttableTransport
from floxide_amqp.exceptions import BrokerConnectionLostError, BrokerError, BrokerUnavailableError
from floxide_amqp.logs import get_logger

_logger = get_logger(__name__)

FAREWELL_SECONDS: Final = 1.0
"""How long the remains of a connection may take to end after its socket was cut."""

CANCELS: Final = 3
"""How often a task of aiormq's is told to end; some wait again while they clean up."""

T = TypeVar("T")


class UnansweredCallError(BrokerConnectionLostError):
    """The broker did not answer a call in time, so its connection was given up."""


class Session:
    """One connection from its handshake to its loss.

    Attributes:
        generation: Counts the connections of its role.
        lost: Done with the reason once the connection is lost or given up.
        answered_at: When the broker last answered, by the event loop's clock.
        takes_since: Since when the broker takes what is published, by the same clock; of no account while it blocks.
        mending: Held by who deletes a queue that is beyond hope.
    """

    def __init__(
        self,
        connection: aio_pika.Connection,
        transport: CuttableTransport,
        settings: AmqpSettings,
        *,
        role: str,
        generation: int,
    ) -> None:
        self.generation = generation
        self.role = role
        self.url = redacted(connection.url)
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[str] = loop.create_future()
        self._connection = connection
        self._transport = transport
        self._settings = settings
        self._tasks: set[asyncio.Future[Any]] = set()
        self._blocked_at: float | None = None
        self.answered_at = self.takes_since = loop.time()
        self.mending = asyncio.Lock()
        if connection.transport is None:
            raise self.lost_error("Connecting")
        self._underlay = connection.transport.connection
        self._wires: set[ChannelWire] = set()
        self.lost.add_done_callback(self._end_wires)
        when_closed(self._underlay, self._on_closed)

    @property
    def is_usable(self) -> bool:
        """Whether the connection is neither lost nor given up."""
        return not self.lost.done()

    @property
    def is_blocked(self) -> bool:
        """Whether the broker takes nothing from this connection."""
        return self._blocked_at is not None

    @property
    def blocked_seconds(self) -> float | None:
        """Time since the broker blocks this connection; None while it does not."""
        return None if self._blocked_at is None else asyncio.get_running_loop().time() - self._blocked_at

    @property
    def unsent_bytes(self) -> int:
        """What waits here because the broker does not read, or not so fast."""
        return self._transport.unsent_bytes

    @property
    def round_trip_age_seconds(self) -> float:
        """Time since the broker last answered."""
        return asyncio.get_running_loop().time() - self.answered_at

    def touch(self) -> None:
        """Note that the broker has just answered."""
        self.answered_at = asyncio.get_running_loop().time()

    def abort(self, reason: str) -> None:
        """Give the connection up and cut its socket; whatever waits for an answer on it fails soon."""
        if not self.lost.done():
            self.lost.set_result(reason)
        self._transport.cut()

    def lost_error(self, operation: str) -> BrokerConnectionLostError:
        """Return the error of an operation that this connection did not live to finish."""
        reason = self.lost.result() if self.lost.done() else "connection lost"
        return BrokerConnectionLostError(url=self.url, operation=operation, reason=reason)

    def keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something to its end whatever becomes of the caller."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    async def call(self, operation: str, work: Coroutine[Any, Any, T], *, within: float = 0.0) -> T:
        """Make one call to the broker, in a task of its own, under the deadline for calls.

        Args:
            operation: What is done, for the error's sentence.
            work: The call.
            within: Seconds it may take, where that is more than the deadline for calls.

        Raises:
            BrokerConnectionLostError: The connection, or the channel of the call, did not live to answer it.
            UnansweredCallError: The same, because there was no answer in time.
            BrokerAccessRefusedError: The user lacks a permission.
            TopologyClashError: A declaration differs from what exists.
            BrokerUnavailableError: The broker blocks this connection.
        """
        if not self.is_usable:
            work.close()
            raise self.lost_error(operation)
        task = self.keep(work)
        watched: set[asyncio.Future[Any]] = {task, self.lost}
        deadline = max(within, self._settings.rpc_deadline)
        await asyncio.wait(watched, timeout=deadline, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return self._answer(operation, task)
        if self.is_blocked and not self.lost.done():
            raise BrokerUnavailableError(url=self.url, operation=operation, reason="the broker blocks this connection")
        self.abort(f"no answer within {deadline:g} s to: {operation}")
        raise UnansweredCallError(url=self.url, operation=operation, reason=self.lost.result())

    async def open_channel(self, *, publisher_confirms: bool = False) -> aiormq.Channel:
        """Open a channel; with confirms, an unroutable mandatory message raises."""
        channel = await self.call(
            "Opening a channel",
            self._underlay.channel(publisher_confirms=publisher_confirms, on_return_raises=publisher_confirms),
        )
        return cast("aiormq.Channel", channel)  # the abstract class lacks `consumers` and `basic_publish(wait=)`

    def wire(self, channel: aiormq.Channel) -> ChannelWire:
        """Send and receive the messages of a channel by hand; it ends with the channel or with the connection."""
        wire = ChannelWire(channel, self._transport.stream, self._transport.write)
        self._wires.add(wire)

        def on_closed(error: BaseException | None) -> None:
            self._wires.discard(wire)
            wire.end(error)

        when_closed(channel, on_closed)
        return wire

    @asynccontextmanager
    async def short_channel(self) -> AsyncGenerator[aiormq.Channel, None]:
        """Open a channel for one declaration, which the broker may answer by closing it."""
        channel = await self.open_channel()
        try:
            yield channel
        finally:
            await self.close_channel(channel)

    async def close_channel(self, channel: aiormq.Channel) -> None:
        """Close a channel; one that is closed already, or whose connection is lost, is fine."""
        if channel.is_closed or not self.is_usable:
            return
        try:
            await self.call("Closing a channel", channel.close())
        except BrokerError as error:
            _logger.debug("broker.channel_close_failed", role=self.role, problem=str(error))

    async def probe(self) -> None:
        """Make a round trip for its own sake; a connection that does not answer is given up."""
        async with self.short_channel():
            self.touch()

    def watch_blocked(self, on_change: Callable[[], None]) -> None:
        """Keep `is_blocked` true while the broker blocks this connection, and have each change told."""

        def changed(is_blocked: bool) -> None:
            now = asyncio.get_running_loop().time()
            self._blocked_at, self.takes_since = (now, self.takes_since) if is_blocked else (None, now)
            event = "broker.connection_blocked" if is_blocked else "broker.connection_unblocked"
            _logger.warning(event, role=self.role, generation=self.generation)
            on_change()

        self._transport.stream.route(0, BlockWatch(changed))

    async def close(self) -> None:
        """Say goodbye within the deadline for it, or cut the socket.

        aio-pika's own close waits for ever if it is cancelled before aiormq has closed, so it is called last.
        """
        if not self.lost.done():
            self.lost.set_result("closed by this process")
        farewell = asyncio.ensure_future(self._underlay.close())
        await asyncio.wait({farewell}, timeout=self._settings.close_deadline)
        self._transport.cut()
        remains: set[asyncio.Future[Any]] = {farewell, *self._tasks}
        await asyncio.wait(remains, timeout=FAREWELL_SECONDS)
        await end_tasks(remains)
        if self._underlay.is_closed:
            await self._connection.close()

    def _answer(self, operation: str, task: asyncio.Task[T]) -> T:
        if task.cancelled():
            raise self.lost_error(operation)
        error = task.exception()
        if error is None:
            self.touch()
            return task.result()
        if isinstance(error, RuntimeError) and (not self.is_usable or not self._underlay.is_opened):
            raise self.lost_error(operation) from error  # aiormq's word for a connection that is closed
        raise reason_for(error, url=self.url, operation=operation)

    def _on_closed(self, error: BaseException | None) -> None:
        if not self.lost.done():
            self.lost.set_result("connection closed" if error is None else describe(error))

    def _end_wires(self, _: asyncio.Future[str]) -> None:
        """Do not wait for aiormq to close the channels: now and then it never does."""
        for wire in tuple(self._wires):
            wire.end(None)
        self._wires.clear()

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still cared has taken it


def when_closed(
    resource: aiormq.abc.AbstractConnection | aiormq.Channel, callback: Callable[[BaseException | None], None]
) -> None:
    """Have a function called with the reason once a connection or a channel is closed, by whomever."""

    def on_closing(closing: asyncio.Future[Any]) -> None:
        callback(None if closing.cancelled() else closing.exception())

    closing: asyncio.Future[Any] = resource.closing  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    closing.add_done_callback(on_closing)


async def end_tasks(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks that may need to be told more than once, and wait for them a limited time."""
    pending = {task for task in tasks if not task.done()}
    for _ in range(CANCELS):
        if not pending:
            return
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=FAREWELL_SECONDS / CANCELS)
