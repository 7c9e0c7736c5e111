"""Values of the wrong type are named by their place: the workflow's input, or the node that returned them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from floxide_amqp import Context, Floxide, NextAll, RunFilter, Schedule, Workflow, node
from floxide_amqp.apps.absent import AbsentControlBus, AbsentWorkQueue
from floxide_amqp.exceptions import (
    BrokerUnavailableError,
    ConfigurationError,
    DefinitionError,
    PayloadMismatchError,
    RunFailedError,
    UnknownWorkflowError,
)
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


class Books(Context):
    count: int = 0


def test_a_value_of_a_context_of_another_type_names_the_field() -> None:
    with pytest.raises(PayloadMismatchError, match=r"^Books\.count must be int, but it is str\.$"):
        Books(count=cast("Any", "three"))


def test_the_input_of_a_schedule_of_another_type_names_the_schedule() -> None:
    hourly = Schedule("hourly", Ticking, cast("Any", "noon"), every=3_600)
    with pytest.raises(PayloadMismatchError, match=r"^The input of schedule 'hourly' must be int, but it is str\.$"):
        Floxide(workflows=[Ticking], schedules=[hourly])


async def test_what_is_no_workflow_class_is_not_started() -> None:
    async with Floxide(workflows=[Naming]).orchestrator(with_worker=False) as orchestrator:
        with pytest.raises(ConfigurationError, match=r"^'Naming' is not a workflow class\. Give the class itself"):
            await orchestrator.start(cast("Any", "Naming"), Order(Line("pen")))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"status": "faild"}, r"status='faild' finds no run\. Give RunStatus\.FAILED"),
        ({"workflow": Naming}, r"workflow=Naming finds no run\. Give the workflow's name"),
        ({"started_after": "2026-07-01"}, r"started_after='2026-07-01' finds no run\. Give an instant"),
    ],
)
async def test_a_filter_of_another_type_is_refused_and_not_an_empty_list(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError, match=f"^{told}"):
        RunFilter(**wrong)


async def test_a_lifespan_that_is_no_async_context_manager_is_told_how_to_be_one() -> None:
    async def clock() -> Clock:
        return Clock()

    coroutines: list[Any] = []

    def lifespan() -> Any:
        coroutines.append(clock())
        return coroutines[0]

    with pytest.raises(ConfigurationError, match="returned coroutine, which is no async context manager"):
        async with Floxide(workflows=[Ticking], lifespan=lifespan).orchestrator():
            pass
    coroutines[0].close()


async def test_a_workflow_that_nobody_can_have_is_not_started(tmp_path: Path) -> None:
    """In memory the run would wait for ever; of a store that lasts, somebody may have it tomorrow."""
    async with Floxide(workflows=[Naming]).orchestrator() as orchestrator:
        with pytest.raises(
            UnknownWorkflowError, match=r"no workflow 'Ticking@1' here\. This application has: Naming@1\."
        ):
            await orchestrator.start(Ticking, 1)
    async with Floxide(store=f"sqlite:///{tmp_path}/runs.db", workflows=[Naming]).orchestrator() as orchestrator:
        await orchestrator.start(Ticking, 1)
