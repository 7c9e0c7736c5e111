"""Frames that RabbitMQ hands on and pamqp does not decode: one such message must not end its reader's connection."""

from __future__ import annotations

import asyncio
import struct
from datetime import UTC, datetime
from typing import Any

import pamqp.frame
import pytest
from aiormq.connection import FrameReceiver
from aiormq.exceptions import AMQPConnectionError
from hypothesis import given
from hypothesis import strategies as st
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from floxide_amqp.drivers.amqp.frame_stream import FrameStream
from floxide_amqp.drivers.amqp.odd_frames import MAX_DEPTH, decodable

LATIN = "Bär".encode("latin-1") + b"!"  # as long as AAAA
INSTANT = datetime.fromtimestamp(1_700_000_000, tz=UTC)
SECONDS = (1_700_000_000).to_bytes(8, "big")
NANOSECONDS = (1_700_000_000_000_000_000).to_bytes(8, "big")


def header(properties: Basic.Properties, *replaced: tuple[bytes, bytes]) -> bytes:
    frame = pamqp.frame.marshal(ContentHeader(body_size=2, properties=properties), 7)
    for old, new in replaced:
        assert old in frame
        frame = frame.replace(old, new)
    return frame


def framed(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, 7, len(payload)) + payload + b"\xce"


def properties_of(frame: bytes) -> Any:
    size, channel, found = pamqp.frame.unmarshal(decodable(frame))
    assert isinstance(found, ContentHeader)
    assert (size, channel) == (len(decodable(frame)), 7)
    return found.properties


def test_a_text_that_is_not_utf_8_is_kept_as_bytes_among_the_headers() -> None:
    sent = Basic.Properties(content_type="x/y", message_id="AAAA", headers={"a": 1}, app_id="shop", delivery_mode=2)
    found = properties_of(header(sent, (b"AAAA", LATIN)))
    assert not found.message_id
    assert found.headers == {"a": 1, "undecodable.message_id": LATIN}
    assert (found.content_type, found.app_id, found.delivery_mode) == ("x/y", "shop", 2)


def test_a_message_without_headers_gets_some_for_what_it_cannot_say_otherwise() -> None:
    found = properties_of(header(Basic.Properties(content_type="AAAA", priority=3), (b"AAAA", LATIN)))
    assert (found.content_type or "", found.headers, found.priority) == ("", {"undecodable.content_type": LATIN}, 3)


def test_a_name_of_a_header_that_is_not_utf_8_says_its_bytes() -> None:
    sent = Basic.Properties(headers={"AAAA": "one", "b": {"AAAA": [1, "two"]}}, message_id="m")
    found = properties_of(header(sent, (b"AAAA", LATIN)))
    assert found.headers == {"B\\xe4r!": "one", "b": {"B\\xe4r!": [1, "two"]}}
    assert found.message_id == "m"


def test_an_instant_beyond_the_calendar_is_a_number() -> None:
    sent = Basic.Properties(timestamp=INSTANT, headers={"at": INSTANT, "in": [INSTANT]})
    found = properties_of(header(sent, (SECONDS, NANOSECONDS)))
    assert found.timestamp is None
    number = int.from_bytes(NANOSECONDS, "big")
    assert found.headers == {"at": number, "in": [number], "undecodable.timestamp": number}


def test_an_instant_in_milliseconds_is_one() -> None:
    milliseconds = (1_700_000_000_123).to_bytes(8, "big")
    found = properties_of(header(Basic.Properties(timestamp=INSTANT), (SECONDS, milliseconds)))
    assert (found.timestamp.year, found.headers) == (2023, None)


def test_a_value_of_no_known_type_is_the_bytes_behind_it() -> None:
    found = properties_of(header(Basic.Properties(headers={"a": 1, "b": True, "c": 2}), (b"\x01bt", b"\x01b?")))
    assert found.headers == {"a": 1, "b": b"?\x01\x01cb\x02"}


def test_tables_within_tables_end_somewhere() -> None:
    inner = b""
    for _ in range(15_000):
        inner = b"\x00F" + struct.pack(">I", len(inner)) + inner
    payload = struct.pack(">HHQHI", 60, 0, 2, 0x2000, len(inner)) + inner
    value = properties_of(framed(2, payload)).headers
    depth = 0
    while isinstance(value, dict):
        value, depth = value[""], depth + 1
    assert isinstance(value, bytearray)
    assert depth <= MAX_DEPTH + 1


