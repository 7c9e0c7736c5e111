"""The frames of one message, written straight into bytes.

`aiormq.Channel.basic_publish` makes an object for each frame and asks pamqp to spell it, value by value: 70 µs for a
message here, against 15 µs for what follows. The bytes are the same, and so is what the channel keeps of a message.
AMQP 0-9-1, sections 2.3.5 (frames), 1.8.3.7 (basic.publish) and 4.2.6 (content header).
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Final, Protocol, cast

import aiormq
from aiormq.abc import ChannelFrame
from aiormq.exceptions import ChannelInvalidStateError
from pamqp.commands import Basic

if TYPE_CHECKING:
    import asyncio
    from collections.abc import MutableMapping

_METHOD: Final = Struct(">BHLHHH")
"""Type, channel and size of the frame; class, method, and a field that is not used."""

_HEADER: Final = Struct(">BHLHHQH")
"""Type, channel and size of the frame; class, weight, size of the body, and which properties follow."""

_BODY: Final = Struct(">BHL")
"""Type, channel and size of the frame."""

_END: Final = b"\xce"
_CONTENT_TYPE: Final = b"\x18application/octet-stream"
_HAS_TYPE_AND_MODE: Final = 0x9000
_HAS_CORRELATION_ID: Final = 0x0400
_HAS_MESSAGE_ID: Final = 0x0080
_MANDATORY: Final = 1


class _Inside(Protocol):
    """What a channel keeps of the messages under way, with the types that aiormq leaves open."""

    write_queue: asyncio.Queue[ChannelFrame]
    confirmations: MutableMapping[int, asyncio.Future[Basic.Ack]]

    def create_future(self) -> asyncio.Future[Basic.Ack]: ...


@lru_cache(maxsize=4096)
def method_frame(channel: int, exchange: str, routing_key: str, *, mandatory: bool) -> bytes:
    """Return the frame that says where a message goes.

    Args:
        channel: The channel's number.
        exchange: Up to 255 bytes.
        routing_key: Up to 255 bytes.
        mandatory: Whether it comes back where no queue takes it.

    Raises:
        ValueError: A name is longer.
    """
    payload = _short(exchange) + _short(routing_key) + bytes((_MANDATORY if mandatory else 0,))
    return _METHOD.pack(1, channel, 6 + len(payload), 60, 40, 0) + payload + _END


def content_frames(
    channel: int, body: bytes, *, mode: int, message_id: str, correlation_id: str = "", largest: int
) -> bytes:
    """Return the frames of a message's properties and body.

    Args:
        channel: The channel's number.
        body: The body.
        mode: The delivery mode: 1 or 2.
        message_id: Up to 255 bytes.
        correlation_id: Up to 255 bytes; empty for none.
        largest: Bytes of a body that go into one frame at most; 0 or less where the broker's ``frame_max`` is 0, which
            sets no limit.

    Raises:
        ValueError: A name is longer.
    """
    flags, properties = _HAS_TYPE_AND_MODE | _HAS_MESSAGE_ID, _CONTENT_TYPE + bytes((mode,))
    if correlation_id:
        flags, properties = flags | _HAS_CORRELATION_ID, properties + _short(correlation_id)
    properties += _short(message_id)
    parts = [_HEADER.pack(2, channel, 14 + len(properties), 60, 0, len(body), flags), properties, _END]
    size = largest if largest > 0 else len(body) or 1
    for start in range(0, len(body), size):
        part = body if len(body) <= size else body[start : start + size]
        parts += (_BODY.pack(3, channel, len(part)), part, _END)
    return b"".join(parts)


async def publish(
    channel: aiormq.Channel,
    body: bytes,
    *,
    exchange: str,
    routing_key: str,
    mode: int,
    message_id: str,
    correlation_id: str = "",
    mandatory: bool = False,
) -> Basic.Ack | None:
    """Publish one message, as `aiormq.Channel.basic_publish` does with ``wait=False``; no channel takes both.

    Returns:
        The broker's confirmation, on a channel that asks for it.

    Raises:
        ChannelInvalidStateError: The channel is closed.
        PublishError: The message came back.
        DeliveryError: The broker refused it.
        ValueError: A name is over 255 bytes.
        Exception: What closed the channel before the confirmation came.
    """
    if channel.is_closed:
        raise ChannelInvalidStateError(f"{channel!r} closed")
    number = channel.number
    frames = method_frame(number, exchange, routing_key, mandatory=mandatory) + content_frames(
        number, body, mode=mode, message_id=message_id, correlation_id=correlation_id,
        largest=channel.max_content_size,
    )  # fmt: skip
    inside = cast("_Inside", channel)
    await inside.write_queue.put(ChannelFrame(payload=frames, should_close=False))
    channel.delivery_tag += 1  # the broker counts as well: nothing may be awaited since the frames were put
    if not channel.publisher_confirms:
        return None
    confirmation = inside.create_future()
    tag = channel.delivery_tag
    inside.confirmations[tag] = confirmation
    channel.message_id_delivery_tag[message_id] = tag
    try:
        return await confirmation
    finally:
        channel.message_id_delivery_tag.pop(message_id, None)


def _short(text: str) -> bytes:
    data = text.encode()
    if len(data) > 255:
        raise ValueError(f"a name of {len(data)} bytes does not fit: {text[:40]!r}…")
    return bytes((len(data),)) + data
