"""Concurrency of whole runs: never too many under way, each in its turn, and the key given back however a run ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from floxide_amqp import (
    Abort,
    ChildWorkflow,
    Compensation,
    CompositeNode,
    Concurrency,
    DefinitionError,
    Hold,
    NextAll,
    Retention,
    RunFailedError,
    RunStatus,
    RunTimeoutError,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.limit_moves import grant_letter
from floxide_amqp.core.limits import LOOK_MS
from floxide_amqp.core.run_key_moves import RUN_TICKET
from floxide_amqp.runtime.limit_letters import KeyGranted
from floxide_amqp.stores import keys, limit_keys
from floxide_amqp.testing.faults import StoreFaults
from floxide_amqp.testing.queue_faults import QueueFaults
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.test_moving_house import import_run
from tests.unit.runtime.test_secret_keys import ADDRESS, SealedCluster, everything

MakeCluster = Callable[..., Cluster]


class Gauge:
    """Counts which runs are under way, outside the engine."""

    under_way: set[str]
    most: Counter[str]
    order: list[str]
    gate: asyncio.Event
    fails: bool


@pytest.fixture(autouse=True)
def gauge() -> None:
    Gauge.under_way, Gauge.most, Gauge.order = set(), Counter(), []
    Gauge.gate, Gauge.fails = asyncio.Event(), False


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Holders are not asked again whether they have a use for their keys, so what is forgotten stays forgotten."""
    monkeypatch.setattr(limit_keys, "LOOK_MS", 10**9)


def tenant(order: str) -> str | None:
    """What is before the dash; none for what has none."""
    head, dash, _ = order.partition("-")
    if head == "broken":
        raise ValueError("no tenant")
    return head if dash else None


PER_TENANT = Concurrency("tenant", limit=2, key=tenant)


@node
async def begin(ctx: WorkflowCtx[Any], order: str) -> NextAll[str]:
    key = tenant(order) or ""
    Gauge.under_way.add(order)
    Gauge.most[key] = max(Gauge.most[key], sum(each.startswith(f"{key}-") for each in Gauge.under_way))
    await ctx.sleep(0.2)
    return NextAll([order] * 3)


@node
async def wait_a_little(ctx: WorkflowCtx[Any], order: str) -> str | Hold:
    return order if ctx.timed_out else Hold(for_=1.0)


@node
async def finish(done: list[str]) -> str:
    Gauge.under_way.discard(done[0])
    return done[0].upper()


class Importing(Workflow[str, str], concurrency=PER_TENANT):
    start = begin
    edges = (begin >> wait_a_little >> gather(finish),)


@node
async def prepare(name: str) -> str:
    Gauge.order.append(name)
    return name


@node(timeout=timedelta(minutes=5))
async def enter(name: str) -> str | Abort:
    """Be at work until the gate opens."""
    await Gauge.gate.wait()
    return Abort(ValueError(name)) if Gauge.fails else name


class Entering(Workflow[str, str], concurrency=Concurrency("gate", limit=1)):
    start = prepare
    edges = (prepare >> enter,)


async def standing(here: Cluster, limit_id: str) -> tuple[list[str], int]:
    found = await here.client().services.limit_keys.find(limit_id)
    return [each.run_id for each in found.state.holders], len(found.waiting)


async def until(here: Cluster, limit_id: str, holders: list[str], waiting: int) -> None:
    async with asyncio.timeout(120):
        while await standing(here, limit_id) != (holders, waiting):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)


async def all_given_back(here: Cluster, *limit_ids: str) -> None:
    """Wait until nobody holds these keys or waits for them."""
    for limit_id in limit_ids:
        await until(here, limit_id, [], 0)
    async with asyncio.timeout(60):
        while here.store.leftovers("letters", "in: limit"):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)


async def stand_in_line(here: Cluster, runs: int, workflow: Any = Entering) -> None:
    """Start runs one after the other: the first is under way, the others wait."""
    for number in range(runs):
        await here.client().start(workflow, f"n{number}", run_id=f"r{number}")
        await until(here, "gate/", ["r0"], number)