def test_properties_that_are_cut_off_are_kept_together() -> None:
    payload = struct.pack(">HHQH", 60, 0, 2, 0x8080) + b"\x03x/y\xff..."
    found = properties_of(framed(2, payload))
    assert found.headers == {"undecodable.properties": b"\x03x/y\xff..."}
    assert not found.content_type


@pytest.mark.parametrize("at", ["exchange", "routing_key"])
def test_a_routing_key_or_an_exchange_that_is_not_utf_8_says_its_bytes(at: str) -> None:
    values = {"exchange": "shop", "routing_key": "orders", at: "AAAA"}
    sent = Basic.Deliver(consumer_tag="tag", delivery_tag=2**40 + 200, redelivered=True, **values)
    _, _, found = pamqp.frame.unmarshal(decodable(pamqp.frame.marshal(sent, 7).replace(b"AAAA", LATIN)))
    assert isinstance(found, Basic.Deliver)
    assert (found.consumer_tag, found.redelivered) == ("tag", True)
    assert {"exchange": found.exchange, "routing_key": found.routing_key} == values | {at: "B\\xe4r!"}


@pytest.mark.parametrize(
    "properties",
    [
        Basic.Properties(),
        Basic.Properties(content_type="a/b", delivery_mode=2, message_id="m" * 32, correlation_id="x" * 200),
        Basic.Properties(
            message_id="ähnlich", timestamp=INSTANT, headers={"ä": ["ö", {"ü": None}], "n": 1.5, "b": bytearray(b"\0")}
        ),
    ],
    ids=["none", "the engine's own", "all sorts"],
)
def test_what_can_be_decoded_stays_as_it_is(properties: Basic.Properties) -> None:
    frame = header(properties)
    assert decodable(frame) is frame


@given(flags=st.integers(0, 0xFFFF), rest=st.binary(max_size=200))
def test_any_properties_are_decoded(flags: int, rest: bytes) -> None:
    frame = decodable(framed(2, struct.pack(">HHQH", 60, 0, 2, flags) + rest))
    assert isinstance(pamqp.frame.unmarshal(frame)[2], ContentHeader)


@given(table=st.binary(max_size=300))
def test_any_headers_are_decoded(table: bytes) -> None:
    frame = decodable(framed(2, struct.pack(">HHQHI", 60, 0, 2, 0x2000, len(table)) + table))
    assert isinstance(pamqp.frame.unmarshal(frame)[2], ContentHeader)


async def test_a_connection_goes_on_behind_an_odd_message() -> None:
    """aiormq gives a connection up over one frame that it cannot decode."""
    stream = FrameStream()
    receiver = FrameReceiver(stream)
    deliver = pamqp.frame.marshal(Basic.Deliver("tag", 1, False, "", "orders"), 7)
    frames = [
        deliver,
        header(Basic.Properties(headers={"AAAA": 1}), (b"AAAA", LATIN)),
        pamqp.frame.marshal(ContentBody(b"{}"), 7),
        pamqp.frame.marshal(Heartbeat(), 0),
        deliver,
    ]
    for part in (b"".join(frames)[at : at + 5] for at in range(0, sum(map(len, frames)), 5)):
        stream.feed_data(part)
    kinds = [type((await receiver.get_frame())[2]).__name__ for _ in frames]
    assert kinds == ["Deliver", "ContentHeader", "ContentBody", "Heartbeat", "Deliver"]
    stream.feed_eof()
    with pytest.raises(StopAsyncIteration):
        await receiver.get_frame()


async def test_a_frame_that_is_cut_off_is_a_lost_connection() -> None:
    stream = FrameStream()
    receiver = FrameReceiver(stream)
    stream.feed_data(header(Basic.Properties(message_id="m"))[:-3])
    reading = asyncio.ensure_future(receiver.get_frame())
    await asyncio.sleep(0)
    stream.feed_eof()
    with pytest.raises(AMQPConnectionError):
        await reading
