"""A reader's channel, and messages that nobody has thought of."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pamqp.commands import Basic

from floxide_amqp.core.sources import MessageKey
from floxide_amqp.drivers.amqp.channel_wire import Arrival
from floxide_amqp.drivers.amqp.source_lane import SourceLane
from floxide_amqp.drivers.amqp.source_topology import SourceTopology
from floxide_amqp.exceptions import CodecError
from tests.unit.drivers.test_amqp_consumer_lane import FakeChannel, FakeSession, FakeWire


class SettlingWire(FakeWire):
    def __init__(self) -> None:
        super().__init__()
        self.settled: list[tuple[str, int]] = []

    def acknowledge(self, tag: int) -> None:
        self.settled.append(("acknowledged", tag))

    def reject(self, tag: int) -> None:
        self.settled.append(("rejected", tag))


class FakeOwner:
    def __init__(self) -> None:
        self.topology = SourceTopology(queue="orders")
        self.prefetch = 1
        self.arrivals = 0

    def arrived(self) -> None:
        self.arrivals += 1


class PlainArrival(Arrival):
    def properties(self) -> Any:
        return Basic.Properties(message_id="m", headers={"n": 1})

    def envelope(self) -> Any:
        return Basic.Deliver("tag", self.tag, self.redelivered, "shop", "new")


class OddArrival(Arrival):
    def properties(self) -> Any:
        raise RecursionError("of a kind that nobody has thought of")


async def test_a_message_whose_properties_raise_is_handed_over_with_its_body_and_holds_no_place_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    owner, session = FakeOwner(), FakeSession()
    wire = session.fake_wire = SettlingWire()
    parts: Any = (owner, session, FakeChannel())
    lane = SourceLane(*parts)
    with caplog.at_level(logging.INFO):
        lane._on_message(OddArrival(1, True, b"method", b"header", b"body"))
    lane._on_message(PlainArrival(2, False, b"", b"", b"{}"))
    assert owner.arrivals == 2
    odd, plain = lane.buffered
    assert (odd.message.body, odd.message.redelivered) == (b"body", True)
    assert odd.message.headers == {"undecodable.properties": b"header"}
    assert "broker.message_undecodable" in caplog.text
    assert "RecursionError" in caplog.text
    assert (plain.message.message_id, plain.message.headers, plain.message.routing_key) == ("m", {"n": 1}, "new")
    with pytest.raises(CodecError):  # so that it goes where what no run can be made of goes
        MessageKey.message_id().of(odd.message, None)
    await odd.reject()
    await plain.acknowledge()
    assert wire.settled == [("rejected", 1), ("acknowledged", 2)]
    assert not lane._unsettled
