"""What the log says of a broker that cannot be used: each change once, and a reminder now and then."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import aiormq
import pytest

from floxide_amqp.drivers.amqp.complaints import REMIND_SECONDS, Complaints
from floxide_amqp.drivers.amqp.dead_letters import AmqpDeadLetterReader, LetterLane
from floxide_amqp.drivers.amqp.session import Session


def test_the_same_problem_is_a_complaint_once_and_then_a_slow_reminder() -> None:
    complaints = Complaints()
    told = [second for second in range(2 * int(REMIND_SECONDS) + 2) if complaints.are_due("refused", float(second))]
    assert told == [0, int(REMIND_SECONDS), 2 * int(REMIND_SECONDS)]


def test_another_problem_is_a_complaint_at_once_and_so_is_the_first_after_it_worked() -> None:
    complaints = Complaints()
    assert complaints.are_due("refused", 0.0)
    assert complaints.are_due("unreachable", 1.0)
    assert complaints.are_due("refused", 2.0)
    assert not complaints.are_due("refused", 3.0)
    complaints.settle()
    assert complaints.are_due("refused", 4.0)


def test_it_says_how_often_it_kept_quiet() -> None:
    complaints = Complaints()
    for second in range(5):
        complaints.are_due("refused", float(second))
    assert complaints.attempts == 5
    complaints.settle()
    assert complaints.attempts == 0


class _Channel:
    """As much of a channel as a lane needs before it subscribes."""

    def __init__(self) -> None:
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_consumer_cancel_callbacks: set[object] = set()


class _Wire:
    def stop_writing(self) -> None: ...


class _Session:
    is_usable = True

    def wire(self, channel: object) -> _Wire:
        return _Wire()

    async def close_channel(self, channel: Any) -> None:
        """The broker confirms: that is how aiormq tells a close of our own."""
        channel.closing.set_exception(aiormq.exceptions.ChannelClosed(None, None))
        await asyncio.sleep(0)


class _Reader:
    def forget(self, lane: object) -> None: ...


def lane_on(channel: _Channel) -> LetterLane:
    return LetterLane(
        cast("AmqpDeadLetterReader", _Reader()), cast("Session", _Session()), cast("aiormq.Channel", channel)
    )


async def test_a_channel_that_this_process_closes_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "floxide_amqp"):
        lane = lane_on(_Channel())
        await lane.close()
        assert lane.closed.done()
    assert caplog.text == ""


async def test_a_channel_that_the_broker_closes_is_a_warning_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    channel = _Channel()
    with caplog.at_level(logging.WARNING, "floxide_amqp"):
        lane = lane_on(channel)
        channel.closing.set_exception(aiormq.exceptions.ChannelClosed(404, "NOT_FOUND"))
        await lane.closed
    assert "broker.channel_closed" in caplog.text
    assert "NOT_FOUND" in caplog.text
