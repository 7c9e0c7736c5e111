"""Heartbeats vouch for items one by one: what does not end goes on elsewhere, and its late result is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from floxide_amqp import RunStatus, Workflow, WorkflowCtx, node
from floxide_amqp.core.ids import RunId, WorkerId, WorkItemId
from floxide_amqp.core.worker_records import StuckBody
from floxide_amqp.runtime.views import Liveness
from floxide_amqp.runtime.vitals import Vitals, WatchedStep, new_record, next_beat
from floxide_amqp.stores.liveness import HUNG
from tests.unit.runtime.cluster import QUICK, Cluster, Member

MakeCluster = Callable[..., Cluster]

LONG = QUICK.early_acknowledge + 60.0


class Bodies:
    """A node that takes long the first time, and who began it."""

    def __init__(self) -> None:
        self.began: list[str] = []
        bodies = self

        @node
        async def works(ctx: WorkflowCtx, x: int) -> int:
            bodies.began.append(ctx.worker_id)
            await asyncio.sleep(LONG if len(bodies.began) == 1 else 0.1)
            return x + len(bodies.began)

        @node
        async def follows(x: int) -> int:
            await asyncio.sleep(2 * LONG)
            return x

        class Working(Workflow[int, int]):
            start = works
            edges = (works >> follows,)

        self.workflow = Working


def make_overdue(member: Member) -> None:
    """As if the body should have ended long since and the event loop had not been there to do something about it."""
    (step,) = member.services.inflight
    step.body_due = asyncio.get_running_loop().time() - 1_000


@pytest.mark.fault(42)
async def test_an_item_that_its_worker_does_not_vouch_for_goes_on_elsewhere_and_the_late_result_is_refused(
    cluster: MakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    bodies = Bodies()
    here = cluster(bodies.workflow)
    await here.start_leader()
    stuck = await here.start_worker()
    client = here.client()
    run = await client.start(bodies.workflow, 1, run_id="run")
    await asyncio.sleep(QUICK.early_acknowledge + 1)
    await here.start_worker()
    make_overdue(stuck)
    await asyncio.sleep(QUICK.heartbeat + 3)
    (shown,) = [worker for worker in await client.workers() if worker.worker_id == stuck.name]
    assert [(body.run_id, body.node, body.is_given_up) for body in shown.stuck] == [("run", "works", True)]
    assert bodies.began[0] == stuck.name
    assert len(bodies.began) == 2
    assert await run.result(3 * LONG) == 3
    assert stuck.worker.health().late_commits == 1
    late = f"step.came_late run_id=run item_id={shown.stuck[0].item_id} node=works worker_id={stuck.name}"
    assert late in caplog.text
    await here.check_completed("run")


async def test_the_other_items_of_a_worker_with_a_stuck_one_stay_where_they_are(cluster: MakeCluster) -> None:
    bodies = Bodies()

    @node
    async def patient(ctx: WorkflowCtx, x: int) -> int:
        tries.append(ctx.worker_id)
        await asyncio.sleep(LONG)
        return x

    class Patient(Workflow[int, int]):
        start = patient
        edges = ()

    tries: list[str] = []
    here = cluster(bodies.workflow, Patient)
    await here.start_leader()
    stuck = await here.start_worker()
    client = here.client()
    run = await client.start(bodies.workflow, 1, run_id="run")
    await asyncio.sleep(QUICK.early_acknowledge + 1)
    make_overdue(stuck)
    neighbour = await client.start(Patient, 1, run_id="neighbour")
    await here.start_worker()
    await asyncio.gather(run.wait(400), neighbour.wait(400))
    assert len(tries) == 1


async def test_a_worker_that_says_its_loop_hangs_loses_all_it_holds(cluster: MakeCluster) -> None:
    bodies = Bodies()
    here = cluster(bodies.workflow)
    await here.start_leader()
    hung = await here.start_worker()
    run = await here.client().start(bodies.workflow, 1, run_id="run")
    await asyncio.sleep(QUICK.early_acknowledge + 1)
    other = await here.start_worker()
    liveness = here.client().services.liveness
    await hung.queue.cut()  # a loop that hangs takes nothing in
    for _ in range(10):  # its heartbeat's thread would say so with each beat
        found, version = await liveness.find(hung.name)
        assert found is not None
        loop_time = asyncio.get_running_loop().time()
        await liveness.beat_after(next_beat(found, Vitals(), found.at_ms, loop_time=loop_time, status=HUNG), version)
        await asyncio.sleep(1)
    assert await run.wait(3 * LONG) is RunStatus.COMPLETED
    assert bodies.began == [hung.name, other.name]


@pytest.mark.fault(42)
async def test_a_timed_out_node_that_swallows_its_cancellation_is_shown_as_left_behind_until_it_ends(
    cluster: MakeCluster,
) -> None:
    let_go = asyncio.Event()

    @node(timeout=timedelta(seconds=2))
    async def stubborn(x: int) -> int:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        return x

    class Stubborn(Workflow[int, int]):
        start = stubborn
        edges = ()

    here = cluster(Stubborn)
    member = await here.start_worker()
    client = here.client()
    run = await client.start(Stubborn, 1, run_id="run")
    assert await run.wait(30) is RunStatus.FAILED
    (error,) = await client.errors("run")
    assert error.error_type == "NodeTimeoutError"
    await asyncio.sleep(2 * QUICK.heartbeat)
    (worker,) = await client.workers()
    assert [(body.node, body.is_given_up) for body in worker.stuck] == [("stubborn", False)]
    assert [body.node for body in member.worker.health().stuck] == ["stubborn"]
    let_go.set()
    await asyncio.sleep(2 * QUICK.heartbeat)
    assert member.worker.health().stuck == ()


async def test_a_node_within_its_time_is_vouched_for_although_it_takes_long(cluster: MakeCluster) -> None:
    @node(timeout=timedelta(seconds=300))
    async def slow(x: int) -> int:
        await asyncio.sleep(200)
        return x

    class Slow(Workflow[int, int]):
        start = slow
        edges = ()

    here = cluster(Slow)
    member = await here.start_worker()
    await here.start_worker()
    run = await here.client().start(Slow, 1, run_id="run")
    await asyncio.sleep(150)
    assert member.worker.health().stuck == ()
    assert await run.wait(100) is RunStatus.COMPLETED
    assert (await here.history("run"))[0].attempts == 1


def test_a_heartbeat_names_what_is_overdue_by_the_time_of_the_beat_whatever_the_loop_does() -> None:
    body = StuckBody(RunId("run"), WorkItemId("item"), "n", 0, 0, 0, is_given_up=True)
    record = new_record(WorkerId("w"), now_ms=0, queues=(), workflows=(), concurrency=1)
    vitals = Vitals(watched=(WatchedStep(body=body, due=100.0),))
    assert next_beat(record, vitals, 0, loop_time=99.9).stuck == ()
    assert next_beat(record, vitals, 0, loop_time=100.0).stuck == (body,)


async def test_a_worker_whose_heartbeat_stands_still_is_stale_and_then_dead(cluster: MakeCluster) -> None:
    here = cluster(Bodies().workflow)
    client = here.client()
    assert await client.check_worker_liveness("nobody") is Liveness.DEAD
    member = await here.start_worker()
    await asyncio.sleep(QUICK.heartbeat)
    seen = [await client.check_worker_liveness(member.name)]
    await member.kill()
    while seen[-1] is not Liveness.DEAD:  # time is virtual
        await asyncio.sleep(QUICK.heartbeat)
        seen.append(await client.check_worker_liveness(member.name))
    assert list(dict.fromkeys(seen)) == [Liveness.ALIVE, Liveness.STALE, Liveness.DEAD]
