"""The messages of one channel: their frames are written and read by hand, and all else of the channel is aiormq's.

Invariants:

* Nothing is written on a channel of which either side has said that it is closed: the broker would close the
  connection over it. The frame that says so passes here before aiormq sees it.
* Each message that awaits a confirmation is answered once: by the broker, or by the loss of the channel.
* What waits here is cancelled by nobody: no task and no future of aiormq's is involved.

Of aiormq's this needs a channel's `number`, `max_content_size`, `basic_consume` and `closing`, and that a transport's
factory may bring a reader and a writer of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from struct import Struct
from typing import Any, Final, Protocol
from uuid import uuid4

import aiormq
import aiormq.abc
import pamqp.frame
from pamqp.header import ContentHeader

from floxide_amqp.drivers.amqp.frame_stream import FrameError, FrameStream
from floxide_amqp.drivers.amqp.frames import (
    BODY,
    HEADER,
    METHOD,
    ack_frame,
    content_frames,
    method_frame,
    nack_frame,
    reject_frame,
)
from floxide_amqp.drivers.amqp.odd_frames import HEAD_BYTES, decodable

BASIC_CANCEL: Final = b"\x00\x3c\x00\x1e"
BASIC_CANCEL_OK: Final = b"\x00\x3c\x00\x1f"
BASIC_RETURN: Final = b"\x00\x3c\x00\x32"
BASIC_DELIVER: Final = b"\x00\x3c\x00\x3c"
BASIC_ACK: Final = b"\x00\x3c\x00\x50"
BASIC_NACK: Final = b"\x00\x3c\x00\x78"
CHANNEL_CLOSE: Final = b"\x00\x14\x00\x28"
"""Class and method, as a method's frame begins with them."""

ARGUMENTS: Final = HEAD_BYTES + 4
"""Where a method's arguments begin in its frame, or in a header's the size of the body."""

_TAG_AND_BITS: Final = Struct(">QB")
_BODY_SIZE: Final = Struct(">Q")
_FRAME_END: Final = 0xCE
_MULTIPLE: Final = 1


class Answer(Enum):
    """What became of a published message."""

    TAKEN = "taken"
    REFUSED = "refused"
    RETURNED = "returned"
    LOST = "lost"


class Receipt(Protocol):
    """Awaits what becomes of a message."""

    def answered(self, answer: Answer, error: BaseException | None) -> None:
        """Learn it, once; where it is lost, with what the channel was closed for, if anybody said so."""
        ...


@dataclass(slots=True)
class Arrival:
    """A message that has come, delivered or returned, with the frames of its method and its properties.

    Attributes:
        tag: The delivery's; 0 of a message that was returned.
        redelivered: Whether it may have been delivered before.
        method: The frame of its method.
        header: The frame of its properties.
        body: Its body.
    """

    tag: int
    redelivered: bool
    method: bytes
    header: bytes = b""
    body: bytes = b""

    def properties(self) -> Any:
        """Return its properties, as far as they can be decoded; anybody may have written them."""
        header = pamqp.frame.unmarshal(decodable(self.header))[2]
        if not isinstance(header, ContentHeader):
            raise TypeError(f"{header!r} is no header")  # `take` has looked at its type
        return header.properties

    def envelope(self) -> Any:
        """Return its method with its names, as far as they can be decoded."""
        return pamqp.frame.unmarshal(decodable(self.method))[2]


