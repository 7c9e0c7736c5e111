"""Descriptions of versions that only those have who start runs, while workers have a newer one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from floxide_amqp import Schedule, VersionPolicy
from floxide_amqp.core.descriptions import Description, describe_graph
from floxide_amqp.core.graph import Graph
from floxide_amqp.runtime import told_versions
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.test_unserved import moved

MakeCluster = Callable[..., Cluster]

ONE = moved("1", "default")
TWO = moved("2", "default", versions=VersionPolicy.COMPATIBLE)


async def test_runs_of_a_version_that_no_worker_ever_had_are_run_by_a_newer_one_that_agrees(
    cluster: MakeCluster,
) -> None:
    here = cluster(ONE)
    await here.start_worker(workflows=[TWO])

    assert await (await here.client().start(ONE, 1)).result(60) == 1


async def test_runs_that_are_started_into_a_queue_which_no_worker_ever_knew_go_on_where_the_newer_version_is(
    cluster: MakeCluster,
) -> None:
    one, two = moved("1", "old"), moved("2", "new", versions=VersionPolicy.COMPATIBLE)
    here = cluster(one)
    await here.start_worker(workflows=[two])

    assert await (await here.client().start(one, 1)).result(60) == 1


async def test_many_first_starts_at_once_describe_their_version_once(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    described: list[str] = []

    def describing(graph: Graph) -> Description:
        described.append(graph.workflow)
        return describe_graph(graph)

    monkeypatch.setattr(told_versions, "describe_graph", describing)
    client = cluster(ONE).client()
    await asyncio.gather(*(client.start(ONE, number) for number in range(50)))
    assert described == ["Moved"]


async def test_who_goes_on_starting_runs_of_an_older_version_keeps_its_description(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(told_versions, "PRUNE_EVERY_SECONDS", 60.0)
    here = cluster(ONE)
    client = here.client()
    member = await here.start_worker(workflows=[TWO])
    for number in range(20):  # each a while after the other: no run needs the description for most of the time
        assert await (await client.start(ONE, number)).result(60) == number
        await asyncio.sleep(17)
    assert "workflow.forgotten" not in caplog.text
    await member.stop()
    await here.start_worker(workflows=[TWO])

    assert await (await client.start(ONE, 2)).result(60) == 2


async def test_a_description_that_was_forgotten_in_a_quiet_time_is_there_again_with_the_next_run(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told_versions, "PRUNE_EVERY_SECONDS", 60.0)
    here = cluster(ONE)
    client = here.client()
    member = await here.start_worker(workflows=[TWO])
    assert await (await client.start(ONE, 1)).result(60) == 1
    while ("Moved", "1") in await client.services.versions.all():  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(10)
    await member.stop()
    await here.start_worker(workflows=[TWO])

    assert await (await client.start(ONE, 2)).result(60) == 2


async def test_a_version_that_a_schedule_is_going_to_start_stays_described_until_that_is_deleted(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told_versions, "PRUNE_EVERY_SECONDS", 60.0)
    here = cluster(ONE)
    client = here.client()
    member = await here.start_worker()
    await client.schedules.put(Schedule("rare", ONE, 1, every=timedelta(days=1)))
    await member.stop()
    await here.start_worker(workflows=[moved("1", "default", name="Other")])
    await asyncio.sleep(600)
    assert ("Moved", "1") in await client.services.versions.all()

    await client.schedules.delete("rare")
    async with asyncio.timeout(600):
        while ("Moved", "1") in await client.services.versions.all():  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(10)


async def test_of_thousands_of_starts_one_tells_the_version(cluster: MakeCluster) -> None:
    client = cluster(ONE).client()
    await client.start(ONE, 1)
    stamps = await client.services.versions.stamps()
    for number in range(20):
        await client.start(ONE, number)

    assert await client.services.versions.stamps() == stamps == {("Moved", "1"): 1}
