"""Fan-outs of many pages: they go on after a crash in the middle, and their join gets everything exactly once."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated

import pytest

from floxide_amqp import Context, NextAll, Sum, Workflow, WorkflowCtx, gather, node
from floxide_amqp.ports.key_value import Batch, Delete
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.testing.queue_faults import QueueFaults
from tests.unit.runtime.cluster import Cluster, Member

MakeCluster = Callable[..., Cluster]

WIDTH = 100_000 if os.environ.get("FLOXIDE_LARGE_TESTS") else 2_500
"""The size that is promised, or one that a quick test can afford: three pages."""


class Tally(Context):
    parts: Annotated[int, Sum()] = 0


def wide(opened: list[str]) -> type[Workflow[int, list[int], Tally]]:
    @node
    async def spread(ctx: WorkflowCtx[Tally], n: int) -> NextAll[int]:
        opened.append(ctx.worker_id)
        return NextAll(range(n))

    @node
    async def part(ctx: WorkflowCtx[Tally], n: int) -> int:
        if n % 100 == 0:
            ctx.state.parts += 1
        return n

    @node
    async def joined(ns: list[int]) -> list[int]:
        return ns

    class Wide(Workflow[int, list[int], Tally]):
        start = spread
        edges = (spread >> part >> gather(joined),)

    return Wide


async def kill_after_page(member: Member, page: int) -> None:
    """The worker dies as soon as it has turned so many pages into items, before it publishes those of the last."""
    dead = asyncio.Event()
    left = page

    async def count_pages(batches: Sequence[Batch]) -> None:
        nonlocal left
        drops = [w for batch in batches for w in batch.writes if isinstance(w, Delete) and w.key.name.startswith("p:")]
        left -= len(drops)
        if drops and left == 0:
            member.store.cut()
            dead.set()

    member.store.after_commit = count_pages
    await dead.wait()
    await member.kill()


async def check_exact(here: Cluster, result: list[int]) -> None:
    assert result == list(range(WIDTH))
    ended = Counter(entry.item_id for entry in await here.history("run"))
    assert max(ended.values()) == 1
    assert len(ended) == WIDTH + 2 + -(-WIDTH // 1_000)  # the fan-out, its pages, the parts, the join
    assert (await here.client().context(here.workflows[0], "run")).parts == WIDTH // 100
    await here.check_completed("run")


@pytest.mark.fault(46)
@pytest.mark.parametrize("page", [2])
async def test_a_large_fan_out_goes_on_after_its_worker_died_in_the_middle(cluster: MakeCluster, page: int) -> None:
    opened: list[str] = []
    here = cluster(wide(opened), limits=Limits(concurrency=50))
    first = await here.start_worker()
    handle = await here.client().start(here.workflows[0], WIDTH, run_id="run")
    await kill_after_page(first, page)
    second = await here.start_worker()
    await check_exact(here, await handle.result(3_600))
    assert len(opened) == 1  # the node did not run again: its outputs were stored before the first page
    assert len(second.services.inflight) == 0
    assert len(second.services.cache._runs) <= 1


@pytest.mark.fault(47)
async def test_a_wide_join_gets_everything_once_although_messages_come_twice(cluster: MakeCluster) -> None:
    opened: list[str] = []
    faults = QueueFaults(duplicated=0.3, redelivered=0.1, delayed=0.1)
    here = cluster(wide(opened), limits=Limits(concurrency=50), queue_faults=faults)
    await here.start_worker()
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], WIDTH, run_id="run")
    result = await handle.result(3_600)
    here.end_faults()
    await check_exact(here, result)
