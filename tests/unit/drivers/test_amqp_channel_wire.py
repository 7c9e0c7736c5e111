"""The messages of a channel, taken out of its connection's frames: the same as aiormq would have made of them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import aiormq
import pamqp.frame
import pytest
from aiormq.connection import Connection, FrameReceiver
from aiormq.exceptions import AMQPConnectionError
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from floxide_amqp.drivers.amqp.channel_wire import Answer, Arrival, ChannelWire
from floxide_amqp.drivers.amqp.frame_stream import SIGN_OF_LIFE_SECONDS, BlockWatch, FrameStream
from floxide_amqp.testing import virtual_time

TEXTS = st.text(max_size=20)
NAMES = st.text("abcXYZ019-_.", max_size=20)
"""pamqp takes no others for an exchange."""

PROPERTIES = st.builds(
    Basic.Properties,
    message_id=TEXTS.filter(bool),
    content_type=st.none() | TEXTS.filter(bool),
    priority=st.none() | st.integers(1, 9),
    headers=st.none() | st.dictionaries(TEXTS, TEXTS | st.integers(0, 9), min_size=1, max_size=3),
)


class FakeChannel:
    """As much of a channel as a wire needs."""

    def __init__(self, number: int = 7) -> None:
        self.number = number
        self.max_content_size = 1000
        self.consuming: list[str] = []

    async def basic_consume(self, queue: str, callback: object, *, consumer_tag: str, no_ack: bool) -> None:
        self.consuming.append(consumer_tag)


class Wired:
    """A wire on a stream, with what it wrote and heard."""

    def __init__(self, stream: FrameStream | None = None, number: int = 7) -> None:
        self.stream = stream or FrameStream()
        self.written: list[bytes] = []
        self.heard: list[Arrival] = []
        channel: Any = FakeChannel(number)
        self.number = number
        self.wire = ChannelWire(channel, self.stream, self.written.append)

    async def consume(self, tag: str = "tag", on_arrival: Callable[[Arrival], None] | None = None) -> None:
        await self.wire.consume("queue", tag, on_arrival or self.heard.append)

    def feed(self, *frames: Any) -> None:
        self.stream.feed_data(b"".join(pamqp.frame.marshal(frame, self.number) for frame in frames))

    async def left_to_aiormq(self) -> list[str]:
        self.stream.feed_eof()
        receiver = FrameReceiver(self.stream)
        return [type(frame).__name__ async for _, _, frame in receiver]


class Told:
    """A receipt."""

    def __init__(self) -> None:
        self.answers: list[tuple[Answer, BaseException | None]] = []

    def answered(self, answer: Answer, error: BaseException | None) -> None:
        self.answers.append((answer, error))


def sent(wired: Wired, count: int) -> list[Told]:
    told = [Told() for _ in range(count)]
    for each in told:
        wired.wire.publish(b"{}", exchange="work", routing_key="a", mode=2, receipt=each)
    return told


def header_in(data: bytes) -> Any:
    """Return the header of a message that was written."""
    size, _, publish = pamqp.frame.unmarshal(data)
    assert isinstance(publish, Basic.Publish)
    assert publish.mandatory
    return pamqp.frame.unmarshal(data[size:])[2]


def delivery(body: bytes, tag: int = 1, *, consumer: str = "tag", part: int = 1000) -> Iterator[Any]:
    yield Basic.Deliver(consumer, tag, False, "work", "a")
    yield ContentHeader(body_size=len(body), properties=Basic.Properties(message_id="m"))
    yield from (ContentBody(body[at : at + part]) for at in range(0, len(body), part))


@st.composite
def messages(draw: st.DrawFn) -> tuple[int, Basic.Deliver, ContentHeader, bytes, int]:
    deliver = Basic.Deliver(
        draw(st.sampled_from(["tag", "other"])), draw(st.integers(1, 2**40)), draw(st.booleans()), draw(NAMES),
        draw(TEXTS),
    )  # fmt: skip
    body = draw(st.binary(max_size=60))
    header = ContentHeader(body_size=len(body), properties=draw(PROPERTIES))
    return draw(st.sampled_from([3, 7])), deliver, header, body, draw(st.integers(1, 60))


@given(st.lists(messages(), max_size=6), st.integers(1, 90), st.booleans())
async def test_messages_come_as_they_were_sent_however_their_frames_are_cut(
    several: list[tuple[int, Basic.Deliver, ContentHeader, bytes, int]], piece: int, mixed: bool
) -> None:
    stream = FrameStream()
    wires = {number: Wired(stream, number) for number in (3, 7)}
    frames: dict[int, list[bytes]] = {3: [], 7: []}
    for number, deliver, header, body, part in several:
        whole: list[Any] = [deliver, header]
        whole += [ContentBody(body[at : at + part]) for at in range(0, len(body), part)]
        frames[number] += [pamqp.frame.marshal(frame, number) for frame in whole]
    for wired in wires.values():
        await wired.consume("tag")
        await wired.consume("other")
    if mixed:  # the frames of two channels may come in turn, and a heartbeat between any two
        pairs = [frame for pair in zip(frames[3], frames[7], strict=False) for frame in pair]
        rest = frames[3][len(frames[7]) :] + frames[7][len(frames[3]) :]
        data = pamqp.frame.marshal(Heartbeat(), 0).join([b"", *pairs, *rest])
    else:
        data = b"".join(frames[3] + frames[7])
    for at in range(0, len(data), piece):
        stream.feed_data(data[at : at + piece])
    for number, wired in wires.items():
        expected = [message for message in several if message[0] == number]
        assert [each.body for each in wired.heard] == [body for *_, body, _ in expected]
        for arrival, (_, deliver, header, _, _) in zip(wired.heard, expected, strict=True):
            envelope = arrival.envelope()
            assert (arrival.tag, arrival.redelivered) == (deliver.delivery_tag, deliver.redelivered)
            assert (envelope.exchange, envelope.routing_key) == (deliver.exchange, deliver.routing_key)
            assert dict(arrival.properties()) == dict(header.properties)
    assert set(await wires[3].left_to_aiormq()) <= {"Heartbeat"}


async def test_all_that_is_no_message_is_left_to_aiormq() -> None:
    wired = Wired()
    await wired.consume()
    wired.feed(Basic.ConsumeOk("tag"), *delivery(b"1"), Basic.QosOk(), *delivery(b"unknown", consumer="nobody's"))
    wired.feed(*delivery(b"2"), Basic.CancelOk("tag"), *delivery(b"behind its end"))
    assert [arrival.body for arrival in wired.heard] == [b"1", b"2"]
    left = [name for name in await wired.left_to_aiormq() if name != "Heartbeat"]
    message = ["Deliver", "ContentHeader", "ContentBody"]
    assert left == ["ConsumeOk", "QosOk", *message, "CancelOk", *message]


async def test_each_message_is_confirmed_once_by_its_number_or_with_all_before_it() -> None:
    wired = Wired()
    told = sent(wired, 6)
    wired.feed(Basic.Ack(2), Basic.Ack(4, multiple=True), Basic.Ack(2), Basic.Nack(5), Basic.Ack(99))
    found = [[answer for answer, _ in each.answers] for each in told]
    assert found == [[Answer.TAKEN]] * 4 + [[Answer.REFUSED], []]


async def test_a_message_that_comes_back_is_answered_once_whatever_is_confirmed_behind_it() -> None:
    wired = Wired()
    told = sent(wired, 3)
    headers = [header_in(data) for data in wired.written]
    assert len({header.properties.message_id for header in headers}) == 3
    returned, header = Basic.Return(312, "NO_ROUTE", "work", "a"), headers[1]
    wired.feed(returned, header, ContentBody(b"{}"), Basic.Ack(3, multiple=True))
    assert [[answer for answer, _ in each.answers] for each in told] == [
        [Answer.TAKEN], [Answer.RETURNED], [Answer.TAKEN],
    ]  # fmt: skip


async def test_a_returned_message_of_somebody_elses_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    wired = Wired()
    (told,) = sent(wired, 1)
    for message_id in ("x", "x.1", None):
        header = ContentHeader(body_size=0, properties=Basic.Properties(message_id=message_id))
        wired.feed(Basic.Return(312, "NO_ROUTE", "work", "a"), header)
    wired.feed(Basic.Ack(1))
    assert [answer for answer, _ in told.answers] == [Answer.TAKEN]


async def test_who_awaits_an_answer_of_a_channel_that_ends_hears_what_it_ended_for() -> None:
    wired = Wired()
    told = sent(wired, 2)
    wired.feed(Basic.Ack(1))
    reason = OSError("cut")
    wired.wire.end(reason)
    wired.wire.end(None)
    assert [each.answers for each in told] == [[(Answer.TAKEN, None)], [(Answer.LOST, reason)]]
    (late,) = sent(wired, 1)
    assert late.answers == [(Answer.LOST, None)]


@pytest.mark.parametrize("closed_by", ["the broker", "this side", "a loss"])
async def test_nothing_is_written_on_a_closed_channel(closed_by: str) -> None:
    wired = Wired()
    wired.wire.acknowledge(1)
    before = list(wired.written)
    if closed_by == "the broker":
        wired.feed(Channel.Close(406, "PRECONDITION_FAILED", 60, 80))
    elif closed_by == "this side":
        wired.wire.stop_writing()
    else:
        wired.wire.end(None)
    wired.wire.acknowledge(2)
    wired.wire.give_back(3)
    wired.wire.reject(4)
    wired.wire.publish(b"{}", exchange="", routing_key="a", mode=1)
    assert (wired.written, wired.wire.is_open) == (before, False)


@pytest.mark.parametrize("is_told_late", [False, True])
async def test_a_channel_of_the_same_number_has_frames_of_its_own(is_told_late: bool) -> None:
    first = Wired()
    await first.consume()
    if not is_told_late:
        first.wire.end(None)
    second = Wired(first.stream)
    await second.consume()
    if is_told_late:  # aiormq frees the number before it says that the channel is closed
        first.wire.end(None)
    second.feed(*delivery(b"1"))
    assert ([each.body for each in first.heard], [each.body for each in second.heard]) == ([], [b"1"])


async def test_a_mistake_of_who_gets_a_message_does_not_end_the_connection() -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    wired = Wired()

    def fail(arrival: Arrival) -> None:
        raise ZeroDivisionError(arrival.body)

    await wired.consume("bad", fail)
    await wired.consume("good")
    wired.feed(*delivery(b"1", consumer="bad"), *delivery(b"2", consumer="good"))
    assert [arrival.body for arrival in wired.heard] == [b"2"]
    assert [type(each["exception"]) for each in problems] == [ZeroDivisionError]


def frames_of(*frames: Any) -> bytes:
    return b"".join(pamqp.frame.marshal(frame, 7) for frame in frames)


DELIVER, HEADER, BODY = delivery(b"body")
IMPOSSIBLE = {
    "no end": frames_of(DELIVER)[:-1] + b"x",
    "no header": frames_of(DELIVER, BODY),
    "two headers": frames_of(DELIVER, HEADER, HEADER),
    "broken off": frames_of(DELIVER, HEADER, DELIVER),
    "too long a body": frames_of(DELIVER, HEADER, ContentBody(b"bodybody")),
    "no known type": b"HTTP/1.1 400 Bad Request",
    "cut short": b"\x01\x00\x07\x00\x00\x00\x09\x00\x3c\x00\x3c\x03tag\x00\xce",
}


@pytest.mark.parametrize("impossible", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
async def test_frames_that_cannot_be_end_the_connection_and_nothing_else(impossible: bytes) -> None:
    wired = Wired()
    await wired.consume()
    wired.stream.feed_data(impossible)
    wired.feed(*delivery(b"1"))
    assert wired.heard == []
    with pytest.raises(AMQPConnectionError, match="no AMQP"):
        await FrameReceiver(wired.stream).get_frame()


async def test_a_broker_of_another_version_is_left_to_aiormq() -> None:
    stream = FrameStream()
    for byte in b"AMQP\x00\x00\x09\x01":
        stream.feed_data(bytes((byte,)))
    with pytest.raises(aiormq.exceptions.ProtocolSyntaxError):
        await FrameReceiver(stream).get_frame()


def test_a_connection_that_brings_nothing_but_messages_is_alive_for_aiormq() -> None:
    async def story() -> int:
        wired = Wired()
        await wired.consume()
        for tag in range(1, 101):
            wired.feed(*delivery(b"1", tag))
            await asyncio.sleep(SIGN_OF_LIFE_SECONDS / 10)
        return len(await wired.left_to_aiormq())

    assert 9 <= virtual_time.run(story()) <= 11
    shortest_grace = (1 + 1) * Connection.HEARTBEAT_GRACE_MULTIPLIER  # with heartbeats every second
    assert shortest_grace > 2 * SIGN_OF_LIFE_SECONDS


def test_what_a_wire_needs_of_aiormq_is_there() -> None:
    parameters = inspect.signature(aiormq.Channel.basic_consume).parameters
    assert list(parameters)[:3] == ["self", "queue", "consumer_callback"]
    assert {"consumer_tag", "no_ack"} <= set(parameters)
    assert isinstance(inspect.getattr_static(aiormq.Channel, "closing"), property)
    made = inspect.getsource(aiormq.Channel.__init__)
    assert "self.number" in made
    assert "self.max_content_size" in made


async def test_aiormq_reads_frames_in_no_other_way() -> None:
    """It must not look into the buffer, of which it sees a part only."""

    class Narrow:
        def __init__(self, stream: FrameStream) -> None:
            self.readexactly, self.at_eof = stream.readexactly, stream.at_eof

    stream = FrameStream()
    narrow: Any = Narrow(stream)
    stream.feed_data(frames_of(Heartbeat()))
    assert isinstance((await FrameReceiver(narrow).get_frame())[2], Heartbeat)


@pytest.mark.pitfall(11)
async def test_a_connection_that_the_broker_blocks_says_so_at_once_and_aiormq_hears_it_too() -> None:
    wired = Wired(number=0)
    changes: list[bool] = []
    wired.stream.route(0, BlockWatch(changes.append))
    wired.feed(Heartbeat(), commands.Connection.Blocked("low on memory"))
    assert changes == [True]
    wired.feed(commands.Connection.Unblocked())
    assert changes == [True, False]
    assert await wired.left_to_aiormq() == ["Heartbeat", "Blocked", "Unblocked"]
