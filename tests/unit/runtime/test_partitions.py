"""A worker cut off from its store or from its broker, and a slow store: nothing late counts, nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from floxide_amqp import RunStatus, Workflow, WorkflowCtx, node
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.ports.key_value import Batch
from tests.unit.runtime.cluster import QUICK, Cluster

MakeCluster = Callable[..., Cluster]


class Chained:
    """Two steps, of which the first takes some time; who ran what is noted."""

    def __init__(self, seconds: float) -> None:
        self.bodies: list[tuple[str, str]] = []
        bodies = self.bodies

        @node
        async def slow(ctx: WorkflowCtx, x: int) -> int:
            bodies.append(("slow", ctx.worker_id))
            await asyncio.sleep(seconds)
            return x + 1

        @node
        async def after(ctx: WorkflowCtx, x: int) -> int:
            bodies.append(("after", ctx.worker_id))
            return x * 10

        class Chain(Workflow[int, int]):
            start = slow
            edges = (slow >> after,)

        self.workflow = Chain


@pytest.mark.fault(28)
@pytest.mark.parametrize("seconds", [2.0, QUICK.early_acknowledge + 5], ids=["short step", "long step"])
async def test_a_worker_cut_off_from_the_store_commits_nothing_late_and_what_it_held_goes_on_elsewhere(
    cluster: MakeCluster, seconds: float
) -> None:
    chained = Chained(seconds)
    here = cluster(chained.workflow)
    cut_off = await here.start_worker()
    client = here.client()
    run = await client.start(chained.workflow, 1, run_id="run")
    await asyncio.sleep(min(seconds - 1, QUICK.early_acknowledge + 2))
    await here.start_worker()
    cut_off.store.cut()  # its broker is fine: it holds its message
    await asyncio.sleep(2 * QUICK.dead_after + seconds)
    if seconds > QUICK.early_acknowledge:  # a long step is in the store's hands; the message of a short one in its own
        assert await run.wait(30) is RunStatus.COMPLETED
    cut_off.store.heal()
    assert await run.result(100) == 20
    await here.check_completed("run")
    assert [name for name, _ in chained.bodies].count("after") == 1


@pytest.mark.fault(28)
async def test_a_claimed_step_of_a_worker_cut_off_is_refused_when_the_store_is_back(cluster: MakeCluster) -> None:
    chained = Chained(QUICK.early_acknowledge + 20)
    here = cluster(chained.workflow)
    cut_off = await here.start_worker()
    client = here.client()
    run = await client.start(chained.workflow, 1, run_id="run")
    await asyncio.sleep(QUICK.early_acknowledge + 2)
    other = await here.start_worker()
    cut_off.store.cut()
    while len(chained.bodies) < 2:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.5)
    cut_off.store.heal()  # before its body returns
    assert await run.result(200) == 20
    assert [worker for name, worker in chained.bodies if name == "slow"] == [cut_off.name, other.name]
    assert cut_off.worker.health().late_commits + len(await client.errors("run")) <= 1
    assert [entry.item_id for entry in await here.history("run")] == list(
        dict.fromkeys(entry.item_id for entry in await here.history("run"))
    )
    await here.check_completed("run")


@pytest.mark.fault(29)
async def test_a_worker_cut_off_from_its_broker_commits_and_others_go_on_from_there(cluster: MakeCluster) -> None:
    chained = Chained(QUICK.early_acknowledge + 10)
    here = cluster(chained.workflow)
    cut_off = await here.start_worker()
    client = here.client()
    run = await client.start(chained.workflow, 1, run_id="run")
    await asyncio.sleep(QUICK.early_acknowledge + 2)
    await here.start_worker()
    await cut_off.queue.cut()
    assert await run.result(100) == 20
    assert [name for name, _ in chained.bodies] == ["slow", "after"], "its commit stands, and no body ran again"
    await here.check_completed("run")


@pytest.mark.fault(29)
async def test_what_a_worker_cut_off_from_its_broker_cannot_publish_reaches_others_through_the_store(
    cluster: MakeCluster,
) -> None:
    @node
    async def first(x: int) -> int:
        await asyncio.sleep(2)
        return x

    @node(queue="other")
    async def second(x: int) -> int:
        return x + 1

    class Two(Workflow[int, int]):
        start = first
        edges = (first >> second,)

    here = cluster(Two)
    cut_off = await here.start_worker(queues=["default"])
    client = here.client()
    run = await client.start(Two, 1, run_id="run")
    await asyncio.sleep(1)
    await here.start_worker(queues=["default", "other"])
    await cut_off.queue.cut()
    assert await run.result(100) == 2
    await here.check_completed("run")


@pytest.mark.fault(26)
async def test_a_slow_store_starves_no_heartbeat(cluster: MakeCluster) -> None:
    @node
    async def works(ctx: WorkflowCtx, x: int) -> int:
        tries.append(x)
        await asyncio.sleep(QUICK.early_acknowledge + 30)
        return x

    class Working(Workflow[int, int]):
        start = works
        edges = ()

    async def be_slow(batches: Sequence[Batch]) -> None:
        await asyncio.sleep(5)

    tries: list[int] = []
    here = cluster(Working, timeouts=replace(QUICK, dead_after=15.0))
    members = [await here.start_worker() for _ in range(2)]
    client = here.client()
    runs = [await client.start(Working, n, run_id=f"run-{n}") for n in range(10)]
    for member in members:
        member.store.before_commit = be_slow
    for run in runs:
        assert await run.wait(600) is RunStatus.COMPLETED
    assert sorted(tries) == list(range(10)), "nobody was taken for dead, so no body ran twice"
    ended = [entry.status for n in range(10) for entry in await here.history(f"run-{n}")]
    assert ended == [WorkItemStatus.COMPLETED] * 10
