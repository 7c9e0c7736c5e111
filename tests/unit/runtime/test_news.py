"""Telling clients that runs have ended: one message for those that end while another is on its way."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.drivers.memory.control import MemoryControlBus
from floxide_amqp.runtime.messages import (
    MAX_CONTROL_RUNS,
    ControlKind,
    ControlMessage,
    RunNews,
    decode_control,
    decode_event,
)
from floxide_amqp.runtime.news import News
from floxide_amqp.stores.session import MAX_GROUP

COMPLETED, FAILED = RunStatus.COMPLETED, RunStatus.FAILED


class SlowBus(MemoryControlBus):
    """Keeps what is announced; a message takes a second, and one for `refused` an error."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, RunNews]] = []
        self.refused = ""

    async def announce(self, routing_key: str, body: bytes) -> None:
        await asyncio.sleep(1)
        if routing_key == self.refused:
            raise ValueError(routing_key)
        self.said.append((routing_key, decode_event(body)))


def named(*numbers: int) -> tuple[RunId, ...]:
    return tuple(RunId(f"run-{number}") for number in numbers)


async def tell(news: News, *ended: tuple[str, int, RunStatus]) -> list[BaseException | None]:
    tellings = (news.tell(key, RunId(f"run-{number}"), status) for key, number, status in ended)
    return await asyncio.gather(*tellings, return_exceptions=True)


async def test_runs_that_end_together_are_told_of_together_to_each_client_and_with_their_status() -> None:
    bus = SlowBus()
    ends = [("a", 1, COMPLETED), ("b", 2, COMPLETED), ("a", 3, COMPLETED), ("a", 4, FAILED), ("b", 5, COMPLETED)]
    await tell(News(bus), *ends)
    assert bus.said == [
        ("a", RunNews(runs=named(1, 3), status=COMPLETED)),
        ("b", RunNews(runs=named(2, 5), status=COMPLETED)),
        ("a", RunNews(runs=named(4), status=FAILED)),
    ]


async def test_runs_that_end_while_a_message_is_on_its_way_go_with_the_next() -> None:
    bus = SlowBus()
    news = News(bus)
    first = asyncio.create_task(tell(news, ("a", 1, COMPLETED)))
    await asyncio.sleep(0.5)
    await asyncio.gather(*(tell(news, ("a", number, COMPLETED)) for number in (2, 3, 4)))
    await first
    assert [event.runs for _, event in bus.said] == [named(1), named(2, 3, 4)]


async def test_one_message_names_no_more_runs_than_can_be_read() -> None:
    bus = SlowBus()
    count = 2 * MAX_GROUP + 1
    await tell(News(bus), *(("a", number, COMPLETED) for number in range(count)))
    assert [len(event.runs) for _, event in bus.said] == [MAX_GROUP, MAX_GROUP, 1]
    assert MAX_GROUP < MAX_CONTROL_RUNS


async def test_a_client_that_cannot_be_told_keeps_no_other_from_being_told() -> None:
    bus = SlowBus()
    bus.refused = "a"
    results = await tell(News(bus), ("a", 1, COMPLETED), ("b", 2, COMPLETED), ("a", 3, COMPLETED))
    assert [type(result) for result in results] == [ValueError, type(None), ValueError]
    assert bus.said == [("b", RunNews(runs=named(2), status=COMPLETED))]


async def test_who_stops_waiting_takes_nothing_from_the_others() -> None:
    bus = SlowBus()
    news = News(bus)
    impatient, patient = (asyncio.create_task(tell(news, ("a", number, COMPLETED))) for number in (1, 2))
    await asyncio.sleep(0.5)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert await patient == [None]
    assert bus.said == [("a", RunNews(runs=named(1, 2), status=COMPLETED))]


async def test_starts_of_a_workflow_that_come_together_are_one_message_to_all_workers() -> None:
    bus = MemoryControlBus()
    news = News(bus)
    async with bus.listen("w1") as hints:
        await asyncio.gather(
            news.tell_started("Orders", "1", named(1)),
            news.tell_started("Orders", "2", named(2)),
            news.tell_started("Orders", "1", named(3, 4)),
        )
        heard = [decode_control(await anext(hints)) for _ in range(2)]
    assert heard == [
        ControlMessage(kind=ControlKind.START, workflow="Orders", version="1", runs=named(1, 3, 4)),
        ControlMessage(kind=ControlKind.START, workflow="Orders", version="2", runs=named(2)),
    ]


async def test_more_runs_than_a_start_message_may_name_go_in_several() -> None:
    bus = MemoryControlBus()
    async with bus.listen("w1") as hints:
        await News(bus).tell_started("Orders", "1", named(*range(MAX_GROUP + 1)))
        heard = [decode_control(await anext(hints)) for _ in range(2)]
    assert [len(message.runs) for message in heard] == [MAX_GROUP, 1]


async def test_a_start_that_nobody_could_be_told_of_is_noted_by_whoever_waits_for_it_or_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class BrokenBus(MemoryControlBus):
        async def broadcast(self, body: bytes) -> None:
            if decode_control(body).workflow == "Orders":
                raise ValueError("no bus")
            await super().broadcast(body)

    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    bus = BrokenBus()
    news = News(bus)
    async with bus.listen("w1") as hints:
        news.tell_started("Orders", "1", named(1))
        await news.tell_started("Orders", "1", named(2))
        await news.tell_started("Parcels", "1", named(3))
        assert decode_control(await anext(hints)).runs == named(3)
    gc.collect()  # a future whose exception nobody took complains when it goes
    assert problems == []
    assert "control.start_untold" in caplog.text
    assert "no bus" in caplog.text
