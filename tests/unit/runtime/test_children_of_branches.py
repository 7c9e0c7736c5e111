"""Children of a branch that is cancelled while their parent goes on: they end with it, unless they are abandoned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from floxide_amqp import ChildWorkflow, Next, NextAll, OnClose, RunStatus, Workflow, first, gather, node
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.test_children import Minute, children_of, first_child

NewCluster = Callable[..., Cluster]


def racing(
    release: asyncio.Event, behind: asyncio.Event, on_close: OnClose | None = None, *, deep: bool = False
) -> Any:
    """A fan-out in which one element calls a child and another waits for `release`; then comes a step that waits."""

    @node
    async def split(_: int) -> NextAll[int]:
        return NextAll([0, 1])

    @node
    async def pick(number: int) -> Next[str | int]:
        return Next("quick") if number == 0 else Next(number)

    @node
    async def quick(_: str) -> int:
        await release.wait()
        return 0

    @node
    async def inner(number: int) -> NextAll[int]:
        return NextAll([number])

    @node
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    @node
    async def end(winner: int) -> int:
        await behind.wait()
        return winner

    call = ChildWorkflow(Minute, on_close=on_close)
    closed = first(end)

    class Shallow(Workflow[int, int]):
        start = split
        edges = (split >> pick, pick.when(str) >> quick >> closed, pick.when(int) >> call >> closed)

    class Deep(Workflow[int, int]):
        start = split
        edges = (
            split >> pick,
            pick.when(str) >> quick >> closed,
            pick.when(int) >> inner >> call >> gather(total) >> closed,
        )

    return Deep if deep else Shallow


@pytest.mark.asyncio
@pytest.mark.parametrize("deep", [False, True])
async def test_a_child_ends_with_its_branch_while_its_parent_goes_on(cluster: NewCluster, deep: bool) -> None:
    release, behind = asyncio.Event(), asyncio.Event()
    workflow = racing(release, behind, deep=deep)
    here = cluster(workflow)
    await here.start_worker()
    client = here.client()
    run = await client.start(workflow, 1, run_id="parent")
    child = await first_child(here, "parent")
    release.set()
    assert await client.wait(child, 60) is RunStatus.CANCELLED
    assert (await client.run_info(child)).reason == "its parent run parent closed the fan-out it was called in"
    assert await run.status() is RunStatus.RUNNING
    behind.set()
    assert await run.result(60) == 0
    assert await here.settle() == {}
    assert (await children_of(here, "parent"))[0].status is RunStatus.CANCELLED


@pytest.mark.asyncio
async def test_a_child_that_is_abandoned_outlives_its_branch(cluster: NewCluster) -> None:
    release, behind = asyncio.Event(), asyncio.Event()
    workflow = racing(release, behind, OnClose.ABANDON)
    here = cluster(workflow)
    await here.start_worker()
    client = here.client()
    run = await client.start(workflow, 1, run_id="parent")
    child = await first_child(here, "parent")
    release.set()
    behind.set()
    assert await run.result(60) == 0
    assert await client.wait(child, 200) is RunStatus.COMPLETED


@pytest.mark.asyncio
async def test_a_child_that_nobody_has_started_yet_ends_with_its_branch(cluster: NewCluster) -> None:
    release, behind = asyncio.Event(), asyncio.Event()
    workflow = racing(release, behind)
    here = cluster(workflow)
    worker = await here.start_worker()
    deliver, worker.services.on_letters = worker.services.on_letters, lambda letters: None
    client = here.client()
    await client.start(workflow, 1, run_id="parent")
    while not await children_of(here, "parent"):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.01)
    worker.services.on_letters = deliver
    release.set()
    assert await client.wait(await first_child(here, "parent"), 60) is RunStatus.CANCELLED
    behind.set()