async def test_never_more_runs_of_a_key_are_under_way_than_its_limit_says(cluster: MakeCluster) -> None:
    here = cluster(Importing)
    for _ in range(3):
        await here.start_worker()
    client = here.client()
    runs = [await client.start(Importing, f"{name}-{number}") for number in range(6) for name in ("a", "b")]
    for run in runs:
        await run.result(timeout=120)
    assert Gauge.most == {"a": 2, "b": 2}
    await all_given_back(here, "tenant/a", "tenant/b")


@pytest.mark.parametrize("seed", range(4))
async def test_no_run_is_forgotten_where_the_store_and_the_broker_fail_and_workers_die(
    cluster: MakeCluster, seed: int
) -> None:
    here = cluster(
        Importing, seed=seed, store_faults=StoreFaults(unavailable=0.02, lost_reply=0.05),
        queue_faults=QueueFaults(dropped=0.05, duplicated=0.1),
    )  # fmt: skip
    first = await here.start_worker()
    await here.start_worker()
    client = here.client()
    for number in range(6):
        await client.start(Importing, f"a-{number}", run_id=f"r{number}")
    await client.handle(Importing, "r0").result(timeout=300)
    await first.kill()
    await here.start_worker()
    for number in range(6):
        await client.handle(Importing, f"r{number}").result(timeout=600)
    assert Gauge.most["a"] == 2
    await all_given_back(here, "tenant/a")


async def test_a_run_whose_key_is_none_needs_none(cluster: MakeCluster) -> None:
    here = cluster(Importing)
    await here.start_worker()
    client = here.client()
    assert await (await client.start(Importing, "x")).result(timeout=60) == "X"
    assert await client.services.limit_keys.ids() == []


async def test_a_key_that_cannot_be_told_fails_the_run_with_what_its_function_raised(cluster: MakeCluster) -> None:
    here = cluster(Importing)
    await here.start_worker()
    run = await here.client().start(Importing, "broken-1")
    with pytest.raises(RunFailedError, match="ValueError: no tenant"):
        await run.result(timeout=60)


async def test_runs_that_wait_are_shown_and_come_in_their_order(cluster: MakeCluster) -> None:
    here = cluster(Entering)
    await here.start_worker()
    client = here.client()
    await stand_in_line(here, 4)
    info = await client.run_info("r2")
    assert info.status is RunStatus.WAITING
    assert [wait.what for wait in info.waits] == ["concurrency key 'gate/' of workflow 'Entering'"]
    Gauge.gate.set()
    for number in range(4):
        await client.handle(Entering, f"r{number}").result(timeout=60)
    assert Gauge.order == ["n0", "n1", "n2", "n3"]
    await all_given_back(here, "gate/")


@pytest.mark.parametrize("how", ["cancel", "terminate"])
async def test_a_run_that_is_ended_by_hand_gives_back_its_key_or_its_place_in_line(
    cluster: MakeCluster, how: str
) -> None:
    here = cluster(Entering)
    await here.start_worker()
    client = here.client()
    await stand_in_line(here, 3)
    await getattr(client, how)("r1")
    await until(here, "gate/", ["r0"], 1)
    await getattr(client, how)("r0")
    await until(here, "gate/", ["r2"], 0)
    Gauge.gate.set()
    assert await client.handle(Entering, "r2").result(timeout=60) == "n2"
    assert Gauge.order == ["n0", "n2"]
    await all_given_back(here, "gate/")


async def test_a_run_whose_time_is_over_while_it_waits_leaves_the_line(cluster: MakeCluster) -> None:
    here = cluster(Entering)
    await here.start_worker()
    client = here.client()
    await stand_in_line(here, 1)
    run = await client.start(Entering, "late", run_id="late", timeout=timedelta(seconds=5))
    await until(here, "gate/", ["r0"], 1)
    with pytest.raises(RunTimeoutError):
        await run.result(timeout=60)
    await until(here, "gate/", ["r0"], 0)
    Gauge.gate.set()
    await client.handle(Entering, "r0").result(timeout=60)
    assert Gauge.order == ["n0"]
    await all_given_back(here, "gate/")


