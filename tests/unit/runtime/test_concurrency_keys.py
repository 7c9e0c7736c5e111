"""Concurrency keys at work: never too many at once, each in its turn, and given back however a step or a run ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from floxide_amqp import (
    Abort,
    Compensation,
    Concurrency,
    DefinitionError,
    Hold,
    Limits,
    Next,
    NextAll,
    RetryPolicy,
    RunCancelledError,
    RunFailedError,
    RunStatus,
    RunTimeoutError,
    Signal,
    Workflow,
    WorkflowCtx,
    WorkItemStatus,
    gather,
    node,
)
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.limit_moves import place_of
from floxide_amqp.core.limits import LimitState, Ticket
from floxide_amqp.exceptions import CodecError
from floxide_amqp.stores.limit_keys import copy_limit, decode_limit, encode_limit, queue_entry, ticket_in
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]


class Gauge:
    """Counts who is at work, outside the engine."""

    now: Counter[str]
    most: Counter[str]
    order: list[str]
    gate: asyncio.Event

    @classmethod
    def reset(cls) -> None:
        cls.now, cls.most, cls.order, cls.gate = Counter(), Counter(), [], asyncio.Event()


@pytest.fixture(autouse=True)
def gauge() -> None:
    Gauge.reset()


def account(order: str) -> str | None:
    """What is before the dash; none for what has none."""
    head, dash, _ = order.partition("-")
    return head if dash else None


PER_ACCOUNT = Concurrency("account", limit=2, key=account)


@node(concurrency=PER_ACCOUNT)
async def charge(ctx: WorkflowCtx[Any], order: str) -> str:
    """Be at work for a while."""
    key = account(order) or ""
    Gauge.now[key] += 1
    Gauge.most[key] = max(Gauge.most[key], Gauge.now[key])
    Gauge.order.append(order)
    try:
        await ctx.sleep(0.5)
    finally:
        Gauge.now[key] -= 1
    return order.upper()


class Charging(Workflow[str, str]):
    start = charge


@node
async def split(orders: list[str]) -> NextAll[str]:
    return NextAll(orders)


@node
async def count(done: list[str]) -> int:
    return len(done)


class ChargingAll(Workflow[list[str], int]):
    start = split
    edges = (split >> charge >> gather(count),)


GATE = Concurrency("gate", limit=1)


@node(concurrency=GATE, timeout=timedelta(minutes=5))
async def enter(ctx: WorkflowCtx[Any], name: str) -> str:
    """Be at work until the gate opens."""
    Gauge.order.append(name)
    await Gauge.gate.wait()
    return name


class Entering(Workflow[str, str]):
    start = enter


async def state_of(here: Cluster, limit_id: str) -> tuple[LimitState, int]:
    found = await here.client().services.limit_keys.find(limit_id)
    return found.state, len(found.waiting)


async def all_given_back(here: Cluster, *limit_ids: str) -> None:
    """Wait until nobody holds these keys or waits for them."""
    for limit_id in limit_ids:
        async with asyncio.timeout(60):
            while (found := await state_of(here, limit_id))[0].holders or found[1]:  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(0.1)
    async with asyncio.timeout(60):
        while here.store.leftovers("letters", "in: limit"):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)


async def until(here: Cluster, limit_id: str, *, holders: int, waiting: int) -> None:
    async with asyncio.timeout(60):
        while True:
            state, wait = await state_of(here, limit_id)
            if (len(state.holders), wait) == (holders, waiting):
                return
            await asyncio.sleep(0.1)


async def test_never_more_steps_of_a_key_are_at_work_than_its_limit_says(cluster: MakeCluster) -> None:
    here = cluster(ChargingAll)
    for _ in range(3):
        await here.start_worker()
    orders = [f"{name}-{number}" for number in range(10) for name in ("a", "b")]
    client = here.client()
    run = await client.start(ChargingAll, orders, run_id="r")
    assert await run.result(timeout=120) == 20
    assert Gauge.most == {"a": 2, "b": 2}
    await here.check_completed("r")
    await all_given_back(here, "account/a", "account/b")


async def test_a_step_whose_key_is_none_needs_none(cluster: MakeCluster) -> None:
    here = cluster(ChargingAll)
    await here.start_worker()
    client = here.client()
    run = await client.start(ChargingAll, ["x", "y", "z"], run_id="r")
    assert await run.result(timeout=60) == 3
    assert await client.services.limit_keys.ids() == []
    assert Gauge.most[""] == 3


async def test_those_who_wait_are_shown_and_come_in_their_order(cluster: MakeCluster) -> None:
    here = cluster(Entering)
    await here.start_worker()
    client = here.client()
    runs = []
    for number in range(4):
        runs.append(await client.start(Entering, f"n{number}", run_id=f"r{number}"))
        await until(here, "gate/", holders=1, waiting=number)
    info = await client.run_info("r2")
    assert info.status is RunStatus.WAITING
    (wait,) = info.waits
    assert wait.what == "concurrency key 'gate/' of node 'enter'"
    assert wait.since is not None
    Gauge.gate.set()
    for run in runs:
        await run.result(timeout=60)
    assert Gauge.order == ["n0", "n1", "n2", "n3"]
    await all_given_back(here, "gate/")


@pytest.mark.parametrize("how", ["cancel", "terminate"])
async def test_a_run_that_is_ended_by_hand_gives_back_what_it_holds_and_what_it_waits_for(
    cluster: MakeCluster, how: str
) -> None:
    here = cluster(Entering)
    await here.start_worker()
    client = here.client()
    for number in range(3):
        await client.start(Entering, f"n{number}", run_id=f"r{number}")
        await until(here, "gate/", holders=1, waiting=number)
    await getattr(client, how)("r1")
    await until(here, "gate/", holders=1, waiting=1)
    await getattr(client, how)("r0")
    await until(here, "gate/", holders=1, waiting=0)
    state, _ = await state_of(here, "gate/")
    assert state.holders[0].run_id == "r2"
    Gauge.gate.set()
    assert await client.handle(Entering, "r2").result(timeout=60) == "n2"
    assert Gauge.order == ["n0", "n2"]
    await all_given_back(here, "gate/")


async def test_a_run_that_is_paused_lets_others_go_first_and_waits_again_when_it_goes_on(cluster: MakeCluster) -> None:
    here = cluster(Entering)
    await here.start_worker()
    client = here.client()
    for number in range(3):
        await client.start(Entering, f"n{number}", run_id=f"r{number}")
        await until(here, "gate/", holders=1, waiting=number)
    await client.pause("r1")
    await until(here, "gate/", holders=1, waiting=1)
    await client.resume("r1")
    await until(here, "gate/", holders=1, waiting=2)
    Gauge.gate.set()
    for number in range(3):
        await client.handle(Entering, f"r{number}").result(timeout=60)
    assert Gauge.order == ["n0", "n2", "n1"]
    await all_given_back(here, "gate/")


async def test_a_key_that_is_granted_while_its_run_is_paused_is_not_kept_from_others(cluster: MakeCluster) -> None:
    here = cluster(Entering)
    await here.start_worker()
    client = here.client()
    for number in range(2):
        await client.start(Entering, f"n{number}", run_id=f"r{number}")
        await until(here, "gate/", holders=1, waiting=number)
    await client.pause("r1")
    Gauge.gate.set()
    await client.handle(Entering, "r0").result(timeout=60)
    await all_given_back(here, "gate/")
    await client.resume("r1")
    assert await client.handle(Entering, "r1").result(timeout=60) == "n1"
    await all_given_back(here, "gate/")


@node(concurrency=Concurrency("flaky", limit=1), retry=RetryPolicy(max_attempts=3, initial_backoff=30.0))
async def flaky(ctx: WorkflowCtx[Any], name: str) -> str:
    """Fail at the first try."""
    Gauge.order.append(f"{name}{ctx.attempt}")
    if ctx.attempt == 1:
        raise ValueError("not yet")
    return name


class Retrying(Workflow[str, str]):
    start = flaky


async def test_a_step_that_waits_for_its_next_try_does_not_keep_the_key(cluster: MakeCluster) -> None:
    here = cluster(Retrying)
    await here.start_worker()
    client = here.client()
    runs = [await client.start(Retrying, name, run_id=name) for name in "ab"]
    for run in runs:
        await run.result(timeout=200)
    assert sorted(Gauge.order[:2]) == ["a1", "b1"]  # the second before the first is tried again
    await all_given_back(here, "flaky/")


GO = Signal("go", str)


@node(concurrency=Concurrency("holding", limit=1))
async def holding(ctx: WorkflowCtx[Any], name: str) -> str | Hold:
    """Hold once."""
    said = ctx.received(GO)
    return Hold(until=GO) if said is None else f"{name}:{said}"


class Holding(Workflow[str, str]):
    start = holding
    signals = (GO,)


async def test_a_step_that_is_held_does_not_keep_the_key_and_takes_it_again_when_it_is_woken(
    cluster: MakeCluster,
) -> None:
    here = cluster(Holding)
    await here.start_worker()
    client = here.client()
    runs = [await client.start(Holding, name, run_id=name) for name in "ab"]
    async with asyncio.timeout(60):
        for name in "ab":
            while (await client.run_info(name)).status is not RunStatus.WAITING:  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(0.1)
    await all_given_back(here, "holding/")
    for run in runs:
        await run.signal(GO, "on")
        assert await run.result(timeout=60) == f"{run.run_id}:on"
    await all_given_back(here, "holding/")


@node(concurrency=Concurrency("broken", limit=1))
async def broken(name: str) -> Next[str] | Abort:
    """Give up."""
    return Abort(ValueError(name))


class Breaking(Workflow[str, str]):
    start = broken


async def test_a_step_that_fails_its_run_gives_the_key_back(cluster: MakeCluster) -> None:
    here = cluster(Breaking)
    await here.start_worker()
    client = here.client()
    for name in "ab":
        run = await client.start(Breaking, name, run_id=name)
        with pytest.raises(RunFailedError):
            await run.result(timeout=60)
    await all_given_back(here, "broken/")


@node(concurrency=Concurrency("odd", limit=1, key=lambda name: name[9]))
async def odd(name: str) -> str:
    return name


class Odd(Workflow[str, str]):
    start = odd


async def test_a_key_that_cannot_be_told_fails_the_step_with_what_its_function_raised(cluster: MakeCluster) -> None:
    here = cluster(Odd)
    await here.start_worker()
    client = here.client()
    run = await client.start(Odd, "x", run_id="r")
    with pytest.raises(RunFailedError, match="string index out of range"):
        await run.result(timeout=60)


async def test_what_a_dead_worker_held_is_held_until_its_step_is_done_by_another(cluster: MakeCluster) -> None:
    here = cluster(Entering)
    first = await here.start_worker()
    client = here.client()
    for number in range(2):
        await client.start(Entering, f"n{number}", run_id=f"r{number}")
        await until(here, "gate/", holders=1, waiting=number)
    await first.kill()
    await here.start_worker()
    async with asyncio.timeout(120):
        while Gauge.order != ["n0", "n0"]:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.5)
    state, waiting = await state_of(here, "gate/")
    assert ([each.run_id for each in state.holders], waiting) == (["r0"], 1)
    Gauge.gate.set()
    for number in range(2):
        await client.handle(Entering, f"r{number}").result(timeout=120)
    await all_given_back(here, "gate/")


async def test_letters_that_nobody_delivered_are_delivered_by_maintenance(cluster: MakeCluster) -> None:
    here = cluster(Entering)
    member = await here.start_worker()
    member.services.on_letters = lambda letters: None
    Gauge.gate.set()
    client = here.client()
    client.services.on_letters = lambda letters: None
    runs = [await client.start(Entering, f"n{number}", run_id=f"r{number}") for number in range(3)]
    for run in runs:
        await run.result(timeout=300)
    await all_given_back(here, "gate/")


@node
async def refund(done: Compensation[str, str]) -> None:
    Gauge.order.append(f"undo {done.input}")


@node(concurrency=Concurrency("paid", limit=1), compensation=refund)
async def pay(order: str) -> str:
    Gauge.order.append(order)
    await Gauge.gate.wait()
    return order


class Paying(Workflow[str, str]):
    start = pay


async def test_a_step_that_only_waited_for_its_key_is_not_undone(cluster: MakeCluster) -> None:
    here = cluster(Paying)
    await here.start_worker()
    client = here.client()
    for number in range(2):
        await client.start(Paying, f"n{number}", run_id=f"r{number}")
        await until(here, "paid/", holders=1, waiting=number)
    await client.cancel("r1")
    await client.cancel("r0")
    for number in range(2):
        with pytest.raises(RunCancelledError):
            await client.handle(Paying, f"r{number}").result(timeout=120)
    assert Gauge.order == ["n0", "undo n0"]
    await all_given_back(here, "paid/")


@node(concurrency=Concurrency("once", limit=1), at_most_once=True)
async def once(order: str) -> str:
    Gauge.order.append(order)
    await Gauge.gate.wait()
    return order


class Once(Workflow[str, str]):
    start = once


async def test_a_step_that_runs_at_most_once_may_wait_for_its_key(cluster: MakeCluster) -> None:
    here = cluster(Once)
    await here.start_worker()
    client = here.client()
    for number in range(2):
        await client.start(Once, f"n{number}", run_id=f"r{number}")
        await until(here, "once/", holders=1, waiting=number)
    Gauge.gate.set()
    for number in range(2):
        assert await client.handle(Once, f"r{number}").result(timeout=60) == f"n{number}"
    await all_given_back(here, "once/")


async def test_a_run_that_failed_with_steps_in_line_gives_their_places_back_and_takes_them_anew_when_resumed(
    cluster: MakeCluster,
) -> None:
    here = cluster(ChargingAll, limits=Limits(concurrency=8))
    await here.start_worker()
    client = here.client()
    orders = [f"a-{number}" for number in range(20)]
    run = await client.start(ChargingAll, orders, run_id="r", timeout=timedelta(seconds=1))
    failed = 0
    while not (ended := await run.status()).is_terminal or ended is RunStatus.FAILED:
        with suppress(RunTimeoutError):
            assert await run.result(timeout=60) == 20
            break
        failed += 1
        await all_given_back(here, "account/a")
        assert WorkItemStatus.HELD in [item.status for item in await client.pending_work("r")]
        await client.resume("r")
    assert failed > 1
    await all_given_back(here, "account/a")
    assert Gauge.most["a"] == 2


async def test_a_limit_is_changed_while_everything_runs(cluster: MakeCluster) -> None:
    here = cluster(Entering)
    await here.start_worker()
    client = here.client()
    for number in range(5):
        await client.start(Entering, f"n{number}", run_id=f"r{number}")
        await until(here, "gate/", holders=1, waiting=number)
    raised = await client.limits.set("gate", limit=3)
    assert (raised.limit, raised.is_set, raised.held, raised.waiting) == (3, True, 3, 2)
    lowered = await client.limits.set("gate", limit=2)
    assert (lowered.limit, lowered.held, lowered.waiting) == (2, 3, 2)
    back = await client.limits.set("gate", limit=None)
    assert (back.limit, back.is_set) == (1, False)
    (listed,) = await client.limits.list()
    assert listed == await client.limits.get("gate")
    assert [run_id for run_id, _ in listed.holders] == ["r0", "r1", "r2"]
    Gauge.gate.set()
    for number in range(5):
        await client.handle(Entering, f"r{number}").result(timeout=120)
    await all_given_back(here, "gate/")


async def test_a_limit_may_be_set_before_anybody_asks_for_the_key(cluster: MakeCluster) -> None:
    here = cluster(ChargingAll)
    client = here.client()
    await client.limits.set("account", "a", limit=4)
    await here.start_worker()
    run = await client.start(ChargingAll, [f"a-{number}" for number in range(12)], run_id="r")
    assert await run.result(timeout=120) == 12
    assert Gauge.most["a"] == 4


@pytest.mark.parametrize("given", [{"name": "a b"}, {"name": "a", "key": "x" * 300}, {"name": "a", "limit": 2000}])
async def test_a_key_that_cannot_be_is_refused(cluster: MakeCluster, given: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        await cluster(Entering).client().limits.set(**{"limit": 1, **given})


async def test_a_step_without_a_limit_writes_and_reads_nothing_more(cluster: MakeCluster) -> None:
    here = cluster(ChargingAll)
    await here.start_worker()
    client = here.client()
    run = await client.start(ChargingAll, ["x"], run_id="r")
    assert await run.result(timeout=60) == 1
    assert here.store.leftovers("in:r:tickets", "limits", "in: limit") == {}
    found = await client.services.items.find(RunId("r"), [entry.item_id for entry in await here.history("r")])
    assert [each.item.ticket for each in found if each is not None] == ["", "", ""]


async def test_a_key_is_copied_whole_to_another_server(cluster: MakeCluster) -> None:
    here, there = cluster(Entering), cluster(Entering)
    await here.start_worker()
    client = here.client()
    for number in range(3):
        await client.start(Entering, f"n{number}", run_id=f"r{number}")
        await until(here, "gate/", holders=1, waiting=number)
    source, target = client.services, there.client().services
    for _ in range(2):
        await copy_limit(source.session, target.session, place_of("gate/"))
    assert await target.limit_keys.find("gate/") == (await source.limit_keys.find("gate/"))._replace(version=1)
    assert await target.limit_keys.ids() == ["gate/"]


def test_a_key_is_stored_as_it_is() -> None:
    holder = Ticket("5.1.2", WorkItemId("item"), RunId("run:1"))
    state = LimitState(declared=3, override=2, holders=(holder,), changed_ms=7)
    assert decode_limit(encode_limit(state)) == state
    assert ticket_in(queue_entry(holder)) == holder
    with pytest.raises(CodecError):
        decode_limit(encode_limit(LimitState(declared=0)))
