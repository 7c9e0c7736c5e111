"""Runs that are moved to another store while they wait for children: each has exactly one there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from floxide_amqp import ChildWorkflow, RunStatus, Workflow, node
from tests.unit.runtime.cluster import Cluster, GuardedStore
from tests.unit.runtime.test_children import Minute, Ordering, children_of, first_child
from tests.unit.runtime.test_moving_house import import_run
from tests.unit.runtime.test_resharding import ALONE, MovingCluster, identity, move

NewCluster = Callable[..., Cluster]


async def not_started(here: Cluster) -> None:
    """Start a run whose worker dies when it has called a child, before anything is done about that."""
    worker = await here.start_worker()
    worker.services.on_letters = lambda letters: None
    await here.client().start(here.workflows[0], 1, run_id="parent")
    while not await children_of(here, "parent"):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.01)
    await worker.kill()


async def runs_in(here: Cluster) -> int:
    return len((await here.client().list_runs(limit=100)).runs)


@pytest.mark.asyncio
async def test_a_run_that_is_imported_before_its_child_was_started_has_one_child(
    cluster: NewCluster, tmp_path: Path
) -> None:
    here, there = cluster(Ordering), cluster(Ordering)
    await not_started(here)
    await here.client().pause("parent")
    await here.client().export_run("parent", tmp_path / "file")
    await import_run(there, tmp_path / "file")
    await there.start_worker()
    await there.client().resume("parent")
    assert await there.client().handle(Ordering, "parent").result(60) == "billed 70"
    assert [child.status for child in await children_of(there, "parent")] == [RunStatus.COMPLETED]
    assert await runs_in(there) == 2
    await there.check_completed("parent")


@pytest.mark.asyncio
async def test_a_run_that_moves_to_other_servers_before_its_child_was_started_has_one_child() -> None:
    here = MovingCluster(Ordering)
    await identity(here.disks)
    await not_started(here)
    left, there = here.disks[ALONE], {"a": GuardedStore(), "b": GuardedStore()}
    await move(here.disks, there)
    assert left.leftovers("letters") == {}
    here.disks = dict(there)
    await here.start_worker()
    assert await here.client().handle(Ordering, "parent").result(60) == "billed 70"
    assert [child.status for child in await children_of(here, "parent")] == [RunStatus.COMPLETED]
    assert await runs_in(here) == 2
    await here.close()


@pytest.mark.asyncio
async def test_a_run_that_took_up_a_child_again_leaves_it_behind_and_starts_another(
    cluster: NewCluster, tmp_path: Path
) -> None:
    broken, is_called = {"is": True}, asyncio.Event()

    @node
    async def begin(x: int) -> int:
        return x

    @node
    async def breaking(x: int) -> int:
        if broken["is"]:
            await is_called.wait()
        if broken["is"]:
            raise ValueError("once")
        return x

    class Branching(Workflow[int, list[int]]):
        start = begin
        edges = (begin >> (ChildWorkflow(Minute), breaking),)

    here, there = cluster(Branching), cluster(Branching)
    worker = await here.start_worker()
    client = here.client()
    run = await client.start(Branching, 1, run_id="parent")
    await first_child(here, "parent")
    while here.store.leftovers("letters"):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.01)
    worker.services.on_letters = lambda letters: None  # its child does not hear of its end
    is_called.set()
    assert await run.wait(60) is RunStatus.FAILED
    await worker.kill()
    await run.resume()
    await run.pause()
    await client.export_run("parent", tmp_path / "file")
    await import_run(there, tmp_path / "file")
    broken["is"] = False
    here = there
    await there.start_worker()
    await there.client().resume("parent")
    assert sorted(await there.client().handle(Branching, "parent").result(200)) == [1, 1]
    assert [child.status for child in await children_of(there, "parent")] == [None, RunStatus.COMPLETED]
