"""Runs that move to another store with what says where their steps run: labels, task queues, versions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from floxide_amqp import NextAll, Workflow, WorkflowCtx, WorkItemStatus, gather, node
from floxide_amqp.core.descriptions import describe_graph
from floxide_amqp.runtime.settings import Limits
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.test_labels import moved
from tests.unit.runtime.test_moving_house import import_run, paused
from tests.unit.runtime.test_versions import COMPATIBLE, ONE_BY_ONE, One, begun, end, enter, newer, price, told

MakeCluster = Callable[..., Cluster]

RAN: dict[str, list[tuple[str, str]]] = {}
"""Which node ran on which worker, by run."""


def note(ctx: WorkflowCtx) -> None:
    RAN.setdefault(ctx.run_id, []).append((ctx.node, ctx.worker_id))


@node
async def split(ctx: WorkflowCtx, x: int) -> NextAll[int]:
    note(ctx)
    return NextAll(range(x))


@node(labels={"gpu"})
async def draw(ctx: WorkflowCtx, x: int) -> int:
    note(ctx)
    return x


@node(labels={"gpu", "eu"}, queue="presses")
async def press(ctx: WorkflowCtx, x: int) -> int:
    note(ctx)
    return x + 1


@node(queue="desk")
async def add(ctx: WorkflowCtx, xs: list[int]) -> int:
    note(ctx)
    return sum(xs)


class Prints(Workflow[int, int]):
    start = split
    edges = (split >> draw >> press >> gather(add),)


async def test_a_run_with_labelled_nodes_goes_on_in_another_store_on_workers_with_their_labels(
    cluster: MakeCluster, tmp_path: Path
) -> None:
    RAN.clear()
    here = cluster(Prints, limits=Limits(concurrency=2, chain_steps=1))
    plain, *_ = here.worker_of(labels=frozenset())
    drawing, *_ = here.worker_of(queues=["default"], labels={"gpu"}, only_labelled=True)
    client = here.client()
    await client.start(Prints, 12, run_id="run")
    assert await plain.run_once()
    for _ in range(5):  # so some are drawn, and none is pressed
        assert await drawing.run_once()
    await paused(here, "run")
    await client.export_run("run", tmp_path / "run")
    waiting = sorted((each.node, each.queue) for each in await client.pending_work("run"))
    assert waiting == sorted([("press", "presses/eu/gpu")] * 5 + [("draw", "default/gpu")] * 7)

    there = cluster(Prints)
    await import_run(there, tmp_path / "run")
    assert sorted((each.node, each.queue) for each in await there.client().pending_work("run")) == waiting
    RAN.clear()
    members = {
        "desk": await there.start_worker(labels=frozenset()),
        "gpu": await there.start_worker(labels={"gpu"}, only_labelled=True),
        "both": await there.start_worker(queues=["presses"], labels={"gpu", "eu"}, only_labelled=True),
    }
    await there.client().resume("run")

    assert await there.client().handle(Prints, "run").result(60) == sum(range(12)) + 12
    names = {name: member.name for name, member in members.items()}
    assert sorted(RAN["run"]) == sorted(
        [("draw", names["gpu"])] * 7 + [("press", names["both"])] * 12 + [("add", names["desk"])]
    )


async def test_steps_of_an_imported_run_wait_for_workers_with_their_labels_and_say_so(
    cluster: MakeCluster, tmp_path: Path
) -> None:
    RAN.clear()
    here = cluster(Prints, limits=ONE_BY_ONE)
    plain, *_ = here.worker_of(labels=frozenset())
    await here.client().start(Prints, 1, run_id="run")
    assert await plain.run_once()
    await paused(here, "run")
    await here.client().export_run("run", tmp_path / "run")
    there = cluster(Prints)
    await import_run(there, tmp_path / "run")
    await there.start_worker(labels=frozenset())
    client = there.client()
    await client.resume("run")
    await asyncio.sleep(60)

    (wait,) = (await client.run_info("run")).waits
    assert wait.what == "a worker that serves task queue 'default' with label gpu to run node 'draw'"
    await there.start_worker(labels={"gpu", "eu"})
    assert await client.handle(Prints, "run").result(60) == 1


async def test_an_imported_item_of_a_queue_that_this_store_never_knew_goes_to_where_its_node_is(
    cluster: MakeCluster, tmp_path: Path
) -> None:
    before, after = moved(labels=None, queue="old"), moved(labels=None, queue="new")
    here = cluster(before)
    await here.client().start(before, 1, run_id="run")
    await paused(here, "run")
    await here.client().export_run("run", tmp_path / "run")
    there = cluster(after)
    await import_run(there, tmp_path / "run")
    await there.start_worker()
    client = there.client()
    await client.resume("run")

    assert await client.handle(after, "run").result(300) == 1


async def test_queues_of_steps_that_have_ended_are_not_noted(cluster: MakeCluster, tmp_path: Path) -> None:
    before = moved(labels=None, queue="old")
    here = cluster(before)
    await here.start_worker()
    await (await here.client().start(before, 1, run_id="run")).result(60)
    await here.client().export_run("run", tmp_path / "run")
    there = cluster(before)
    await import_run(there, tmp_path / "run")

    assert await there.client().services.task_queues.known() == []


async def test_an_exported_run_takes_along_what_its_version_was(cluster: MakeCluster, tmp_path: Path) -> None:
    here = cluster(One, limits=ONE_BY_ONE)
    await told(here, One)
    await begun(here, One)
    await paused(here, "run")
    await here.client().export_run("run", tmp_path / "run")
    two = newer(COMPATIBLE, enter >> price >> end)
    there = cluster(two)
    await import_run(there, tmp_path / "run")
    client = there.client()
    assert await client.services.versions.find("Shop", "1") == describe_graph(One.graph)
    await there.start_worker()
    await client.resume("run")

    assert await client.handle(two, "run").result(100) == 2


async def test_what_a_store_knows_of_a_version_already_stays_as_it_is(cluster: MakeCluster, tmp_path: Path) -> None:
    here = cluster(One, limits=ONE_BY_ONE)
    await told(here, One)
    await begun(here, One)
    await paused(here, "run")
    await here.client().export_run("run", tmp_path / "run")
    other: Any = newer(COMPATIBLE, enter >> end)
    there = cluster(other)
    versions = there.client().services.versions
    description = b'{"described": "here"}'
    await versions.put("Shop", "1", description)
    await import_run(there, tmp_path / "run")

    assert await versions.read("Shop", "1") == description


async def test_a_run_of_which_nobody_has_described_the_version_moves_without(
    cluster: MakeCluster, tmp_path: Path
) -> None:
    here = cluster(One)
    client = here.client()
    await client.start(One, 1, run_id="run")
    await client.services.versions.remove("Shop", "1", stamp=1)
    await paused(here, "run")
    await client.export_run("run", tmp_path / "run")
    there = cluster(One)
    await import_run(there, tmp_path / "run")

    assert await there.client().services.versions.all() == []
    (item,) = await there.client().pending_work("run")
    assert item.status is WorkItemStatus.PENDING
