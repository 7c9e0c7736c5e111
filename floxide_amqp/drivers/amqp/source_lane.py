"""One generation of the channel on which a source's messages come, and those messages."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Final, Protocol, cast
from uuid import uuid4

import aiormq
from pamqp.commands import Basic

from floxide_amqp.core.sources import UNDECODABLE, SourceMessage
from floxide_amqp.drivers.amqp._errors import describe
from floxide_amqp.drivers.amqp.channel_wire import Arrival
from floxide_amqp.drivers.amqp.keeper import SILENT_PROBES
from floxide_amqp.drivers.amqp.session import Session, when_closed
from floxide_amqp.drivers.amqp.source_topology import SourceTopology, ensure_source
from floxide_amqp.drivers.amqp.topology import count_messages
from floxide_amqp.logs import get_logger

_logger = get_logger(__name__)

ODD_PROPERTIES: Final = f"{UNDECODABLE}properties"
"""The header in which the properties of a message are that cannot be decoded, as `odd_frames` keeps them there too."""


class LaneOwner(Protocol):
    """The reader that a lane is a generation of."""

    topology: SourceTopology
    prefetch: int

    def arrived(self) -> None:
        """Something has come, or gone."""
        ...


class AmqpSourceDelivery:
    """One message, on one generation of its channel."""

    __slots__ = ("_lane", "_tag", "arrived_at", "message")

    def __init__(self, lane: SourceLane, tag: int, message: SourceMessage) -> None:
        self.arrived_at = asyncio.get_running_loop().time()
        self._lane = lane
        self._tag = tag
        self.message = message

    async def acknowledge(self) -> None:
        """Take it off the queue; a stale delivery is forgotten in silence."""
        self._lane.settle(self._tag, rejects=False)

    async def reject(self) -> None:
        """Have the queue give it up; a stale delivery is forgotten in silence."""
        self._lane.settle(self._tag, rejects=True)


class SourceLane:
    """One generation of a reader's channel."""

    def __init__(self, owner: LaneOwner, session: Session, channel: aiormq.Channel) -> None:
        self.session = session
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.disturbed = asyncio.Event()
        self.buffered: deque[AmqpSourceDelivery] = deque()
        self._owner = owner
        self._channel = channel
        self._unsettled: set[int] = set()
        self._tag = ""
        self._silent = 0
        self._closing = False
        self._wire = session.wire(channel)
        when_closed(channel, self._on_closed)
        channel.on_consumer_cancel_callbacks.add(self._on_cancelled_by_broker)

    @property
    def is_alive(self) -> bool:
        """Whether what was delivered on it can still be settled."""
        return not self.closed.done() and self.session.is_usable

    async def mend(self) -> None:
        """Subscribe where there is no consumer, after making sure that the queue is there."""
        if self._tag:
            return
        owner, queue = self._owner, self._owner.topology.queue
        await ensure_source(self.session, owner.topology)
        await self.session.call("Setting the prefetch", self._channel.basic_qos(prefetch_count=owner.prefetch))
        tag = f"source.{uuid4().hex}"
        self._tag = tag
        await self.session.call(f"Consuming {queue}", self._wire.consume(queue, tag, self._on_message))
        _logger.info("broker.source_read", queue=queue, generation=self.session.generation)

    async def probe(self) -> None:
        """Find out whether the queue is gone, or the broker has forgotten the consumer without saying so."""
        found = await count_messages(self.session, self._owner.topology.queue)
        waiting, consumers = found or (0, 0)
        self._silent = 0 if self._unsettled or not waiting else self._silent + 1
        if found is None or consumers == 0 or self._tag not in self._channel.consumers:
            _logger.warning("broker.consumer_missing", queue=self._owner.topology.queue)
            self._tag = ""
            self.disturbed.set()
        elif self._silent > SILENT_PROBES:
            _logger.warning("broker.consumer_missing", queue=self._owner.topology.queue)
            tag, self._tag, self._silent = self._tag, "", 0
            await self.session.call("Ending the consumer", self._channel.basic_cancel(tag))
            self.disturbed.set()

    def settle(self, tag: int, *, rejects: bool) -> None:
        """Acknowledge or reject a delivery, once; the broker closes the channel on a tag settled twice."""
        if self.is_alive and tag in self._unsettled:
            self._unsettled.remove(tag)
            if rejects:
                self._wire.reject(tag)
            else:
                self._wire.acknowledge(tag)

    async def close(self) -> None:
        """Close the channel; what is unsettled is delivered again."""
        self._closing = True
        self._wire.stop_writing()
        await self.session.close_channel(self._channel)
        self._end()

    def _on_message(self, arrival: Arrival) -> None:
        self._silent = 0
        self._unsettled.add(arrival.tag)
        self.buffered.append(AmqpSourceDelivery(self, arrival.tag, self._message(arrival)))
        self._owner.arrived()

    def _message(self, arrival: Arrival) -> SourceMessage:
        """Return a message, whatever anybody wrote: one that is not handed over is never settled and holds its place.

        Where its properties are of a kind that `odd_frames` does not foresee, it goes on without: it has no id then, by
        which most sources call their runs, and goes where what no run can be made of goes.
        """
        try:
            return message_of(arrival)
        except Exception as error:  # noqa: BLE001 - whatever decoding comes to
            queue, problem = self._owner.topology.queue, type(error).__name__  # its text may have some of the message
            _logger.warning("broker.message_undecodable", queue=queue, problem=problem)
            headers = {ODD_PROPERTIES: arrival.header}
            return SourceMessage(body=arrival.body, headers=headers, redelivered=arrival.redelivered)

    def _on_cancelled_by_broker(self, frame: Basic.Cancel) -> None:
        if frame.consumer_tag == self._tag:
            _logger.warning("broker.consumer_cancelled", queue=self._owner.topology.queue)
            self._tag = ""
            self.disturbed.set()

    def _on_closed(self, error: BaseException | None) -> None:
        if self.session.is_usable and not self._closing:
            _logger.warning("broker.channel_closed", reason="" if error is None else describe(error))
        self._end()

    def _end(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        self.buffered.clear()
        self._owner.arrived()


def message_of(arrival: Arrival) -> SourceMessage:
    """Return what is known of a message; anybody may have written its properties, so nothing is taken for granted."""
    properties, envelope = arrival.properties(), arrival.envelope()
    headers: object = properties.headers
    return SourceMessage(
        body=arrival.body, message_id=_text(properties.message_id), content_type=_text(properties.content_type),
        content_encoding=_text(properties.content_encoding),
        headers=dict(cast("Mapping[str, object]", headers)) if isinstance(headers, Mapping) else {},
        exchange=envelope.exchange or "", routing_key=envelope.routing_key or "",
        priority=properties.priority if isinstance(properties.priority, int) else None,
        redelivered=arrival.redelivered,
    )  # fmt: skip


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
