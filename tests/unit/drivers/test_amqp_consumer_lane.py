"""A consumer's channel while its consumer stops."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from floxide_amqp.drivers.amqp.channel_wire import Arrival
from floxide_amqp.drivers.amqp.consumer_lane import ConsumerLane
from floxide_amqp.drivers.amqp.topology import Names


class FakeOwner:
    def __init__(self) -> None:
        self.shares = {"a": 1}
        self.is_stopped = False
        self.unanswered, self.subscribed = Counter[str](), Counter[str]()

    def serve(self) -> None:
        pass


class FakeWire:
    def __init__(self) -> None:
        self.given_back: list[int] = []

    def give_back(self, tag: int) -> None:
        self.given_back.append(tag)


class FakeSession:
    is_usable = True

    def __init__(self) -> None:
        self.fake_wire = FakeWire()
        self.calls: list[str] = []

    def wire(self, channel: object) -> FakeWire:
        return self.fake_wire

    async def call(self, operation: str, work: Coroutine[Any, Any, Any]) -> None:
        self.calls.append(operation)
        await work


class FakeChannel:
    def __init__(self) -> None:
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_consumer_cancel_callbacks: set[object] = set()
        self.may_answer = asyncio.Event()

    async def basic_cancel(self, tag: str) -> None:
        await self.may_answer.wait()


async def test_what_comes_while_a_consumer_is_being_ended_goes_back_once_it_has_ended_and_not_round_and_round() -> None:
    owner, session, channel = FakeOwner(), FakeSession(), FakeChannel()
    parts: Any = (owner, session, channel, Names("n"))
    lane = ConsumerLane(*parts)
    lane._tags["a"] = "tag"
    owner.is_stopped = True
    ending = asyncio.create_task(lane.unsubscribe())
    await asyncio.sleep(0)
    for tag in (1, 2):
        lane._on_message("a", Arrival(tag, False, b""))
    assert session.fake_wire.given_back == []  # the broker would deliver it to this very consumer again
    channel.may_answer.set()
    await ending
    assert session.fake_wire.given_back == [1, 2]