async def test_a_run_that_failed_waits_in_line_again_when_it_is_resumed(cluster: MakeCluster) -> None:
    here = cluster(Entering)
    await here.start_worker()
    client = here.client()
    await stand_in_line(here, 1)
    Gauge.fails = True
    Gauge.gate.set()
    with pytest.raises(RunFailedError):
        await client.handle(Entering, "r0").result(timeout=60)
    await all_given_back(here, "gate/")
    Gauge.gate.clear()
    Gauge.fails = False
    await client.start(Entering, "next", run_id="next")
    await until(here, "gate/", ["next"], 0)
    await client.resume("r0")
    await until(here, "gate/", ["next"], 1)
    assert (await client.run_info("r0")).status is RunStatus.WAITING
    Gauge.gate.set()
    assert await client.handle(Entering, "r0").result(timeout=60) == "n0"
    assert await client.handle(Entering, "next").result(timeout=60) == "next"
    await all_given_back(here, "gate/")


async def test_a_run_that_is_paused_keeps_its_key_and_its_place_in_line(cluster: MakeCluster) -> None:
    here = cluster(Entering)
    await here.start_worker()
    client = here.client()
    await stand_in_line(here, 3)
    await client.pause("r1")
    Gauge.gate.set()
    await until(here, "gate/", ["r1"], 1)
    await client.resume("r1")
    for number in range(3):
        await client.handle(Entering, f"r{number}").result(timeout=60)
    assert Gauge.order == ["n0", "n1", "n2"]
    await all_given_back(here, "gate/")


async def test_what_a_dead_worker_was_at_keeps_its_key(cluster: MakeCluster) -> None:
    here = cluster(Entering)
    first = await here.start_worker()
    client = here.client()
    await stand_in_line(here, 2)
    await first.kill()
    await here.start_worker()
    Gauge.gate.set()
    for number in range(2):
        await client.handle(Entering, f"r{number}").result(timeout=120)
    assert Gauge.order == ["n0", "n1"]
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


async def test_a_run_that_begins_later_asks_when_it_begins(cluster: MakeCluster) -> None:
    here = cluster(Entering)
    await here.start_worker()
    client = here.client()
    later = await client.start(Entering, "later", delay=timedelta(seconds=30))
    assert await standing(here, "gate/") == ([], 0)
    await stand_in_line(here, 1)
    await until(here, "gate/", ["r0"], 1)
    Gauge.gate.set()
    assert await later.result(timeout=60) == "later"
    assert Gauge.order == ["n0", "later"]
    await all_given_back(here, "gate/")


@node
async def undo(done: Compensation[str, str]) -> None:
    Gauge.order.append(f"undo {done.input}")
    await Gauge.gate.wait()


@node(compensation=undo)
async def book(name: str) -> str:
    Gauge.order.append(name)
    return name


@node
async def fail(name: str) -> str | Abort:
    return Abort(ValueError(name))


class Booking(Workflow[str, str], concurrency=Concurrency("gate", limit=1)):
    start = book
    edges = (book >> fail,)


async def test_a_run_that_undoes_what_it_did_is_under_way_until_it_has(cluster: MakeCluster) -> None:
    here = cluster(Booking)
    await here.start_worker()
    client = here.client()
    await stand_in_line(here, 2, Booking)
    async with asyncio.timeout(60):
        while Gauge.order != ["n0", "undo n0"]:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)
    assert await standing(here, "gate/") == (["r0"], 1)
    Gauge.gate.set()
    for number in range(2):
        with pytest.raises(RunFailedError):
            await client.handle(Booking, f"r{number}").result(timeout=60)
    assert Gauge.order == ["n0", "undo n0", "n1", "undo n1"]
    await all_given_back(here, "gate/")


async def test_a_run_that_waited_only_is_undone_nowhere(cluster: MakeCluster) -> None:
    here = cluster(Booking)
    await here.start_worker()
    await stand_in_line(here, 2, Booking)
    await here.client().cancel("r1")
    assert await here.client().handle(Booking, "r1").status() is RunStatus.CANCELLED
    assert "n1" not in " ".join(Gauge.order)
    Gauge.gate.set()
    await all_given_back(here, "gate/")


