"""Rate limits where the store is slow or its records are damaged: bodies start all the same, and nothing is held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from floxide_amqp import Compensation, Concurrency, Limits, NextAll, RateLimit, RunStatus, Workflow, gather, node
from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.rate_lines import Wish
from floxide_amqp.core.rates import AHEAD_US, Rate
from floxide_amqp.core.transition import Next, Transition
from floxide_amqp.ports.key_value import Batch
from floxide_amqp.runtime.interceptors import Interceptor, StepCall
from floxide_amqp.stores.rate_keys import rate_cell, rate_place
from tests.unit.runtime.cluster import Cluster, Member

MakeCluster = Callable[..., Cluster]

STARTS: list[float] = []
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def starts() -> None:
    STARTS.clear()


def started() -> None:
    STARTS.append(asyncio.get_running_loop().time())


def most_within(seconds: float) -> int:
    times = sorted(STARTS)
    return max((sum(1 for at in times if first <= at < first + seconds) for first in times), default=0)


def slow_down(member: Member, seconds: float) -> None:
    """Let each commit of a worker take so long."""

    async def wait(batches: Sequence[Batch]) -> None:
        await asyncio.sleep(seconds)

    member.store.before_commit = wait


@node(rate=RateLimit("quick", 100, per=timedelta(seconds=1)))
async def quick(text: str) -> str:
    started()
    return text


@node(rate=RateLimit("quick-in-short-time", 50, per=0.1))
async def quick_in_short_time(text: str) -> str:
    started()
    return text


class Quick(Workflow[str, str]):
    start = quick


class QuickInShortTime(Workflow[str, str]):
    start = quick_in_short_time


@pytest.mark.parametrize(("workflow", "seconds"), [(Quick, 0.03), (Quick, 3.0), (QuickInShortTime, 0.006)])
async def test_a_body_starts_though_commits_take_longer_than_it_may_be_late(
    cluster: MakeCluster, workflow: Any, seconds: float
) -> None:
    here = cluster(workflow)
    slow_down(await here.start_worker(), seconds)
    run = await here.client().start(workflow, "a", run_id="r")
    assert await run.result(timeout=60) == "a"
    assert len(STARTS) == 1


@node
async def split(texts: list[str]) -> NextAll[str]:
    return NextAll(texts)


@node
async def count(done: list[str]) -> int:
    return len(done)


@node(rate=RateLimit("thousand", 1000, per=timedelta(seconds=1)))
async def thousandth(text: str) -> str:
    started()
    return text


class Thousand(Workflow[list[str], int]):
    start = split
    edges = (split >> thousandth >> gather(count),)


async def test_many_bodies_of_a_high_rate_start_within_it_though_commits_take_long(cluster: MakeCluster) -> None:
    here = cluster(Thousand, limits=Limits(concurrency=100))
    slow_down(await here.start_worker(), 0.08)
    run = await here.client().start(Thousand, [str(n) for n in range(50)], run_id="r")
    assert await run.result(timeout=60) == 50
    assert most_within(0.05) <= 50


@node(rate=RateLimit("hourly", 1, per=HOUR))
async def hourly(text: str) -> str:
    started()
    return text


class Hourly(Workflow[str, str]):
    start = hourly


async def test_an_instant_of_an_idle_key_that_is_missed_costs_no_interval(cluster: MakeCluster) -> None:
    here = cluster(Hourly)
    slow_down(await here.start_worker(), 0.03)
    run = await here.client().start(Hourly, "a", run_id="r")
    assert await run.result(timeout=60) == "a"


KEY = Concurrency("account", limit=1)


@node
async def undo(done: Compensation[str, str]) -> None:
    raise AssertionError("nothing has begun")


@node(rate=RateLimit("taken", 1, per=20), concurrency=KEY, compensation=undo)
async def taken(text: str) -> str:
    started()
    return text


@node(rate=RateLimit("taken", 1, per=20), concurrency=KEY, at_most_once=True)
async def taken_once(text: str) -> str:
    started()
    return text


@node(rate=RateLimit("taken", 1, per=20))
def taken_in_thread(text: str) -> str:
    STARTS.append(0.0)
    return text


class Taken(Workflow[str, str]):
    start = taken


class TakenOnce(Workflow[str, str]):
    start = taken_once


class TakenInThread(Workflow[str, str]):
    start = taken_in_thread


class Behind:
    """Lets somebody else have the instant behind the first one that is asked for, and so long pass that it is late."""

    def __init__(self, pace: Any) -> None:
        self._pace = pace
        self._ask = pace.ask
        pace.ask = self.ask

    async def ask(self, rate_id: str, *arguments: Any) -> Any:
        instant = await self._ask(rate_id, *arguments)
        self._pace.ask = self._ask
        assert (await self._ask(rate_id, Rate(1, 20_000), Wish(60 * AHEAD_US))).is_start
        await asyncio.sleep(0.03)
        return instant


@pytest.mark.parametrize("workflow", [Taken, TakenOnce, TakenInThread])
async def test_a_step_that_missed_its_instant_waits_for_a_far_one_in_the_store(
    cluster: MakeCluster, workflow: Any
) -> None:
    here = cluster(workflow)
    member = await here.start_worker()
    Behind(member.services.pace)
    client = here.client()
    run = await client.start(workflow, "a", run_id="r")
    async with asyncio.timeout(30):
        while not (waits := (await client.run_info("r")).waits):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.05)
    assert waits[0].what.startswith("rate limit 'taken/' of node")
    assert len(member.services.inflight) == 0
    async with asyncio.timeout(60):
        while (await client.services.limit_keys.find("account/")).state.holders:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)
    assert await run.result(timeout=300) == "a"
    assert len(STARTS) == 1
    await here.check_completed("r")


async def test_a_step_whose_body_has_not_begun_after_all_is_not_undone(cluster: MakeCluster) -> None:
    here = cluster(Taken)
    Behind((await here.start_worker()).services.pace)
    client = here.client()
    await client.start(Taken, "a", run_id="r")
    async with asyncio.timeout(30):
        while not (await client.run_info("r")).waits:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.05)
    await client.cancel("r")
    async with asyncio.timeout(60):
        while (await client.run_info("r")).status is not RunStatus.CANCELLED:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)
    assert [each.node for each in await client.work_items("r", limit=10)] == ["taken"]
    assert not await here.settle()


class Slow(Interceptor):
    """Takes longer before a body than that may be late for its instant, and makes up what a body returns that fails."""

    async def step(self, call: StepCall, proceed: Callable[[], Awaitable[Transition[Any]]]) -> Transition[Any]:
        if not self.is_over:
            self.is_over = True
            assert (await self.member.services.pace.ask("taken/", Rate(1, 20_000), Wish(60 * AHEAD_US))).is_start
            await asyncio.sleep(0.03)
        try:
            return await proceed()
        except Exception:  # noqa: BLE001 - as users' interceptors do
            return Next("made up")

    member: Member
    is_over = False


async def test_an_interceptor_that_is_slow_before_a_body_makes_nothing_of_it(cluster: MakeCluster) -> None:
    slow = Slow()
    here = cluster(Taken, interceptors=[slow])
    slow.member = await here.start_worker()
    client = here.client()
    run = await client.start(Taken, "a", run_id="r")
    async with asyncio.timeout(30):
        while not (await client.run_info("r")).waits:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.05)
    assert await run.result(timeout=300) == "a"
    assert len(STARTS) == 1


async def test_a_step_heeds_a_cancel_while_it_waits_for_an_instant(cluster: MakeCluster) -> None:
    here = cluster(Quick)
    member = await here.start_worker()
    asked = asyncio.Event()
    pace: Any = member.services.pace
    ask = pace.ask

    async def never(*arguments: Any) -> Any:
        asked.set()
        await asyncio.Event().wait()

    async def late(*arguments: Any) -> Any:
        instant = await ask(*arguments)
        pace.ask = never
        await asyncio.sleep(0.03)
        return instant

    pace.ask = late
    client = here.client()
    await client.start(Quick, "a", run_id="r")
    await asyncio.wait_for(asked.wait(), 30)
    await client.cancel("r")
    async with asyncio.timeout(60):
        while len(member.services.inflight):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)
    assert (await client.services.runs.load(RunId("r"))).state.status is RunStatus.CANCELLED
    assert not STARTS


async def test_a_damaged_record_of_a_rate_begins_anew(cluster: MakeCluster) -> None:
    here = cluster(Quick)
    await here.start_worker()
    client = here.client()
    assert await (await client.start(Quick, "a")).result(timeout=60) == "a"
    place = rate_place("quick/")
    cells = here.store._slots[slot_of(place)].cells
    cells[rate_cell(place)] = cells[rate_cell(place)]._replace(value=b"damaged")
    runs = [await client.start(Quick, f"b{number}") for number in range(3)]
    assert [await run.result(timeout=60) for run in runs] == ["b0", "b1", "b2"]
    assert [each.name for each in await client.limits.rates()] == ["quick"]
    async with asyncio.timeout(600):
        while here.store.leftovers("rates"):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(1)


async def test_a_key_out_of_reach_is_asked_again_after_some_seconds_whatever_its_server_s_clock(
    cluster: MakeCluster,
) -> None:
    here = cluster(Quick)
    services: Any = (await here.start_worker()).services
    now_ms, away = services.now_ms, [True]
    services.is_out_of_reach = lambda place: away[0] and place.startswith(" rate:")
    services.now_ms = lambda place=None: (
        now_ms() + (3_600_000 if place is not None and place.startswith(" rate:") else 0)
    )
    client = here.client()
    run = await client.start(Quick, "a", run_id="r")
    async with asyncio.timeout(30):
        while not (waits := (await client.run_info("r")).waits):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.05)
    assert waits[0].since is not None
    assert waits[0].until is not None
    assert timedelta(seconds=4) < waits[0].until - waits[0].since < timedelta(seconds=6)
    away[0] = False
    assert await run.result(timeout=60) == "a"
