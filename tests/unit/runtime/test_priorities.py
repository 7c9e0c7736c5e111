"""Priorities: each level has a task queue of its own, items keep theirs, and the higher come first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from floxide_amqp import (
    Concurrency,
    DefinitionError,
    Limits,
    NextAll,
    Priority,
    Start,
    Workflow,
    WorkflowCtx,
    all_of,
    gather,
    node,
)
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.priorities import level_of, leveled
from floxide_amqp.core.task_queues import labels_needed, queue_named
from floxide_amqp.runtime.registry import Registry
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]

ORDER: list[str] = []


@pytest.fixture(autouse=True)
def order() -> None:
    ORDER.clear()


@node
async def note(ctx: WorkflowCtx[Any], name: str) -> str:
    ORDER.append(name)
    return name


class Noting(Workflow[str, str], priorities=True):
    start = note


def starts(level: Priority, number: int) -> list[Start[str]]:
    return [Start(f"{level.value}-{n}", run_id=f"{level.value}-{n}", priority=level) for n in range(number)]


async def queues_of(here: Cluster, run_id: str) -> dict[str, str]:
    """Return the task queue of each node's items, as they are stored."""
    client = here.client()
    ids = [WorkItemId(item.item_id) for item in await client.work_items(run_id, limit=100)]
    found = await client.services.items.find(RunId(run_id), ids)
    return {each.item.node: each.item.queue for each in found if each is not None}


async def test_runs_of_a_higher_level_come_first_and_the_others_are_not_forgotten(cluster: MakeCluster) -> None:
    here = cluster(Noting, limits=Limits(concurrency=1))
    client = here.client()
    handles = []
    for level in (Priority.LOW, Priority.NORMAL, Priority.HIGH):
        handles += await client.start_many(Noting, starts(level, 20))
    await here.start_worker()
    for handle in handles:
        await handle.result(timeout=60)
    levels = [name.partition("-")[0] for name in ORDER]
    assert levels[:9] == ["high"] * 9
    assert levels[9] == "low"
    assert levels[:22].count("high") == 20
    assert levels[-10:].count("normal") == 0


@node
async def split(n: int) -> NextAll[int]:
    return NextAll(range(n))


@node
async def left(n: int) -> int:
    return n


@node(queue="elsewhere", labels={"gpu"})
async def right(n: int) -> int:
    return n


@node
async def both(pair: tuple[int, int]) -> int:
    return sum(pair)


@node(priority=Priority.LOW)
async def count(values: list[int]) -> int:
    return len(values)


class Branching(Workflow[int, int], priorities=True):
    start = split
    edges = (split >> (left, right), all_of(left, right) >> both >> gather(count))


async def test_all_steps_of_a_run_keep_its_level_but_those_of_nodes_with_their_own(cluster: MakeCluster) -> None:
    here = cluster(Branching)
    await here.start_worker()
    client = here.client()
    run = await client.start(Branching, 3, run_id="r", priority=Priority.HIGH)
    assert await run.result(timeout=60) == 3
    assert await queues_of(here, "r") == {
        "split": "default!high", "left": "default!high", "right": "elsewhere!high/gpu", "both": "default!high",
        "count": "default!low",
    }  # fmt: skip
    await here.check_completed("r")
    forked = await client.fork(Branching, "r", from_item=(await client.work_items("r", limit=1))[0].item_id)
    assert await forked.result(timeout=60) == 3
    assert (await client.services.runs.load(RunId(forked.run_id))).header.priority == 1


async def test_what_the_broker_lost_comes_back_on_its_level(cluster: MakeCluster) -> None:
    here = cluster(Noting)
    client = here.client()
    handles = await client.start_many(Noting, starts(Priority.HIGH, 3))
    here.queue._queues.clear()  # the broker has lost everything
    await here.start_worker()
    for handle in handles:
        await handle.result(timeout=120)
        assert await queues_of(here, handle.run_id) == {"note": "default!high"}
    assert not await here.settle()


class Plain(Workflow[str, str]):
    start = note


