# ruff: noqa: D102 - the names of the tests are the sentences
"""The conformance suite of the control port: what every driver must keep, as tests.

Subclass it in a test module and give it a `buses` fixture: two ends of the same bus, as two processes would hold them
(a driver within one process gives the same object twice)::

    class TestMyControlBus(ControlBusSuite):
        @pytest.fixture
        async def buses(self):
            async with MyControlBus() as one, MyControlBus() as other:
                yield one, other
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias

import pytest

from floxide_amqp.ports.control import ControlBus
from floxide_amqp.testing.work_queue_suite import within

Buses: TypeAlias = tuple[ControlBus, ControlBus]


@pytest.mark.asyncio
class ControlBusSuite:
    """Tests for one driver of the control port."""

    async def test_a_broadcast_reaches_every_listener(self, buses: Buses) -> None:
        here, there = buses
        async with here.listen("w1") as first, there.listen("w2") as second:
            await here.broadcast(b"\x00cancel\xff")
            assert await heard(first, 1) == [b"\x00cancel\xff"]
            assert await heard(second, 1) == [b"\x00cancel\xff"]

    async def test_broadcasts_of_one_sender_arrive_in_order(self, buses: Buses) -> None:
        here, there = buses
        async with there.listen("w") as listener:
            for number in range(100):
                await here.broadcast(b"%d" % number)
            assert await heard(listener, 100) == [b"%d" % number for number in range(100)]

    async def test_a_listener_hears_nothing_from_before(self, buses: Buses) -> None:
        here, there = buses
        await here.broadcast(b"early")
        async with there.listen("w") as listener:
            await here.broadcast(b"late")
            assert await heard(listener, 1) == [b"late"]

    async def test_two_listeners_of_one_worker_both_hear(self, buses: Buses) -> None:
        here, there = buses
        async with here.listen("w") as first, there.listen("w") as second:
            await there.broadcast(b"1")
            assert await heard(first, 1) == await heard(second, 1) == [b"1"]

    async def test_a_worker_id_may_be_anything(self, buses: Buses) -> None:
        here, there = buses
        async with here.listen("höst name/" + "x" * 300) as listener:
            await there.broadcast(b"1")
            assert await heard(listener, 1) == [b"1"]

    async def test_sending_to_nobody_is_fine(self, buses: Buses) -> None:
        here, _ = buses
        await here.broadcast(b"1")
        await here.announce("run.finished", b"1")

    @pytest.mark.parametrize(
        ("pattern", "matching", "other"),
        [
            ("client.7", "client.7", "client.8"),
            ("client.*", "client.7", "client.7.done"),
            ("client.#", "client", "clients"),
            ("client.#", "client.7.done", "other.client"),
            ("#", "anything.at.all", None),
            ("*.*", "a.b", "a.b.c"),
            ("#.done", "run.7.done", "run.7.done.not"),
            ("a.#.b", "a.b", "a.b.c"),
            ("a.#.b.*", "a.x.b.b.c", "a.x.b"),
        ],
    )
    async def test_a_subscriber_gets_what_its_pattern_matches(
        self, buses: Buses, pattern: str, matching: str, other: str | None
    ) -> None:
        here, there = buses
        async with there.subscribe(pattern) as events:
            if other is not None:
                await here.announce(other, b"not for us")
            await here.announce(matching, b"for us")
            assert await heard(events, 1) == [b"for us"]

    async def test_an_event_reaches_every_subscriber_that_matches(self, buses: Buses) -> None:
        here, there = buses
        async with here.subscribe("a.*") as first, there.subscribe("#") as second, there.subscribe("b") as third:
            await there.announce("a.x", b"1")
            await there.announce("b", b"2")
            assert await heard(first, 1) == [b"1"]
            assert await heard(second, 2) == [b"1", b"2"]
            assert await heard(third, 1) == [b"2"]

    async def test_events_and_broadcasts_do_not_mix(self, buses: Buses) -> None:
        here, there = buses
        async with there.listen("w") as listener, there.subscribe("#") as events:
            await here.announce("a", b"event")
            await here.broadcast(b"control")
            assert await heard(listener, 1) == [b"control"]
            assert await heard(events, 1) == [b"event"]

    async def test_a_subscription_ends_with_its_context(self, buses: Buses) -> None:
        here, there = buses
        async with there.listen("w") as listener, there.subscribe("#") as events:
            pass
        await here.broadcast(b"1")
        await here.announce("a", b"1")
        assert [body async for body in listener] == []
        assert [body async for body in events] == []

    async def test_a_cancelled_wait_loses_nothing(self, buses: Buses) -> None:
        here, there = buses
        async with there.listen("w") as listener:
            waiting = asyncio.ensure_future(anext(listener))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            await here.broadcast(b"1")
            assert await heard(listener, 1) == [b"1"]

    async def test_a_reader_that_sleeps_does_not_hold_up_the_sender(self, buses: Buses) -> None:
        here, there = buses
        async with there.listen("asleep"), there.listen("awake") as awake:
            for number in range(500):
                await within(here.broadcast(b"%d" % number))
            assert (await heard(awake, 500))[-1] == b"499"


async def heard(hints: AsyncIterator[bytes], count: int) -> list[bytes]:
    """Return the next so many hints, which must come soon."""

    async def collect() -> list[bytes]:
        return [await anext(hints) for _ in range(count)]

    return await within(collect())
