"""Concurrency keys whose holders end in unusual ways: none is held for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from floxide_amqp import (
    Concurrency,
    Next,
    NextAll,
    RunFailedError,
    RunStatus,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)
from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.limit_moves import place_of
from floxide_amqp.core.limits import Ticket, take
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.stores.limit_keys import limit_cell
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]

KEY = Concurrency("account", limit=1)


@node
async def fan(n: int) -> NextAll[int]:
    return NextAll([0, 1])


@node
async def either(n: int) -> Next[int]:
    return Next(n)


@node(concurrency=KEY)
async def keyed(ctx: WorkflowCtx[Any], n: int) -> int:
    await ctx.sleep(20)
    return n


def without_limit() -> Any:
    """The node as an earlier release has it."""

    @node
    async def keyed(ctx: WorkflowCtx[Any], n: int) -> int:
        await ctx.sleep(20)
        return n

    return keyed


@node(queue="other")
async def boom(ctx: WorkflowCtx[Any], n: int) -> int:
    await ctx.sleep(3)
    raise ValueError("no")


@node
async def collect(values: list[int]) -> int:
    return len(values)


def both(with_key: Any) -> type[WorkflowDefinition[Any, Any, Any]]:
    class Two(Workflow[int, int], name="Two", version="1"):
        start = fan
        edges = (
            fan >> either,
            either.when(lambda n: n == 0) >> with_key >> gather(collect),
            either.otherwise >> boom >> gather(collect),
        )

    return Two


async def until_free(here: Cluster, limit_id: str, seconds: float = 60) -> None:
    """Wait until nobody holds a key or waits for it."""
    keys = here.client().services.limit_keys
    async with asyncio.timeout(seconds):
        while (found := await keys.find(limit_id)).state.holders or found.waiting:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)


async def test_a_release_without_the_limit_that_fails_a_run_gives_back_what_the_run_holds(cluster: MakeCluster) -> None:
    new, old = both(keyed), both(without_limit())
    here = cluster(new)
    await here.start_worker(queues=["default"])
    await here.start_worker(workflows=[old], queues=["other"])
    run = await here.client().start(new, 1, run_id="two")
    with pytest.raises(RunFailedError):
        await run.result(timeout=60)
    await until_free(here, "account/")


@node(concurrency=KEY)
async def fails_once(ctx: WorkflowCtx[Any], n: int) -> int:
    raise ValueError("no")


class Failing(Workflow[int, int]):
    start = fails_once


@node(concurrency=KEY)
async def quick(n: int) -> int:
    return n


class Quick(Workflow[int, int]):
    start = quick


async def test_a_key_that_a_dead_holder_keeps_is_asked_back_while_others_wait_for_it(cluster: MakeCluster) -> None:
    """Whatever took it, and however its letters were lost."""
    here = cluster(Quick)
    await here.start_worker()
    client = here.client()
    gone = Ticket("500000000000001.1.1", WorkItemId("no such item"), RunId("no such run"))
    await client.services.limit_keys.change("account/", lambda state, waiting: take(state, waiting, gone, 1))
    for letter in await client.services.letters.of_run(RunId(" limit:account/")):  # nobody ever told the holder
        await client.services.letters.take_away(letter)
    run = await client.start(Quick, 1, run_id="waits")
    assert await run.result(timeout=300) == 1
    await until_free(here, "account/")


async def test_an_item_that_is_completed_by_hand_gives_its_ticket_back(cluster: MakeCluster) -> None:
    here = cluster(Quick, Failing)
    worker = await here.start_worker()
    client = here.client()
    run = await client.start(Failing, 1, run_id="by-hand")
    with pytest.raises(RunFailedError):
        await run.result(timeout=60)
    ended = (await client.services.runs.load(RunId("by-hand"))).state.failure
    assert ended is not None
    await client.complete_item("by-hand", ended.item_id, 7)
    item = (await client.services.items.find(RunId("by-hand"), (ended.item_id,)))[0]
    assert item is not None
    assert (item.item.given is not None, item.item.ticket) == (True, "")
    await worker.stop()
    await until_free(here, "account/")


async def test_an_item_in_line_that_is_completed_by_hand_does_not_ask_for_the_key_again(cluster: MakeCluster) -> None:
    here = cluster(both(keyed), Quick)
    await here.start_worker()
    client = here.client()
    gone = Ticket("500000000000001.1.1", WorkItemId("x"), RunId("no such run"))
    await client.services.limit_keys.change("account/", lambda state, waiting: take(state, waiting, gone, 1))
    run = await client.start(Quick, 2, run_id="second", timeout=2.0)
    with pytest.raises(Exception, match="second"):
        await run.result(timeout=60)
    (item_id,) = await client.services.items.live_ids(RunId("second"))
    await client.complete_item("second", item_id, 9)
    item = (await client.services.items.find(RunId("second"), (item_id,)))[0]
    assert item is not None
    assert item.item.ticket == ""
    await client.resume("second")
    assert await run.result(timeout=60) == 9
    assert (await client.services.runs.load(RunId("second"))).state.status is RunStatus.COMPLETED


async def test_the_record_of_a_key_that_nobody_holds_any_more_is_removed(cluster: MakeCluster) -> None:
    here = cluster(Quick)
    await here.start_worker()
    client = here.client()
    await client.limits.set("account", limit=2)
    await client.limits.set("other", limit=2)
    assert await (await client.start(Quick, 1)).result(timeout=60) == 1
    await client.limits.set("account", limit=None)
    async with asyncio.timeout(300):
        while here.store.leftovers("limits") != {"limits": ["other/"]}:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(1)
    assert not await here.settle()
    cells = [key.partition for slot in here.store._slots.values() for key in slot.cells]
    assert [each for each in cells if each.startswith(" limit:")] == [" limit:other/"]
    assert await (await client.start(Quick, 2)).result(timeout=60) == 2


async def test_a_step_whose_key_cannot_be_read_waits_until_it_can(cluster: MakeCluster) -> None:
    here = cluster(Quick)
    await here.start_worker()
    client = here.client()
    await client.limits.set("account", limit=3)
    place = place_of("account/")
    cells = here.store._slots[slot_of(place)].cells
    sound = cells[limit_cell(place)]
    cells[limit_cell(place)] = sound._replace(value=b"damaged")
    run = await client.start(Quick, 1, run_id="r")
    async with asyncio.timeout(60):
        while not (await client.run_info("r")).waits:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)
    cells[limit_cell(place)] = sound
    assert await run.result(timeout=600) == 1
    await until_free(here, "account/")