def test_a_step_that_would_wait_for_what_its_own_run_holds_is_refused() -> None:
    limit = Concurrency("same", limit=1)

    @node(concurrency=limit)
    async def step(x: int) -> int:
        return x

    with pytest.raises(DefinitionError, match="'step' have the same limit 'same'"):

        class Twice(Workflow[int, int], concurrency=limit):
            start = step


def test_a_workflow_whose_runs_are_limited_is_no_part_of_another_run() -> None:
    with pytest.raises(DefinitionError, match=r"its own limit 'gate' cannot hold back.*ChildWorkflow\(Entering\)"):
        CompositeNode(Entering)


def test_what_is_no_limit_is_refused() -> None:
    wrong: Any = 5
    with pytest.raises(DefinitionError, match="concurrency=5 must be a Concurrency"):

        class Wrong(Workflow[str, str], concurrency=wrong):
            start = prepare


async def test_a_paused_run_that_is_imported_waits_in_the_line_of_its_new_store(
    cluster: MakeCluster, tmp_path: Path
) -> None:
    here, there = cluster(Entering), cluster(Entering)
    await here.start_worker()
    await stand_in_line(here, 2)
    await here.client().pause("r1")
    await here.client().export_run("r1", tmp_path / "file")
    await import_run(there, tmp_path / "file")
    await there.start_worker()
    await there.client().start(Entering, "other", run_id="other")
    await until(there, "gate/", ["other"], 0)
    await there.client().resume("r1")
    await until(there, "gate/", ["other"], 1)
    Gauge.gate.set()
    assert await there.client().handle(Entering, "r1").result(timeout=60) == "n1"
    await all_given_back(there, "gate/")
    run = await there.client().services.runs.load(RunId("r1"))
    assert (run.counts.live, run.counts.waiting) == (0, 0)


@node
async def hand_on(name: str) -> str:
    return name


class Parent(Workflow[str, str]):
    start = hand_on
    edges = (hand_on >> ChildWorkflow(Entering),)


async def test_children_stand_in_the_line_of_their_own_workflow(cluster: MakeCluster) -> None:
    here = cluster(Parent, Entering)
    await here.start_worker()
    client = here.client()
    parents = [await client.start(Parent, f"n{number}") for number in range(3)]
    async with asyncio.timeout(60):
        while len((await standing(here, "gate/"))[0]) != 1 or (await standing(here, "gate/"))[1] != 2:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert len(Gauge.order) == 1
    Gauge.gate.set()
    assert [await parent.result(timeout=60) for parent in parents] == ["n0", "n1", "n2"]
    await all_given_back(here, "gate/")


async def test_a_fork_stands_in_line_like_any_run(cluster: MakeCluster) -> None:
    here = cluster(Entering)
    await here.start_worker()
    client = here.client()
    Gauge.gate.set()
    old = await client.start(Entering, "old", run_id="old")
    await old.result(timeout=60)
    await all_given_back(here, "gate/")
    Gauge.gate.clear()
    await stand_in_line(here, 1)
    last = next(item for item in await client.work_items("old") if item.node == "enter")
    fork = await client.fork(Entering, "old", from_item=last.item_id, new_run_id="fork")
    await until(here, "gate/", ["r0"], 1)
    Gauge.gate.set()
    assert await fork.result(timeout=60) == "old"
    await all_given_back(here, "gate/")


@node
async def part(name: str) -> NextAll[str]:
    return NextAll([name] * 4)


@node
async def break_off(ctx: WorkflowCtx[Any], name: str) -> str:
    if Gauge.fails:
        raise ValueError(name)
    return name


class Broad(Workflow[str, str], concurrency=Concurrency("gate", limit=1)):
    start = part
    edges = (part >> break_off >> gather(finish),)


