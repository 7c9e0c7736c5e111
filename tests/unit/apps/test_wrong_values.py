"""Values of the wrong type are named by their place: the workflow's input, or the node that returned them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import pytest

from floxide_amqp import Floxide, NextAll, Workflow, node
from floxide_amqp.apps.absent import AbsentControlBus, AbsentWorkQueue
from floxide_amqp.exceptions import BrokerUnavailableError, ConfigurationError, PayloadMismatchError, RunFailedError
from floxide_amqp.ports.work_queue import Message, PublishOutcome


@dataclass(frozen=True)
class Line:
    item: str


@dataclass(frozen=True)
class Order:
    line: Line


@node
async def name_of(order: Order) -> str:
    return cast("str", 17) if order.line.item == "odd" else order.line.item


class Naming(Workflow[Order, str]):
    start = name_of


class Clock: ...


@node(requires=(Clock,))
async def tick(n: int) -> int:
    return n


class Ticking(Workflow[int, int]):
    start = tick


began: asyncio.Queue[int] = asyncio.Queue()


@node
async def spread(n: int) -> NextAll[int]:
    return NextAll(range(n))


@node
async def wait(n: int) -> int:
    began.put_nowait(n)
    await asyncio.Event().wait()
    return n


class Spreading(Workflow[int, list[int]]):
    start = spread
    edges = (spread >> wait,)


async def test_an_input_of_another_type_names_the_workflow() -> None:
    with pytest.raises(PayloadMismatchError, match=r"^The input of workflow 'Naming' must be Order, but it is int\.$"):
        await Naming.run(cast("Any", 17))


async def test_a_value_inside_an_input_is_named_by_its_path() -> None:
    with pytest.raises(PayloadMismatchError, match=r"^The input of workflow 'Naming' must be Order, .*'item'.*int"):
        await Naming.run(Order(Line(cast("Any", 17))))


async def test_a_returned_value_of_another_type_names_the_node() -> None:
    with pytest.raises(RunFailedError, match="Node 'name_of' returned a wrong value: it must be str, but it is int"):
        await Naming.run(Order(Line("odd")))


async def test_a_resource_that_is_missing_is_cured_where_the_workflow_is_run() -> None:
    with pytest.raises(ConfigurationError, match=r"or pass it: Workflow\.run\(\.\.\., resources=\{Type: \.\.\.\}\)"):
        await Ticking.run(1)


async def test_pages_of_items_go_on_where_the_one_before_ended_also_among_the_live_ones() -> None:
    async with Floxide(workflows=[Spreading]).orchestrator() as orchestrator:
        handle = await orchestrator.start(Spreading, 5)
        for _ in range(5):
            await began.get()
        whole = [each.item_id for each in await orchestrator.work_items(handle.run_id)]
        paged = [
            each.item_id
            for start in range(0, len(whole), 2)
            for each in await orchestrator.work_items(handle.run_id, start=start, limit=2)
        ]
        await handle.cancel()
    assert len(whole) == 6
    assert paged == whole


async def test_a_queue_without_a_broker_knows_no_outcome_and_refuses_to_be_read() -> None:
    queue = AbsentWorkQueue()
    assert await queue.publish([Message(queue="q", body=b"")]) == [PublishOutcome.UNKNOWN]
    with pytest.raises(BrokerUnavailableError):
        await queue.depth("q")
    with pytest.raises(BrokerUnavailableError):
        queue.consume(["q"], prefetch=1)
    assert AbsentControlBus().why == ""
