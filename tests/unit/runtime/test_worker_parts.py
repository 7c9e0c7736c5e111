"""A part of a worker that ends by itself is named, so that whoever asks after the worker's health learns of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from floxide_amqp import Workflow, node
from floxide_amqp.core.commit_conditions import TurnIs
from floxide_amqp.core.decisions import Decision
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.stores.writes import BatchWriter
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]


@node
async def fail_twice(x: int) -> int:
    raise ValueError(x)


@node
async def double(x: int) -> int:
    return 2 * x


class Doubles(Workflow[int, int]):
    start = double


class Failing(Workflow[int, int]):
    start = fail_twice


async def test_a_part_that_ends_by_itself_is_named(cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = cluster(Doubles)
    worker, *_ = bench.worker_of()

    async def break_down() -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(worker.maintenance, "run", break_down)
    task = asyncio.create_task(worker.run_forever())
    await asyncio.sleep(1)
    assert worker.parts_ended == ["maintenance"]
    assert worker.health().status == "running"
    worker.stop()
    await task
    assert worker.parts_ended == ["maintenance"], "parts that are ended with the worker do not count"


async def test_what_a_worker_does_is_counted(cluster: MakeCluster) -> None:
    bench = cluster(Doubles, Failing, is_durable=False)  # without probes
    member = await bench.start_worker()
    client = bench.client()
    for n in range(3):
        assert await (await client.start(Doubles, n)).result(60) == 2 * n
    await client.wait((await client.start(Failing, 1)).run_id, 60)
    figures = member.services.figures
    assert figures.node("Doubles", "double").committed == 3
    assert sum(figures.node("Doubles", "double").durations.counts) == 3
    failing = figures.node("Failing", "fail_twice")
    assert (failing.committed, failing.failed, failing.retried) == (0, 1, 0)
    assert figures.runs_finished == {"completed": 3, "failed": 1}
    assert figures.deliveries - figures.dismissed == 4
    assert client.services.figures.publishes == {"confirmed": 4}
    assert sum(member.services.session.figures.groups["commit"].counts) > 0


async def test_a_commit_that_somebody_else_was_faster_than_is_counted(cluster: MakeCluster) -> None:
    services = cluster(Doubles).client().services
    decision = Decision(conditions=(TurnIs(WorkItemId("nothing"), 7),), changes=())
    await services.commit(BatchWriter(RunId("none"), 0), decision)
    assert services.figures.conflicts == 1
