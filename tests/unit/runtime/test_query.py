"""One call shows a run from all sides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from floxide_amqp import (
    Context,
    EventLog,
    Hold,
    Next,
    NextAll,
    RunNotFoundError,
    RunStatus,
    RunView,
    Workflow,
    WorkflowCtx,
    WorkItemStatus,
    gather,
    node,
)
from floxide_amqp.runtime import run_view
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]


class Notes(Context):
    seen: EventLog[int] = EventLog()


@node
async def spread(ctx: WorkflowCtx[Notes], n: int) -> NextAll[int]:
    ctx.state.seen.append(n)
    ctx.set_attribute("stage", "spread")
    return NextAll(range(n))


@node
async def hold_on(ctx: WorkflowCtx[Notes], n: int) -> Next[int] | Hold:
    ctx.state.seen.append(n)
    return Hold(for_=timedelta(hours=1))


@node
async def total(ctx: WorkflowCtx[Notes], ns: list[int]) -> int:
    return sum(ns)


class Holding(Workflow[int, int, Notes]):
    start = spread
    edges = (spread >> hold_on >> gather(total),)


async def test_a_run_that_waits_is_shown_with_context_attributes_waits_counters_and_items(
    cluster: MakeCluster,
) -> None:
    here = cluster(Holding)
    await here.start_worker()
    client = here.client()
    await client.start(Holding, 3, run_id="run", attributes={"tenant": "acme"})
    await asyncio.sleep(5)
    found: RunView[Notes] = await client.query(Holding, "run")
    assert (found.status, found.info.workflow) == (RunStatus.WAITING, "Holding")
    assert found.attributes == {"tenant": "acme", "stage": "spread"}
    assert sorted(found.context.seen) == [0, 1, 2, 3]
    assert (found.metrics.live_items, found.metrics.waiting_items, found.metrics.completed_items) == (3, 3, 1)
    (wait,) = found.info.waits
    assert (wait.node, wait.items) == ("hold_on", 3)
    assert [(item.node, item.status) for item in found.live_items] == [("hold_on", WorkItemStatus.HELD)] * 3
    found.context.seen.append(99)
    assert sorted((await client.query(Holding, "run")).context.seen) == [0, 1, 2, 3]


async def test_of_a_large_run_some_live_items_are_shown(cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_view, "MOST_ITEMS", 4)
    here = cluster(Holding)
    await here.start_worker()
    client = here.client()
    await client.start(Holding, 9, run_id="run")
    await asyncio.sleep(5)
    found = await client.query(Holding, "run")
    assert (len(found.live_items), found.metrics.live_items) == (4, 9)


async def test_a_run_that_is_not_there_cannot_be_shown(cluster: MakeCluster) -> None:
    with pytest.raises(RunNotFoundError):
        await cluster(Holding).client().query(Holding, "nobody")