async def test_every_step_of_a_run_that_is_resumed_waits_until_the_run_has_its_key(cluster: MakeCluster) -> None:
    here = cluster(Broad, Entering)
    await here.start_worker()
    await here.start_worker()
    client = here.client()
    Gauge.fails = True
    run = await client.start(Broad, "x", run_id="x")
    with pytest.raises(RunFailedError):
        await run.result(timeout=60)
    await all_given_back(here, "gate/")
    Gauge.fails = False
    await stand_in_line(here, 1)
    await client.resume("x")
    async with asyncio.timeout(60):
        while (await client.run_info("x")).status is not RunStatus.WAITING:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)
    assert await standing(here, "gate/") == (["r0"], 1)
    Gauge.gate.set()
    assert await run.result(timeout=60) == "X"
    await all_given_back(here, "gate/")


async def test_a_limit_of_runs_is_changed_while_everything_runs(cluster: MakeCluster) -> None:
    here = cluster(Entering)
    await here.start_worker()
    client = here.client()
    await stand_in_line(here, 3)
    info = await client.limits.set("gate", limit=2)
    assert (info.limit, info.held, info.waiting) == (2, 2, 1)
    assert info.holders == (("r0", RUN_TICKET), ("r1", RUN_TICKET))
    Gauge.gate.set()
    for number in range(3):
        await client.handle(Entering, f"r{number}").result(timeout=60)
    await client.limits.set("gate", limit=None)
    await all_given_back(here, "gate/")


async def test_a_run_whose_key_nobody_gave_back_loses_it_when_it_is_asked(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_keys, "LOOK_MS", LOOK_MS)

    class Freed(Workflow[str, str], name="Entering"):
        start = prepare
        edges = (prepare >> enter,)

    here = cluster(Entering)
    first = await here.start_worker()
    await stand_in_line(here, 2)
    await first.kill()
    later = cluster(Freed)
    later.store, later.queue, later.bus = here.store, here.queue, here.bus
    await later.start_worker()
    Gauge.gate.set()
    for number in range(2):
        assert await here.client().handle(Entering, f"r{number}").result(timeout=300) == f"n{number}"
    await until(here, "gate/", [], 0)


async def test_a_run_that_is_resumed_while_its_key_is_taken_for_forgotten_keeps_it(cluster: MakeCluster) -> None:
    here = cluster(Entering)
    member = await here.start_worker()
    client, asked = here.client(), here.client().services
    for services in (member.services, client.services, asked):
        services.on_letters = lambda letters: None  # what gives the key back is not delivered for now
    await client.start(Entering, "n0", run_id="r0")
    Gauge.fails = True
    Gauge.gate.set()
    with pytest.raises(RunFailedError):
        await client.handle(Entering, "r0").result(timeout=60)
    (ticket,) = (await asked.limit_keys.find("gate/")).state.holders
    Gauge.fails = False
    Gauge.gate.clear()
    find = asked.runs.find

    async def find_and_be_slow(run_id: RunId) -> Any:
        found = await find(run_id)
        asked.runs.find = find  # type: ignore[method-assign]
        await client.resume("r0")
        async with asyncio.timeout(60):
            while not len(member.services.inflight):  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(0.01)
        return found

    asked.runs.find = find_and_be_slow  # type: ignore[method-assign]
    assert await KeyGranted().deliver(asked, grant_letter(ticket, "gate/", asked.now_ms()))
    await client.start(Entering, "n1", run_id="r1")
    await until(here, "gate/", ["r0"], 1)
    Gauge.gate.set()
    for number in range(2):
        assert await client.handle(Entering, f"r{number}").result(timeout=60) == f"n{number}"
    await all_given_back(here, "gate/")


async def test_a_run_with_the_id_of_one_that_was_deleted_long_ago_waits_like_any_other(cluster: MakeCluster) -> None:
    here = cluster(Entering, retention=Retention(completed=60, tombstone=600))
    await here.start_worker()
    client = here.client()
    Gauge.gate.set()
    assert await (await client.start(Entering, "first", run_id="again")).result(timeout=60) == "first"
    async with asyncio.timeout(3_600):
        while not here.store.leftovers(keys.TOMBSTONES):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(1)
        while here.store.leftovers(keys.TOMBSTONES):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(1)
    Gauge.gate.clear()
    await stand_in_line(here, 1)
    await client.start(Entering, "second", run_id="again")
    await until(here, "gate/", ["r0"], 1)
    assert Gauge.order == ["first", "n0"]
    Gauge.gate.set()
    assert await client.handle(Entering, "again").result(timeout=60) == "second"
    await all_given_back(here, "gate/")


