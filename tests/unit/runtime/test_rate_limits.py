"""Rate limits at work: no window has more starts than the limit, and who waits does so in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from floxide_amqp import (
    Compensation,
    Concurrency,
    DefinitionError,
    Hold,
    Limits,
    NextAll,
    RateLimit,
    RetryPolicy,
    RunFailedError,
    RunStatus,
    Signal,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.rate_lines import Instant, RateState, Wish
from floxide_amqp.core.rates import Rate
from floxide_amqp.runtime.pace import Pace, ServerTime, Start
from floxide_amqp.stores.rate_keys import copy_rate, decode_rate, encode_rate, rate_place
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]

STARTS: list[tuple[float, str]] = []


@pytest.fixture(autouse=True)
def starts() -> None:
    STARTS.clear()


def most_within(seconds: float, word: str = "") -> int:
    """The most starts in any window of so many seconds."""
    times = sorted(at for at, what in STARTS if what.startswith(word))
    return max((sum(1 for at in times if first <= at < first + seconds) for first in times), default=0)


MAIL = RateLimit("mail-api", 10, per=timedelta(seconds=1))


@node(rate=MAIL)
async def send(text: str) -> str:
    STARTS.append((asyncio.get_running_loop().time(), text))
    return text.upper()


@node
async def split(texts: list[str]) -> NextAll[str]:
    return NextAll(texts)


@node
async def count(done: list[str]) -> int:
    return len(done)


class Sending(Workflow[list[str], int]):
    start = split
    edges = (split >> send >> gather(count),)


async def test_no_window_has_more_starts_than_the_limit_over_all_workers(cluster: MakeCluster) -> None:
    here = cluster(Sending, limits=Limits(concurrency=20))
    for _ in range(3):
        await here.start_worker()
    loop = asyncio.get_running_loop()
    began = loop.time()
    run = await here.client().start(Sending, [f"m{number}" for number in range(80)], run_id="r")
    assert await run.result(timeout=300) == 80
    assert len(STARTS) == 80
    assert most_within(1.0) <= 10
    assert loop.time() - began < 80 / 10 * 1.05 + 3  # it is nearly as fast as it may be
    await here.check_completed("r")


async def test_the_wait_for_an_instant_is_no_time_of_the_body(cluster: MakeCluster) -> None:
    here = cluster(Sending)
    await here.start_worker()
    run = await here.client().start(Sending, [f"m{number}" for number in range(5)], run_id="r")
    assert await run.result(timeout=60) == 5
    assert max(at for at, _ in STARTS) - min(at for at, _ in STARTS) > 0.2  # they waited, some of them in their worker
    assert (await here.client().query(Sending, "r")).metrics.busy_time == timedelta(0)  # and took no time themselves


async def test_who_waits_is_shown_and_holds_no_message(cluster: MakeCluster) -> None:
    here = cluster(Sending)
    await here.start_worker()
    client = here.client()
    run = await client.start(Sending, [f"m{number}" for number in range(40)], run_id="r")
    async with asyncio.timeout(30):
        while not (waits := (await client.run_info("r")).waits):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.05)
    assert waits[0].what.startswith("rate limit 'mail-api/' of node 'send', until ")
    assert waits[0].until is not None
    assert await run.result(timeout=60) == 40
    await here.check_completed("r")


ODD = RateLimit("odd", 1, per=0.5, key=lambda text: text if text.startswith("k") else None)


@node(rate=ODD)
def in_thread(text: str) -> str:
    STARTS.append((0, text))
    return text


class Threads(Workflow[list[str], int]):
    start = split
    edges = (split >> in_thread >> gather(count),)


async def test_each_key_has_a_rate_of_its_own_and_none_has_none(cluster: MakeCluster) -> None:
    here = cluster(Threads)
    await here.start_worker()
    client = here.client()
    run = await client.start(Threads, ["k1", "k1", "k2", "free", "free", "free"])
    assert await run.result(timeout=60) == 6
    assert sorted(await client.services.rate_keys.ids()) == ["odd/k1", "odd/k2"]


@node(rate=RateLimit("odd", 1, per=1, key=lambda text: text[9]))
async def broken(text: str) -> str:
    return text


class Broken(Workflow[str, str]):
    start = broken


async def test_a_key_that_cannot_be_told_fails_the_step(cluster: MakeCluster) -> None:
    here = cluster(Broken)
    await here.start_worker()
    run = await here.client().start(Broken, "x")
    with pytest.raises(RunFailedError, match="string index out of range"):
        await run.result(timeout=60)


SLOW = RateLimit("slow", 1, per=10)
GATE = Concurrency("gate", limit=1)


@node(rate=SLOW, concurrency=GATE)
async def both(text: str) -> str:
    STARTS.append((asyncio.get_running_loop().time(), text))
    return text


class Both(Workflow[list[str], int]):
    start = split
    edges = (split >> both >> gather(count),)


async def test_a_step_that_waits_for_its_rate_gives_its_concurrency_key_back(cluster: MakeCluster) -> None:
    here = cluster(Both)
    await here.start_worker()
    client = here.client()
    run = await client.start(Both, list("abcd"), run_id="r")
    assert await run.result(timeout=300) == 4
    assert most_within(10.0) == 1
    async with asyncio.timeout(60):
        while (await client.services.limit_keys.find("gate/")).state.holders:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)


@node
async def undo(done: Compensation[str, str]) -> None:
    STARTS.append((0.0, "undone"))


@node(rate=SLOW, compensation=undo)
async def undoable(text: str) -> str:
    STARTS.append((1.0, text))
    return text


class Undoable(Workflow[str, str]):
    start = undoable


@node(rate=SLOW, at_most_once=True)
async def once(text: str) -> str:
    STARTS.append((asyncio.get_running_loop().time(), text))
    return text


class Once(Workflow[list[str], int]):
    start = split
    edges = (split >> once >> gather(count),)


async def test_a_step_that_only_waited_for_its_rate_is_not_undone(cluster: MakeCluster) -> None:
    here = cluster(Undoable)
    await here.start_worker()
    client = here.client()
    assert await (await client.start(Undoable, "first")).result(timeout=60) == "first"
    await client.start(Undoable, "second", run_id="second")
    async with asyncio.timeout(30):
        while not (await client.run_info("second")).waits:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.05)
    await client.cancel("second")
    async with asyncio.timeout(60):
        while (await client.run_info("second")).status is not RunStatus.CANCELLED:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)
    assert [what for _, what in STARTS] == ["first"]


async def test_a_step_that_runs_at_most_once_may_wait_for_its_rate(cluster: MakeCluster) -> None:
    here = cluster(Once)
    await here.start_worker()
    run = await here.client().start(Once, list("abc"), run_id="r")
    assert await run.result(timeout=300) == 3
    assert most_within(10.0) == 1
    await here.check_completed("r")


async def test_a_run_that_waits_for_its_rate_is_paused_and_goes_on(cluster: MakeCluster) -> None:
    here = cluster(Once)
    await here.start_worker()
    client = here.client()
    run = await client.start(Once, list("abc"), run_id="r")
    async with asyncio.timeout(30):
        while not (await client.run_info("r")).waits:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.05)
    await client.pause("r")
    await asyncio.sleep(100)
    assert len(STARTS) == 1
    await client.resume("r")
    assert await run.result(timeout=300) == 3
    assert most_within(10.0) == 1


FLAKY = RateLimit("flaky", 1, per=5)


@node(rate=FLAKY, retry=RetryPolicy(max_attempts=3, initial_backoff=0))
async def flaky(ctx: WorkflowCtx[Any], text: str) -> str:
    STARTS.append((asyncio.get_running_loop().time(), text))
    if ctx.attempt < 3:
        raise ValueError("not yet")
    return text


class Flaky(Workflow[str, str]):
    start = flaky


async def test_each_try_of_a_step_counts(cluster: MakeCluster) -> None:
    here = cluster(Flaky)
    await here.start_worker()
    assert await (await here.client().start(Flaky, "x")).result(timeout=60) == "x"
    assert len(STARTS) == 3
    assert most_within(5.0) == 1


GO = Signal("go", str)


@node(rate=RateLimit("asks", 1, per=5))
async def asks(ctx: WorkflowCtx[Any], text: str) -> str | Hold:
    STARTS.append((asyncio.get_running_loop().time(), text))
    if ctx.timed_out:
        return f"{text}: nothing came"
    return Hold(until=GO, timeout=timedelta(seconds=1))


class Asks(Workflow[str, str]):
    start = asks


async def test_a_step_whose_hold_timed_out_knows_it_still_when_it_has_waited_for_its_rate(cluster: MakeCluster) -> None:
    here = cluster(Asks)
    await here.start_worker()
    assert await (await here.client().start(Asks, "x")).result(timeout=60) == "x: nothing came"
    assert most_within(5.0) == 1


async def test_the_record_of_a_rate_goes_when_its_instants_are_past(cluster: MakeCluster) -> None:
    here = cluster(Sending)
    await here.start_worker()
    client = here.client()
    assert await (await client.start(Sending, ["a"])).result(timeout=60) == 1
    assert await client.services.rate_keys.ids() == ["mail-api/"]
    async with asyncio.timeout(300):
        while here.store.leftovers("rates"):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(1)
    assert not await here.settle()
    assert await (await client.start(Sending, ["a"])).result(timeout=60) == 1


async def test_a_rate_is_copied_whole_to_another_server(cluster: MakeCluster) -> None:
    here, there = cluster(Sending), cluster(Sending)
    client = here.client()
    await client.services.rate_keys.reserve("mail-api/", MAIL.rate, [Wish(0)], lambda: 10**15)
    await client.services.rate_keys.set("mail-api/", Rate(7, 1000))
    target = there.client().services
    await copy_rate(client.services.session, target.session, rate_place("mail-api/"))
    assert (await target.rate_keys.find("mail-api/")).state == (await client.services.rate_keys.find("mail-api/")).state
    assert await target.rate_keys.ids() == ["mail-api/"]


def test_the_fastest_replies_tell_the_time_of_a_server() -> None:
    time = ServerTime()
    assert time.now_us(1_000_000, 0) == 1_000_000
    assert time.now_us(1_400_000, 500_000) == 1_500_000  # a reply that was long under way
    assert time.now_us(2_000_100, 1_000_000) == 2_000_100
    assert time.now_us(0, 100_000_000) == 101_000_100
    assert time.now_us(0, 200_000_000) == 100_000_000  # the server's clock was set back


def test_a_rate_is_stored_as_it_is() -> None:
    state = RateState(
        declared=Rate(5, 1000, 2), override=Rate(6, 100), next_us=10**15, line_us=10**15 + 1, look_ms=9,
        again_us=10**15 + 2,
    )  # fmt: skip
    assert decode_rate(encode_rate(state)) == state


def instant_now(pace: Pace) -> Instant:
    return Instant(pace.now_us("mail-api/"), is_start=True, reserve_us=MAIL.rate.reserve_us)


async def test_a_body_that_is_late_for_its_instant_gets_another_one(cluster: MakeCluster) -> None:
    """An instant is for one body, and for a short time."""
    here = cluster(Sending)
    services = here.client().services
    start = Start(services.pace, "mail-api/", MAIL.rate, instant_now(services.pace))
    await asyncio.sleep(0.02)
    assert start.take()
    assert not start.take()
    await start.wait()
    assert start.take()
    again = Start(services.pace, "mail-api/", MAIL.rate, instant_now(services.pace))
    await asyncio.sleep(0.03)
    assert not again.take()


async def test_the_instants_that_many_steps_ask_for_at_once_cost_few_commits(cluster: MakeCluster) -> None:
    here = cluster(Sending)
    services = here.client().services
    await services.pace.ask("x/", Rate(1000, 1000), Wish(10**6))
    before = (await services.rate_keys.find("x/")).version
    answers = await asyncio.gather(*(services.pace.ask("x/", Rate(1000, 1000), Wish(10**6)) for _ in range(100)))
    assert len({each.at_us for each in answers}) == 100
    assert (await services.rate_keys.find("x/")).version - before <= 2


async def test_a_step_of_a_run_that_is_gone_meanwhile_takes_no_instant(cluster: MakeCluster) -> None:
    here = cluster(Once)
    await here.start_worker()
    client = here.client()
    await client.start(Once, list("abc"), run_id="r")
    async with asyncio.timeout(30):
        while not (await client.run_info("r")).waits:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.05)
    await client.cancel("r")
    await asyncio.sleep(100)
    assert len(STARTS) == 1
    assert (await client.services.runs.load(RunId("r"))).state.status is RunStatus.CANCELLED
    assert not await here.settle()


async def test_another_limit_keeps_its_time_and_its_burst(cluster: MakeCluster) -> None:
    client = cluster(Sending).client()
    await client.services.rate_keys.reserve("hourly/", Rate(100, 3_600_000, 5), [Wish(0)], lambda: 10**15)
    info = await client.limits.set_rate("hourly", limit=50)
    assert (info.limit, info.per, info.burst) == (50, timedelta(hours=1), 5)
    info = await client.limits.set_rate("hourly", limit=50, per=60)
    assert (info.per, info.burst) == (timedelta(minutes=1), 5)
    info = await client.limits.set_rate("hourly", limit=50, burst=0)
    assert (info.per, info.burst) == (timedelta(minutes=1), 0)
    assert (await client.limits.set_rate("mail-api", limit=5)).per == timedelta(seconds=1)  # as the code says
    with pytest.raises(DefinitionError, match="Say per="):
        await client.limits.set_rate("of-nobody", limit=50)
