"""Confirmations that do not come: when the connection is to blame for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from floxide_amqp.drivers.amqp.channel_wire import Answer, Receipt
from floxide_amqp.drivers.amqp.frames import content_frames
from floxide_amqp.drivers.amqp.publication import PublishLane
from floxide_amqp.drivers.amqp.publisher import Publisher
from floxide_amqp.drivers.amqp.settings import DEFAULT_SETTINGS
from floxide_amqp.drivers.amqp.topology import Names
from floxide_amqp.ports.work_queue import Message, PublishOutcome
from floxide_amqp.testing import virtual_time

DEADLINE = 5.0


class FakeLink:
    is_open = True
    current = None


class FakeSession:
    is_usable = True

    def __init__(self) -> None:
        self.blocked = False
        self.takes_since = 0.0
        self.answered_at = 0.0
        self.aborted: list[str] = []

    @property
    def is_blocked(self) -> bool:
        return self.blocked

    def unblock(self) -> None:
        self.blocked, self.takes_since = False, asyncio.get_running_loop().time()

    def touch(self) -> None:
        self.answered_at = asyncio.get_running_loop().time()

    def abort(self, reason: str) -> None:
        self.aborted.append(reason)


class FakeWire:
    is_open = True

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.correlation_ids: list[str] = []

    def publish(self, body: bytes, *, receipt: Receipt, correlation_id: str, **_: object) -> None:
        content_frames(7, body, mode=2, message_id="m", correlation_id=correlation_id, largest=1000)
        self.receipts.append(receipt)
        self.correlation_ids.append(correlation_id)


def publisher_on(session: FakeSession, wire: FakeWire, *, window: int = 256) -> Publisher:
    publisher = Publisher(Names("n"), replace(DEFAULT_SETTINGS, publish_deadline=DEADLINE, publish_window=window))
    parts: Any = (session, wire)
    publisher._lane = PublishLane(*parts)
    return publisher


async def publish(publisher: Publisher, correlation_id: str = "ä" * 300) -> PublishOutcome:
    link: Any = FakeLink()
    (outcome,) = await publisher.publish([Message(queue="a", body=b"{}", correlation_id=correlation_id)], link)
    return outcome


@pytest.mark.pitfall(11)
def test_the_time_in_which_the_broker_blocks_a_connection_is_no_time_without_confirms() -> None:
    async def story() -> None:
        session, wire = FakeSession(), FakeWire()
        publisher = publisher_on(session, wire)
        publishing = asyncio.ensure_future(publish(publisher))
        await asyncio.sleep(0)
        session.blocked = True
        assert await publishing is PublishOutcome.UNKNOWN  # its own time is over all the same
        await asyncio.sleep(60)
        session.unblock()
        await asyncio.sleep(DEADLINE - 1)
        assert session.aborted == []
        await asyncio.sleep(2)
        assert set(session.aborted) == {"publishes are not confirmed"}
        await publisher.drop_rest()

    virtual_time.run(story())


def test_a_message_goes_out_at_once_and_nobody_who_gives_up_waiting_takes_it_back() -> None:
    async def story() -> None:
        session, wire = FakeSession(), FakeWire()
        publisher = publisher_on(session, wire)
        tasks_before = asyncio.all_tasks()
        publishing, other = asyncio.ensure_future(publish(publisher)), asyncio.ensure_future(publish(publisher))
        await asyncio.sleep(0)
        assert len(wire.receipts) == 2
        new = asyncio.all_tasks() - tasks_before - {publishing, other}
        assert len(new) == 1  # the watchdog: none for the messages
        publishing.cancel()
        await asyncio.sleep(1)
        wire.receipts[0].answered(Answer.LOST, None)
        await asyncio.sleep(1)
        assert len(wire.receipts) == 3  # published again
        wire.receipts[1].answered(Answer.TAKEN, None)
        assert (publishing.cancelled(), await other) == (True, PublishOutcome.CONFIRMED)
        await publisher.drop_rest()

    virtual_time.run(story())


@pytest.mark.pitfall(11)
def test_whoever_waits_for_room_behind_a_blocked_connection_waits_no_longer_than_others() -> None:
    async def story() -> None:
        session, wire = FakeSession(), FakeWire()
        publisher = publisher_on(session, wire, window=2)
        sent = [asyncio.ensure_future(publish(publisher)) for _ in range(2)]
        await asyncio.sleep(0)
        session.blocked = True
        waiting = [asyncio.ensure_future(publish(publisher)) for _ in range(2)]
        await asyncio.sleep(DEADLINE - 1)
        assert not any(each.done() for each in (*sent, *waiting))
        await asyncio.sleep(2)
        assert [each.result() for each in (*sent, *waiting)] == [PublishOutcome.UNKNOWN] * 4
        assert len(wire.receipts) == 2
        session.unblock()
        for receipt in tuple(wire.receipts):
            receipt.answered(Answer.TAKEN, None)
        late = asyncio.ensure_future(publish(publisher))
        await asyncio.sleep(0)
        wire.receipts[2].answered(Answer.TAKEN, None)
        assert await late is PublishOutcome.CONFIRMED
        await publisher.drop_rest()

    virtual_time.run(story())


def test_a_batch_that_waits_for_room_goes_on_waiting_while_confirms_come() -> None:
    async def story() -> None:
        session, wire = FakeSession(), FakeWire()
        publisher = publisher_on(session, wire, window=1)
        link: Any = FakeLink()
        publishing = asyncio.ensure_future(publisher.publish([Message(queue="a", body=b"{}")] * 4, link))
        for number in range(4):
            await asyncio.sleep(DEADLINE - 1)
            wire.receipts[number].answered(Answer.TAKEN, None)
        assert await publishing == [PublishOutcome.CONFIRMED] * 4
        await publisher.drop_rest()

    virtual_time.run(story())


def test_whoever_waits_for_room_while_all_is_closed_is_told_and_not_cancelled() -> None:
    async def story() -> None:
        session, wire = FakeSession(), FakeWire()
        publisher = publisher_on(session, wire, window=1)
        sent, waiting = (asyncio.ensure_future(publish(publisher)) for _ in range(2))
        await asyncio.sleep(0)
        session.blocked = True
        await publisher.drop_rest()
        assert (await sent, await waiting) == (PublishOutcome.UNKNOWN, PublishOutcome.UNKNOWN)

    virtual_time.run(story())


def test_an_id_that_no_property_can_say_is_said_as_well_as_it_can() -> None:
    async def story() -> None:
        wire = FakeWire()
        publisher = publisher_on(FakeSession(), wire)
        ids = ["item-1", "\ud800" * 200, "ä" * 300, "x" * 300]
        publishing = [asyncio.ensure_future(publish(publisher, each)) for each in ids]
        await asyncio.sleep(0)
        for receipt in wire.receipts:
            receipt.answered(Answer.TAKEN, None)
        assert await asyncio.gather(*publishing) == [PublishOutcome.CONFIRMED] * 4
        assert wire.correlation_ids == ["item-1", "?" * 200, "ä" * 127, "x" * 255]
        await publisher.drop_rest()

    virtual_time.run(story())