class ChannelWire:
    """Sends and receives the messages of one channel.

    Args:
        channel: The channel.
        stream: The frames that its connection receives.
        write: Sends bytes over it, without waiting.
    """

    def __init__(self, channel: aiormq.Channel, stream: FrameStream, write: Callable[[bytes], None]) -> None:
        self._channel = channel
        self._number = channel.number
        self._stream = stream
        self._write = write
        self._consumers: dict[bytes, Callable[[Arrival], None]] = {}
        self._awaited: dict[int, Receipt] = {}
        self._published = 0
        self._name = uuid4().hex
        self._arriving: Arrival | None = None
        self._receiver: Callable[[Arrival], None] | None = None
        self._body_lacks = 0
        self._body_parts: list[bytes] = []
        self._is_open = True
        stream.route(self._number, self)

    @property
    def is_open(self) -> bool:
        """Whether anything may be written; what is written otherwise is dropped."""
        return self._is_open

    def stop_writing(self) -> None:
        """Write nothing more: this side is about to close the channel."""
        self._is_open = False

    def end(self, error: BaseException | None) -> None:
        """Note that the channel is closed, or is as good as that; who awaits an answer gets none from the broker."""
        self._is_open = False
        self._stream.leave(self._number, self)
        awaited, self._awaited = self._awaited, {}
        for receipt in awaited.values():
            _told(receipt.answered, Answer.LOST, error)

    # --- what goes out

    async def consume(
        self, queue: str, tag: str, on_arrival: Callable[[Arrival], None], *, no_ack: bool = False
    ) -> None:
        """Have the broker deliver what is in a queue, until it confirms the consumer's end, or ends it."""
        self._consumers[tag.encode()] = on_arrival
        await self._channel.basic_consume(queue, _taken_before, consumer_tag=tag, no_ack=no_ack)

    def acknowledge(self, tag: int) -> None:
        """Take a delivery off its queue."""
        if self._is_open:
            self._write(ack_frame(self._number, tag))

    def give_back(self, tag: int) -> None:
        """Have a delivery delivered again."""
        if self._is_open:
            self._write(nack_frame(self._number, tag))

    def reject(self, tag: int) -> None:
        """Have a delivery's queue give it up."""
        if self._is_open:
            self._write(reject_frame(self._number, tag))

    def publish(
        self, body: bytes, *, exchange: str, routing_key: str, mode: int, correlation_id: str = "",
        receipt: Receipt | None = None,
    ) -> None:  # fmt: skip
        """Publish a message, with an id of its own; on a closed channel it is lost.

        Args:
            body: The body.
            exchange: Where to.
            routing_key: Up to 255 bytes.
            mode: The delivery mode: 1 or 2.
            correlation_id: Up to 255 bytes; empty for none.
            receipt: Learns what became of it, on a channel that asks for confirmations, and has it come back where no
                queue takes it; None where the channel asks for none.

        Raises:
            ValueError: A name is over 255 bytes.
        """
        if not self._is_open:
            if receipt is not None:
                receipt.answered(Answer.LOST, None)
            return
        number = self._published + 1
        frames = method_frame(self._number, exchange, routing_key, mandatory=receipt is not None) + content_frames(
            self._number, body, mode=mode, message_id=f"{self._name}.{number:x}", correlation_id=correlation_id,
            largest=self._channel.max_content_size,
        )  # fmt: skip
        self._write(frames)
        self._published = number  # the broker counts as well
        if receipt is not None:
            self._awaited[number] = receipt

    # --- what comes in

    def take(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """Take a frame of a message or of its confirmation; see `FrameReader`."""
        if data[end - 1] != _FRAME_END:
            raise FrameError("a frame without its end")
        if kind == METHOD:
            if self._arriving is not None:
                raise FrameError("a message was broken off")
            return self._take_method(data[start + HEAD_BYTES : start + ARGUMENTS], data, start, end)
        if self._arriving is None:
            return False
        if kind == BODY:
            self._take_body(self._arriving, data[start + HEAD_BYTES : end - 1])
        elif kind == HEADER:
            self._take_header(self._arriving, data, start, end)
        return True

    def _take_method(self, method: bytes, data: bytes, start: int, end: int) -> bool:
        at = start + ARGUMENTS
        if method == BASIC_DELIVER:
            behind_tag = at + 1 + data[at]
            receiver = self._consumers.get(data[at + 1 : behind_tag])
            if receiver is None:
                return False
            tag, redelivered = _TAG_AND_BITS.unpack_from(data, behind_tag)
            self._receiver, self._arriving = (receiver, Arrival(tag, redelivered > 0, data[start:end]))
        elif method in (BASIC_ACK, BASIC_NACK):
            tag, bits = _TAG_AND_BITS.unpack_from(data, at)
            self._confirm(tag, Answer.TAKEN if method == BASIC_ACK else Answer.REFUSED, multiple=bits & _MULTIPLE > 0)
        elif method == BASIC_RETURN:
            self._receiver, self._arriving = (self._returned, Arrival(0, False, data[start:end]))
        else:
            if method in (BASIC_CANCEL, BASIC_CANCEL_OK):
                self._consumers.pop(data[at + 1 : at + 1 + data[at]], None)
            elif method == CHANNEL_CLOSE:
                self._is_open = False
            return False
        return True

    def _take_header(self, arriving: Arrival, data: bytes, start: int, end: int) -> None:
        if arriving.header:
            raise FrameError("a message with two headers")
        arriving.header = data[start:end]
        (self._body_lacks,) = _BODY_SIZE.unpack_from(data, start + ARGUMENTS)
        if not self._body_lacks:
            self._arrived(arriving)

    def _take_body(self, arriving: Arrival, part: bytes) -> None:
        if not arriving.header or len(part) > self._body_lacks:
            raise FrameError("a body that its header does not tell of")
        self._body_lacks -= len(part)
        if self._body_lacks:
            self._body_parts.append(part)
            return
        if self._body_parts:
            self._body_parts.append(part)
            part = b"".join(self._body_parts)
            self._body_parts.clear()
        arriving.body = part
        self._arrived(arriving)

    def _arrived(self, arrival: Arrival) -> None:
        receiver, self._receiver, self._arriving = self._receiver, None, None
        if receiver is not None:
            _told(receiver, arrival)

    def _returned(self, arrival: Arrival) -> None:
        """Answer for a message that no queue took; the confirmation that follows finds nobody who waits."""
        name, _, number = str(arrival.properties().message_id).rpartition(".")
        receipt = self._awaited.pop(int(number, 16), None) if name == self._name else None
        if receipt is not None:
            receipt.answered(Answer.RETURNED, None)

    def _confirm(self, tag: int, answer: Answer, *, multiple: bool) -> None:
        for each in list(takewhile(tag.__ge__, self._awaited)) if multiple else (tag,):
            receipt = self._awaited.pop(each, None)
            if receipt is not None:
                _told(receipt.answered, answer, None)


def _told(function: Callable[..., None], *arguments: object) -> None:
    """Call somebody whose mistake must not end the connection; it is logged as what a callback raises is."""
    try:
        function(*arguments)
    except Exception as error:  # noqa: BLE001 - a supervisor
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a message of the broker's was not dealt with", "exception": error}
        )


async def _taken_before(message: aiormq.abc.DeliveredMessage) -> None:
    """What aiormq would do with a delivery: it sees none."""
