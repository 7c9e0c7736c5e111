"""Hints to others, on a connection that takes them or does not."""

from __future__ import annotations

from typing import Any

import pytest

from floxide_amqp.drivers.amqp.control import MOST_UNSENT_BYTES, AmqpControlBus
from floxide_amqp.drivers.amqp.transport import Addresses, CuttableTransport


class FakeSession:
    is_usable = True
    is_blocked = False
    unsent_bytes = 0


class FakeWire:
    is_open = True

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def publish(self, body: bytes, **_: object) -> None:
        self.sent.append(body)


async def test_hints_do_not_fill_the_memory_while_the_broker_reads_none(caplog: pytest.LogCaptureFixture) -> None:
    bus = AmqpControlBus("amqp://nowhere")
    session, wire = FakeSession(), FakeWire()
    parts: Any = (session, wire)
    bus._link._session, bus._wire = parts
    await bus.broadcast(b"1")
    session.unsent_bytes = MOST_UNSENT_BYTES + 1
    await bus.broadcast(b"2")
    await bus.announce("key", b"3")
    assert "broker.hint_dropped" in caplog.text
    session.unsent_bytes = MOST_UNSENT_BYTES
    await bus.announce("key", b"4")
    assert wire.sent == [b"1", b"4"]


async def test_a_socket_that_is_not_open_has_nothing_unsent() -> None:
    assert CuttableTransport(Addresses(), patience=1.0).unsent_bytes == 0