@node(concurrency=Concurrency("desk", limit=1), timeout=timedelta(minutes=5))
async def sit(name: str) -> str:
    await Gauge.gate.wait()
    return name


async def test_a_step_that_has_a_key_of_its_own_gives_it_back_while_its_run_waits_for_another(
    cluster: MakeCluster,
) -> None:
    class Unlimited(Workflow[str, str], name="Sitting"):
        start = sit

    class Limited(Workflow[str, str], name="Sitting", concurrency=Concurrency("gate", limit=1)):
        start = sit

    here, later = cluster(Unlimited), cluster(Limited)
    later.store, later.queue, later.bus, later._count = here.store, here.queue, here.bus, 10
    first, client = await here.start_worker(), later.client()
    await client.start(Limited, "n0", run_id="r0")
    await until(here, "desk/", ["r0"], 0)
    await first.kill()  # its step keeps the key of the desk
    await later.start_worker()
    await client.start(Limited, "n1", run_id="r1")
    await until(here, "gate/", ["r1"], 1)
    await until(here, "desk/", ["r1"], 0)
    Gauge.gate.set()
    for number in range(2):
        assert await client.handle(Limited, f"r{number}").result(timeout=60) == f"n{number}"
    await all_given_back(here, "gate/", "desk/")


async def test_a_limit_of_runs_that_becomes_one_of_a_step_lets_runs_that_hold_it_go_on(cluster: MakeCluster) -> None:
    desk = Concurrency("desk", limit=1)

    @node(timeout=timedelta(minutes=5))
    async def stay(name: str) -> str:
        await Gauge.gate.wait()
        return name

    @node(concurrency=desk)
    async def stay_alone(name: str) -> str:
        return name

    class Before(Workflow[str, str], name="Staying", concurrency=desk):
        start = stay

    class After(Workflow[str, str], name="Staying"):
        start = stay_alone.named("stay")

    here, later = cluster(Before), cluster(After)
    later.store, later.queue, later.bus, later._count = here.store, here.queue, here.bus, 10
    first, client = await here.start_worker(), later.client()
    for number in range(2):
        await client.start(After, f"n{number}", run_id=f"r{number}")
        await until(here, "desk/", ["r0"], number)
    await first.kill()
    await later.start_worker()
    for number in range(2):
        assert await client.handle(After, f"r{number}").result(timeout=120) == f"n{number}"
    await all_given_back(here, "desk/")


async def test_a_step_that_is_given_its_output_by_hand_waits_for_its_run_all_the_same(cluster: MakeCluster) -> None:
    here = cluster(Entering)
    await here.start_worker()
    client = here.client()
    await stand_in_line(here, 2)
    (item_id,) = await client.services.items.live_ids(RunId("r1"))
    await client.pause("r1")
    await client.complete_item("r1", item_id, "by hand")
    await client.resume("r1")
    async with asyncio.timeout(60):
        while (await client.run_info("r1")).status is not RunStatus.WAITING:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)
    assert await standing(here, "gate/") == (["r0"], 1)
    Gauge.gate.set()
    assert await client.handle(Entering, "r1").result(timeout=60) == "by hand"
    assert Gauge.order == ["n0"]
    await all_given_back(here, "gate/")


class Secret(Workflow[str, str], concurrency=Concurrency("address", limit=1, key=lambda address: address)):
    start = enter


async def test_the_key_of_a_run_is_not_in_the_store_as_it_is_where_data_is_encrypted() -> None:
    here = SealedCluster(Secret)
    try:
        await here.start_worker()
        client = here.client()
        runs = [await client.start(Secret, ADDRESS) for _ in range(2)]
        async with asyncio.timeout(60):
            while [(each.held, each.waiting) for each in await client.limits.list()] != [(1, 1)]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert ADDRESS not in everything(here)
        assert [each.key for each in await client.limits.list()] == [ADDRESS]
        Gauge.gate.set()
        for run in runs:
            assert await run.result(timeout=60) == ADDRESS
    finally:
        await here.close()
