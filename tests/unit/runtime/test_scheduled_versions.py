"""Which version of a workflow a schedule starts, where that of its template is not here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from floxide_amqp import Schedule, Workflow, node
from floxide_amqp.core.agreement import agree, stand_in
from floxide_amqp.core.descriptions import describe_graph
from floxide_amqp.runtime.scheduled_runs import template_for_here, template_of
from floxide_amqp.stores import schedule_keys
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.test_versions import COMPATIBLE, One, end, enter, newer, tax

MakeCluster = Callable[..., Cluster]
PLACE = schedule_keys.schedule_partition("often")


async def test_a_schedule_starts_runs_of_the_version_that_is_here_whatever_was_compared_before(
    cluster: MakeCluster,
) -> None:
    two = newer(COMPATIBLE, enter >> tax >> end)  # 'end' alone agrees: it stands in for that of version 1
    services = cluster(two).client().services
    template = template_of(One.graph)
    assert (await template_for_here(services, template, PLACE)).version == "2"
    old = describe_graph(One.graph)
    services.registry.let_stand_in("Shop", "1", stand_in(two.graph, old, agree(old, describe_graph(two.graph))))
    assert (await template_for_here(services, template, PLACE)).version == "2"
    assert await template_for_here(cluster(One, two).client().services, template, PLACE) is template


def reporting(version: str, kind: Any) -> Any:
    """A version of a workflow that takes inputs of a type, on any worker of it."""

    @node
    async def report(subject: kind) -> str:
        return f"{version}: {subject!r}"

    class Report(Workflow[kind, str], version=version):
        start = report

    return Report


async def first_result(here: Cluster, workflow: Any) -> Any:
    client = here.client()
    async with asyncio.timeout(600):
        while not (found := (await client.schedules.get("often")).recent):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.5)
    return await client.handle(workflow, found[0].run_id or "").result(timeout=600)


async def test_a_leader_of_the_older_version_starts_the_newer_one_while_a_worker_of_that_is_there(
    cluster: MakeCluster,
) -> None:
    one, two = reporting("1", int), reporting("2", str)
    here = cluster(one)
    leader = await here.start_worker()
    async with asyncio.timeout(60):
        while not leader.worker.maintenance.is_leader:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)
    await here.start_worker(workflows=[two])
    await asyncio.sleep(5)
    here.workflows = (two,)
    await here.client().schedules.put(Schedule("often", two, "sales", every=60))

    assert await first_result(here, two) == "2: 'sales'"


async def test_a_schedule_goes_on_with_the_older_version_when_the_newer_one_was_taken_back(
    cluster: MakeCluster,
) -> None:
    one, two = reporting("1", int), reporting("2", int)
    here = cluster(two)
    newer_one = await here.start_worker()
    await here.client().schedules.put(Schedule("often", two, 7, every=60))
    await newer_one.stop()
    await here.start_worker(workflows=[one])

    assert await first_result(here, two) == "1: 7"