async def test_a_workflow_whose_workers_serve_one_level_refuses_others(cluster: MakeCluster) -> None:
    client = cluster(Plain).client()
    with pytest.raises(DefinitionError, match="priorities=True"):
        await client.start(Plain, "x", priority=Priority.LOW)
    assert (await client.start(Plain, "x", priority=Priority.NORMAL)).run_id


KEY = Concurrency("gate", limit=1)
OPEN: list[asyncio.Event] = []


@node(concurrency=KEY)
async def enter(ctx: WorkflowCtx[Any], name: str) -> str:
    ORDER.append(name)
    await OPEN[0].wait()
    return name


class Entering(Workflow[str, str], priorities=True):
    start = enter


async def test_those_who_wait_for_a_key_get_it_by_their_level(cluster: MakeCluster) -> None:
    OPEN[:] = [asyncio.Event()]
    here = cluster(Entering)
    await here.start_worker()
    client = here.client()
    names = (("first", Priority.NORMAL), ("low", Priority.LOW), ("normal", Priority.NORMAL), ("high", Priority.HIGH))
    handles = []
    for number, (name, level) in enumerate(names):
        handles.append(await client.start(Entering, name, priority=level))
        async with asyncio.timeout(60):
            while len((await client.services.limit_keys.find("gate/")).waiting) < number:  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(0.1)
            while not ORDER:  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(0.1)
    OPEN[0].set()
    for handle in handles:
        await handle.result(timeout=60)
    assert ORDER == ["first", "high", "normal", "low"]


def test_a_worker_serves_all_levels_of_its_queues_and_no_more_than_there_are() -> None:
    assert Registry([Plain]).queues() == ("default",)
    assert Registry([Noting]).queues() == ("default", "default!high", "default!low")
    served = Registry([Branching]).served(["elsewhere"], frozenset({"gpu"}))
    assert served == ("elsewhere!high/gpu", "elsewhere!low/gpu", "elsewhere/gpu")


def test_a_task_queue_says_its_level() -> None:
    queue = leveled("mail/eu/gpu", Priority.LOW)
    assert (queue, level_of(queue), queue_named(queue)) == ("mail!low/eu/gpu", Priority.LOW, "mail")
    assert labels_needed(queue) == {"eu", "gpu"}
    assert leveled(queue, Priority.HIGH) == queue
    assert leveled("mail", Priority.NORMAL) == "mail"
    assert (level_of("mail"), level_of("mail!newer")) == (Priority.NORMAL, Priority.NORMAL)
    assert [Priority.numbered(level.number) for level in Priority] == list(Priority)


@pytest.mark.parametrize("given", [{"priority": "high"}, {"priority": 1}, {"queue": "mail!high"}])
def test_a_level_that_cannot_be_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        node(**given)(lambda x: x)


@node
async def ship(name: str) -> str:
    ORDER.append(f"ship {name}")
    return name


@node(priority=Priority.LOW)
async def tidy_up(name: str) -> str:
    ORDER.append(f"tidy up {name}")
    return name


class Shipping(Workflow[str, str], priorities=True):
    start = ship
    edges = (ship >> tidy_up,)


async def test_a_step_of_a_lower_level_waits_for_what_is_higher_and_at_hand(cluster: MakeCluster) -> None:
    here = cluster(Shipping, limits=Limits(concurrency=1))
    handles = await here.client().start_many(Shipping, starts(Priority.HIGH, 20))
    await here.start_worker()
    for handle in handles:
        await handle.result(timeout=60)
    assert sum(each.startswith("tidy") for each in ORDER[:20]) <= 2
    await here.check_completed("high-0")


class WithLevels(Workflow[str, str], name="Changing", priorities=True):
    start = note
    edges = (note >> ship,)


class WithoutLevels(Workflow[str, str], name="Changing"):
    start = note
    edges = (note >> ship,)


async def test_a_run_goes_on_where_its_workflow_has_no_levels_any_more(cluster: MakeCluster) -> None:
    here = cluster(WithLevels)
    client = here.client()
    run = await client.start(WithLevels, "a", run_id="r", priority=Priority.HIGH)
    await here.start_worker(workflows=[WithoutLevels])
    assert await run.result(timeout=600) == "a"
    assert await queues_of(here, "r") == {"note": "default", "ship": "default"}
