"""Task queues that nobody serves any more, by what is known of the versions of what lies in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from floxide_amqp import Limits, RunStatus, VersionPolicy, Workflow, node
from floxide_amqp.core.migration import RunToMigrate
from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.ports.work_queue import Message, PublishOutcome
from floxide_amqp.runtime import parked
from floxide_amqp.runtime.registry import Registry
from floxide_amqp.runtime.services import Services
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.test_labels import Drawn, unserved

MakeCluster = Callable[..., Cluster]


def moved(version: str, queue: str, *, name: str = "Moved", **more: Any) -> Any:
    """Versions of one workflow whose node is in different queues."""

    @node(queue=queue)
    async def work(x: int) -> int:
        return x

    class Moved(Workflow[int, int], name=name, version=version, **more):
        start = work

    return Moved


async def told(here: Cluster, workflow: Any) -> None:
    """Let a worker describe a version, and stop."""
    member = await here.start_worker(workflows=[workflow], queues=["elsewhere"])
    while not await here.client().services.versions.all():  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    await member.stop()


@pytest.mark.parametrize("policy", [VersionPolicy.AUTO_UPGRADE, VersionPolicy.COMPATIBLE])
async def test_an_older_run_in_a_queue_that_nobody_serves_any_more_goes_on_by_the_policy_of_the_newer_version(
    cluster: MakeCluster, policy: VersionPolicy
) -> None:
    before, after = moved("1", "old"), moved("2", "new", versions=policy)
    here = cluster(before)
    await told(here, before)
    run = await here.client().start(before, 1)
    new = await here.start_worker(workflows=[after])

    assert await run.result(600) == 1
    while new.worker.maintenance.unserved_since_ms:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    assert not here.store.leftovers("messages", "m:")


async def test_a_step_for_whose_old_queue_the_broker_has_none_any_more_goes_on_where_its_node_is_now(
    cluster: MakeCluster,
) -> None:
    def without_old(services: Services) -> None:
        publish = services.queue.publish

        async def publish_elsewhere(messages: Sequence[Message]) -> Sequence[PublishOutcome]:
            said = await publish([each for each in messages if each.queue != "old"])
            left = list(said)
            return [PublishOutcome.RETURNED if each.queue == "old" else left.pop(0) for each in messages]

        services.queue.publish = publish_elsewhere  # type: ignore[method-assign]

    before, after = moved("1", "old"), moved("1", "new")
    here = cluster(before)
    client = here.client()
    without_old(client.services)
    run = await client.start(before, 1)
    assert await run.status() is RunStatus.PENDING
    member = await here.start_worker(workflows=[after])
    without_old(member.services)

    assert await run.result(600) == 1
    assert await here.settle() == {}


async def test_an_older_run_in_a_queue_that_nobody_serves_waits_for_its_version_where_the_policy_is_strict(
    cluster: MakeCluster,
) -> None:
    before, after = moved("1", "old"), moved("2", "new")
    here = cluster(before)
    await told(here, before)
    run = await here.client().start(before, 1)
    new = await here.start_worker(workflows=[after])
    await unserved(new)
    await asyncio.sleep(60)
    (item,) = await here.client().pending_work(run.run_id)

    assert item.queue == "old"
    await here.start_worker(workflows=[before])
    assert await run.result(60) == 1


async def test_a_run_whose_node_the_newer_version_lacks_is_raised_though_nobody_serves_its_queue(
    cluster: MakeCluster,
) -> None:
    @node(queue="new")
    async def other(x: int) -> int:
        return x + 1

    class After(Workflow[int, int], name="Moved", version="2", versions=VersionPolicy.AUTO_UPGRADE):
        start = other

        @classmethod
        def migrate(cls, run: RunToMigrate) -> None:
            for step in run.steps:
                step.move_to("other", step.read(int))

    before = moved("1", "old")
    here = cluster(before)
    await told(here, before)
    run = await here.client().start(before, 1)
    await here.start_worker(workflows=[After])

    assert await run.result(600) == 2


async def test_several_steps_of_a_run_in_such_a_queue_are_raised_together_and_each_runs_once(
    cluster: MakeCluster,
) -> None:
    def many(version: str, queue: str, **more: Any) -> Any:
        @node(queue=queue)
        async def begin(x: int) -> int:
            return x

        @node(queue=queue)
        async def work(x: int) -> int:
            return x

        class Many(Workflow[int, list[int]], name="Many", version=version, **more):
            start = begin
            edges = (begin >> (work.named("a"), work.named("b"), work.named("c")),)

        return Many

    before, after = many("1", "old"), many("2", "new", versions=VersionPolicy.AUTO_UPGRADE)
    here = cluster(before, limits=Limits(concurrency=8, chain_steps=1))
    run = await here.client().start(before, 1)
    worker, *_ = here.worker_of(workflows=[before], queues=["old"])
    assert await worker.run_once()
    await told(here, before)
    await here.start_worker(workflows=[after])

    assert await run.result(600) == [1, 1, 1]
    assert sorted(each.node for each in await here.history(run.run_id)) == ["a", "b", "begin", "c"]


@pytest.mark.parametrize("end", ["cancel", "terminate"])
async def test_a_cancelled_run_waits_for_no_worker_with_its_labels_any_more(cluster: MakeCluster, end: str) -> None:
    here = cluster(Drawn)
    member = await here.start_worker(labels={"none"})
    client = here.client()
    run = await client.start(Drawn, 1)
    await unserved(member)
    await (client.cancel if end == "cancel" else client.terminate)(run.run_id)
    while member.worker.maintenance.unserved_since_ms:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)

    assert not here.store.leftovers("messages", "m:")


async def test_a_paused_run_waits_for_no_worker_either_and_does_again_when_it_is_resumed(cluster: MakeCluster) -> None:
    here = cluster(Drawn)
    member = await here.start_worker(labels={"none"})
    client = here.client()
    run = await client.start(Drawn, 1)
    await unserved(member)
    await client.pause(run.run_id)
    while member.worker.maintenance.unserved_since_ms:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    await client.resume(run.run_id)
    await unserved(member)
    await here.start_worker(labels={"gpu"})

    assert await run.result(60) == 2


async def test_items_behind_many_kinds_in_a_queue_that_nobody_serves_are_found(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parked, "KINDS_PER_ROUND", 3)
    others = [moved("1", "old", name=f"A{number}") for number in range(4)]
    ours, after = moved("1", "old", name="Z"), moved("1", "new", name="Z")
    here = cluster(*others, ours)
    lacking = await here.start_worker(workflows=[moved("1", "old", name="Nobody")])
    client = here.client()
    for each in others:
        await client.start(each, 1)
    run = await client.start(ours, 1)
    while len(await client.services.indexes.parked("old", limit=10)) < 5:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    await lacking.stop()
    await here.start_worker(workflows=[after])

    assert await run.result(900) == 1


@pytest.mark.parametrize("queues", [["default/gpu"], ["default", "default/gpu"]])
def test_a_worker_that_is_told_to_serve_a_queue_of_labels_it_lacks_is_refused(queues: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Registry([Drawn]).served(queues, frozenset({"ssd"}))
    assert str(caught.value) == (
        "This worker is told to serve task queue 'default/gpu', which is for workers with label gpu, and its labels "
        "are ssd. Give it those labels too, or leave the queue to others."
    )


def test_a_queue_of_labels_may_be_named_by_who_has_them_and_by_who_has_every_label() -> None:
    registry = Registry([Drawn])
    assert registry.served(["default/gpu"], frozenset({"gpu", "eu"})) == ("default/gpu",)
    assert registry.served(["default/gpu"], None) == ("default/gpu",)
    assert registry.served(["default"], frozenset()) == ("default",)  # it serves what may come to it
