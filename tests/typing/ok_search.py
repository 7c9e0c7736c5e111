"""Attributes of runs, looking at one from all sides, following one; the same from threads."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import assert_type

from shop import *

from floxide_amqp import (
    AttemptFailed,
    Attributes,
    Floxide,
    ItemCompleted,
    Orchestrator,
    RunEnded,
    RunEvent,
    RunFilter,
    RunInfo,
    RunStatus,
    RunView,
    Start,
    Workflow,
    WorkflowCtx,
    node,
)
from floxide_amqp.sync import Client, Run


class OrderProcessing(Workflow[Order, str, OrderContext], version="1"):
    start = charge
    edges = (charge >> approve,)


class Counting(Workflow[str, int]):
    start = length


@node
async def mark(ctx: WorkflowCtx[OrderContext], order: Order) -> Order:
    ctx.set_attribute("stage", "marked")
    ctx.set_attribute("items", len(order.items))
    ctx.set_attribute("cost", 1.5)
    ctx.set_attribute("vip", True)
    ctx.set_attribute("at", datetime.now(UTC))
    ctx.set_attribute("stage", None)
    return order


tenant: Attributes = {"tenant": "acme"}


async def searching(orchestrator: Orchestrator, order: Order) -> None:
    await orchestrator.start(OrderProcessing, order, attributes={"tenant": "acme", "vip": True, "cost": 1.5})
    await orchestrator.start_many(Counting, [Start("four", attributes=tenant)])
    page = await orchestrator.list_runs(attributes=tenant, status=RunStatus.FAILED, started_after=datetime.now(UTC))
    assert_type(page.runs[0], RunInfo)
    assert_type(page.runs[0].attributes, Attributes)
    RunFilter(attributes=tenant, workflow="Counting")


async def looking(orchestrator: Orchestrator) -> None:
    found = await orchestrator.query(OrderProcessing, "run")
    assert_type(found, RunView[OrderContext])
    assert_type(found.context, OrderContext)
    assert_type(found.status, RunStatus)


async def following(orchestrator: Orchestrator) -> None:
    async for event in orchestrator.events("run", after="0.0.0.0.0"):
        assert_type(event, RunEvent)
        match event:
            case ItemCompleted(node=name):
                assert_type(name, str)
            case AttemptFailed(will_retry=again):
                assert_type(again, bool)
            case RunEnded(status=status):
                assert_type(status, RunStatus)
            case _:
                pass


def from_threads(app: Floxide, order: Order) -> None:
    with Client(app) as client:
        run = client.start(OrderProcessing, order, context=OrderContext(customer="c1"), attributes=tenant)
        assert_type(run, Run[str])
        assert_type(run.result(timeout=60), str)
        assert_type(client.start(Counting, "four").result(), int)
        assert_type(client.start_many(Counting, [Start("four")]), list[Run[int]])
        assert_type(client.result(Counting, "run"), int)
        assert_type(client.run(Counting, "run"), Run[int])
        assert_type(client.query(OrderProcessing, "run").context, OrderContext)
        assert_type(client.events("run"), Iterator[RunEvent])
        assert_type(client.call(lambda it: it.status("run")), RunStatus)
