"""The frames of a message: the same bytes as pamqp's, sent together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from floxide_amqp.drivers.amqp.frames import ack_frame, content_frames, method_frame, nack_frame, reject_frame
from floxide_amqp.drivers.amqp.gathering import LARGE_BYTES, GatheringWriter

NAMES = st.text(max_size=60).filter(lambda text: len(text.encode()) <= 255)


class WrittenTransport(asyncio.WriteTransport):
    """Keeps what is written to it, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def transport() -> WrittenTransport:
    return WrittenTransport()


@pytest.fixture
async def writer(transport: WrittenTransport) -> AsyncIterator[GatheringWriter]:
    reader = asyncio.StreamReader()
    made = GatheringWriter(transport, asyncio.StreamReaderProtocol(reader), reader, asyncio.get_running_loop())
    yield made
    made.close()


EXCHANGES = st.text("abcXYZ019-_.:@#,/", max_size=60)
"""pamqp takes no others."""


@given(st.integers(1, 2047), EXCHANGES, NAMES, st.booleans())
def test_the_frame_of_a_publish_is_the_same_as_pamqps(channel: int, exchange: str, key: str, mandatory: bool) -> None:
    expected = frame.marshal(Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory), channel)
    assert method_frame(channel, exchange, key, mandatory=mandatory) == expected


@given(st.integers(1, 2047), st.binary(max_size=200), st.sampled_from([1, 2]), NAMES, NAMES, st.integers(1, 60))
def test_the_frames_of_properties_and_body_are_the_same_as_pamqps(
    channel: int, body: bytes, mode: int, message_id: str, correlation_id: str, largest: int
) -> None:
    properties = Basic.Properties(
        content_type="application/octet-stream", delivery_mode=mode, message_id=message_id or "m",
        correlation_id=correlation_id or None,
    )  # fmt: skip
    bodies = [body[start : start + largest] for start in range(0, len(body), largest)]
    expected = frame.marshal(ContentHeader(properties=properties, body_size=len(body)), channel)
    expected += b"".join(frame.marshal(ContentBody(part), channel) for part in bodies)
    found = content_frames(
        channel, body, mode=mode, message_id=message_id or "m", correlation_id=correlation_id, largest=largest
    )
    assert found == expected


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 200_000])
def test_a_broker_without_a_limit_for_frames_gets_a_body_in_one(body: bytes) -> None:
    whole = content_frames(1, body, mode=2, message_id="m", largest=max(1, len(body)))
    assert content_frames(1, body, mode=2, message_id="m", largest=-8) == whole  # as aiormq has it of `frame_max = 0`


@given(st.integers(1, 2047), st.integers(1, 2**62))
def test_the_frames_of_settlements_are_the_same_as_pamqps(channel: int, tag: int) -> None:
    assert ack_frame(channel, tag) == frame.marshal(Basic.Ack(tag), channel)
    assert nack_frame(channel, tag) == frame.marshal(Basic.Nack(tag, requeue=True), channel)
    assert reject_frame(channel, tag) == frame.marshal(Basic.Reject(tag, requeue=False), channel)


def test_a_name_that_no_frame_has_room_for_is_refused() -> None:
    with pytest.raises(ValueError, match="256 bytes"):
        method_frame(1, "", "q" * 256, mandatory=True)


async def test_what_is_written_in_one_turn_of_the_loop_goes_out_in_one_piece(
    transport: WrittenTransport, writer: GatheringWriter
) -> None:
    writer.write(b"a")
    writer.write(b"b")
    assert transport.pieces == []
    await asyncio.sleep(0)
    assert transport.pieces == [b"ab"]
    writer.write(b"c")
    await asyncio.sleep(0)
    assert transport.pieces == [b"ab", b"c"]


async def test_what_is_large_does_not_wait_for_more(transport: WrittenTransport, writer: GatheringWriter) -> None:
    writer.write(b"a")
    writer.write(b"b" * LARGE_BYTES)
    assert [len(piece) for piece in transport.pieces] == [LARGE_BYTES + 1]


async def test_closing_sends_what_was_gathered(transport: WrittenTransport, writer: GatheringWriter) -> None:
    writer.write(b"the farewell")
    writer.close()
    assert transport.pieces == [b"the farewell"]
    await asyncio.sleep(0)
    assert transport.pieces == [b"the farewell"]


async def test_nothing_is_written_to_what_was_cut(transport: WrittenTransport, writer: GatheringWriter) -> None:
    writer.write(b"lost")
    transport.is_closed = True
    await asyncio.sleep(0)
    assert transport.pieces == []
