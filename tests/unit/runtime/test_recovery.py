"""Workers that die, drain, lose their store or their messages; and what nobody may run twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import pytest

from floxide_amqp import (
    Context,
    NextAll,
    RunFailedError,
    RunStatus,
    Sum,
    Workflow,
    WorkflowCtx,
    WorkItemStatus,
    gather,
    node,
)
from floxide_amqp.core.ids import WorkerId
from floxide_amqp.ports.key_value import Append, Batch
from floxide_amqp.ports.work_queue import Message
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.testing.queue_faults import QueueFaults
from tests.unit.runtime.cluster import QUICK, Cluster

MakeCluster = Callable[..., Cluster]


class Notes(Context):
    total: Annotated[int, Sum()] = 0


class Gate:
    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.bodies: list[str] = []


def two_steps(gate: Gate, **options: Any) -> Any:
    """A quick step and one that waits at a gate; the second is what the worker of the first goes on with."""

    @node
    async def quick(x: int) -> int:
        return x

    @node(**options)
    async def waits(ctx: WorkflowCtx[Notes], x: int) -> int:
        gate.bodies.append(ctx.worker_id)
        ctx.state.total += 1
        gate.begun.set()
        await gate.go.wait()
        return x

    class TwoSteps(Workflow[int, int, Notes]):
        start = quick
        edges = (quick >> waits,)

    return TwoSteps


@pytest.mark.fault(2)
@pytest.mark.parametrize("seconds", [0.1, QUICK.early_acknowledge + 1])
async def test_what_a_dead_worker_had_in_its_hands_is_done_by_another(cluster: MakeCluster, seconds: float) -> None:
    gate = Gate()
    here = cluster(two_steps(gate))
    victim = await here.start_worker()
    handle = await here.client().start(here.workflows[0], 3, run_id="run")
    await gate.begun.wait()
    await asyncio.sleep(seconds)
    await victim.kill()
    await here.start_worker()
    await asyncio.sleep(60)
    gate.go.set()
    assert await handle.result(60) == 3
    assert len(gate.bodies) == 2
    assert (await here.client().context(here.workflows[0], "run")).total == 1
    await here.check_completed("run")


@pytest.mark.parametrize("seconds", [0.1, QUICK.early_acknowledge + 1])
async def test_what_does_not_end_while_a_worker_drains_goes_to_another(cluster: MakeCluster, seconds: float) -> None:
    gate = Gate()
    here = cluster(two_steps(gate))
    first = await here.start_worker()
    handle = await here.client().start(here.workflows[0], 3, run_id="run")
    await gate.begun.wait()
    await asyncio.sleep(seconds)
    await first.stop()
    assert here.store.leftovers("owned:") == {}
    await here.start_worker()
    await asyncio.sleep(30)
    gate.go.set()
    assert await handle.result(30) == 3
    (item,) = [entry for entry in await here.history("run") if entry.node == "waits"]
    assert item.attempts == 1
    await here.check_completed("run")


async def test_a_draining_worker_ends_its_step_and_leaves_the_next_to_others(cluster: MakeCluster) -> None:
    gate = Gate()
    here = cluster(two_steps(gate))
    first = await here.start_worker()
    handle = await here.client().start(here.workflows[0], 3, run_id="run")
    await gate.begun.wait()
    first.worker.stop()
    await asyncio.sleep(1)
    gate.go.set()
    await first.task
    assert await handle.result(30) == 3
    assert gate.bodies == ["worker-1"]
    await here.check_completed("run")


@pytest.mark.fault(6)
async def test_a_zombie_cannot_commit_what_was_given_to_another(cluster: MakeCluster) -> None:
    gate = Gate()
    here = cluster(two_steps(gate))
    zombie = await here.start_worker()
    handle = await here.client().start(here.workflows[0], 3, run_id="run")
    await gate.begun.wait()
    zombie.store.cut()
    await here.start_worker()
    await asyncio.sleep(QUICK.early_acknowledge + QUICK.dead_after + 30)
    await zombie.queue.cut()
    await asyncio.sleep(30)
    zombie.store.heal()
    gate.go.set()
    assert await handle.result(120) == 3
    await asyncio.sleep(60)
    assert (await here.client().context(here.workflows[0], "run")).total == 1
    await here.check_completed("run")


@pytest.mark.parametrize("how", ["killed", "drained", "message only"])
@pytest.mark.parametrize("seconds", [0.1, QUICK.early_acknowledge + 1])
async def test_an_at_most_once_node_never_runs_twice_whatever_becomes_of_its_worker(
    cluster: MakeCluster, how: str, seconds: float
) -> None:
    gate = Gate()
    here = cluster(two_steps(gate, at_most_once=True))
    first = await here.start_worker()
    handle = await here.client().start(here.workflows[0], 3, run_id="run")
    await gate.begun.wait()
    await asyncio.sleep(seconds)
    if how == "drained":
        await first.stop()
    elif how == "killed":
        await first.kill()
    else:
        await first.queue.cut()
        await first.kill()
    await here.start_worker()
    with pytest.raises(RunFailedError, match="OutcomeUnknownError"):
        await handle.result(100)
    assert gate.bodies == ["worker-1"]
    gate.go.set()
    await handle.resume()  # a person has looked and says: again
    assert await handle.result(30) == 3
    await here.check_completed("run")


async def test_an_at_most_once_node_that_is_the_first_is_claimed_before_it_runs(cluster: MakeCluster) -> None:
    gate = Gate()

    @node(at_most_once=True)
    async def once(ctx: WorkflowCtx[Notes], x: int) -> int:
        gate.bodies.append(ctx.worker_id)
        gate.begun.set()
        await gate.go.wait()
        return x

    class Once(Workflow[int, int, Notes]):
        start = once
        edges = ()

    here = cluster(Once)
    victim = await here.start_worker()
    handle = await here.client().start(Once, 3, run_id="run")
    await gate.begun.wait()
    (item,) = await here.client().pending_work("run")
    assert (item.status, item.owner) == (WorkItemStatus.IN_PROGRESS, victim.name)
    await victim.kill()
    await here.start_worker()
    with pytest.raises(RunFailedError, match="OutcomeUnknownError"):
        await handle.result(100)
    assert len(gate.bodies) == 1


@pytest.mark.fault(45)
async def test_an_item_on_which_three_owners_die_is_poison(cluster: MakeCluster) -> None:
    gate = Gate()
    here = cluster(two_steps(gate))
    handle = await here.client().start(here.workflows[0], 3, run_id="run")
    for _ in range(3):
        victim = await here.start_worker()
        await gate.begun.wait()
        gate.begun.clear()
        await victim.kill()
    await here.start_worker()
    with pytest.raises(RunFailedError, match="PoisonError"):
        await handle.result(100)
    assert len(gate.bodies) == 3


@pytest.mark.fault(9)
async def test_a_lost_message_is_found_by_a_probe(cluster: MakeCluster) -> None:
    gate = Gate()
    gate.go.set()
    here = cluster(two_steps(gate))
    await here.start_worker()
    client = here.client()
    queue: Any = client.services.queue
    queue.faults = QueueFaults(dropped=1.0)
    handle = await client.start(here.workflows[0], 3, run_id="run")
    assert await handle.result(60) == 3
    await here.check_completed("run")


async def test_a_lost_message_is_found_although_the_leader_does_not_serve_its_queue(cluster: MakeCluster) -> None:
    gate = Gate()
    gate.go.set()
    workflow = two_steps(gate)
    here = cluster(workflow)
    leader = await here.start_worker(queues=["elsewhere"])
    await asyncio.sleep(3)
    await here.start_worker(queues=["default"])
    client = here.client()
    queue: Any = client.services.queue
    queue.faults = QueueFaults(dropped=1.0)
    handle = await client.start(workflow, 3, run_id="run")
    assert leader.worker.maintenance.is_leader
    assert await handle.result(60) == 3
    await here.check_completed("run")


@pytest.mark.fault(15)
async def test_a_message_without_a_queue_is_published_again_with_its_reason_shown(cluster: MakeCluster) -> None:
    gate = Gate()
    gate.go.set()
    here = cluster(two_steps(gate))
    await here.start_worker()
    client = here.client()
    queue: Any = client.services.queue
    queue.faults = QueueFaults(returned=1.0)
    handle = await client.start(here.workflows[0], 3, run_id="run")
    (item,) = await client.pending_work("run")
    assert "no queue is bound" in item.note
    assert await handle.result(60) == 3
    await here.check_completed("run")


@pytest.mark.fault(38)
async def test_an_item_without_its_workflow_is_parked_until_a_worker_has_it(cluster: MakeCluster) -> None:
    gate = Gate()
    gate.go.set()
    workflow = two_steps(gate)

    class Other(Workflow[int, int]):
        start = node(unchanged)
        edges = ()

    here = cluster(workflow)
    await here.start_worker(workflows=[Other], queues=["default"])
    handle = await here.client().start(workflow, 3, run_id="run")
    await asyncio.sleep(30)
    (item,) = await here.client().pending_work("run")
    assert item.status is WorkItemStatus.PARKED
    assert "TwoSteps" in item.note
    await here.members[0].stop()
    await here.start_worker()
    assert await handle.result(30) == 3
    await here.check_completed("run")


async def unchanged(x: int) -> int:
    return x


@pytest.mark.fault(35)
async def test_garbage_is_quarantined_with_its_bytes_and_the_worker_goes_on(cluster: MakeCluster) -> None:
    gate = Gate()
    gate.go.set()
    here = cluster(two_steps(gate))
    await here.start_worker()
    garbage = [b"", b"\xc1", b"hello", b"\x93\x01\x02\x03", b"\x93\x01" + b"\x91" * 900 + b"\x00\x02", b"\x90" * 70_000]
    await here.queue.publish([Message(queue="default", body=body) for body in garbage])
    handle = await here.client().start(here.workflows[0], 3, run_id="run")
    assert await handle.result(10) == 3
    await asyncio.sleep(1)
    client = here.client()
    found = [await client.quarantined(each.quarantine_id) for each in await client.quarantine()]
    assert sorted(each.body for each in found if each is not None) == sorted(garbage)
    assert here.members[0].worker.health().error_count == 0


@pytest.mark.fault(27)
async def test_a_join_closed_by_a_commit_whose_reply_was_lost_is_run(cluster: MakeCluster) -> None:
    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll([1, 2])

    @node
    async def part(x: int) -> int:
        await asyncio.sleep(x)
        return x

    @node
    async def joined(xs: list[int]) -> int:
        return sum(xs)

    class Closing(Workflow[int, int]):
        start = split
        edges = (split >> part >> gather(joined),)

    here = cluster(Closing)
    member = await here.start_worker()
    handle = await here.client().start(Closing, 1, run_id="run")
    await asyncio.sleep(1.5)
    member.store.lose_next_replies()
    assert await handle.result(30) == 3
    assert member.services.inflight._reserved == {}
    await here.check_completed("run")


@pytest.mark.fault(27)
async def test_every_commit_may_lose_its_reply(cluster: MakeCluster) -> None:
    gate = Gate()
    gate.go.set()
    here = cluster(two_steps(gate))
    member = await here.start_worker()
    await asyncio.sleep(0.1)
    member.store.lose_next_replies(10)
    handle = await here.client().start(here.workflows[0], 3, run_id="run")
    assert await handle.result(60) == 3
    assert (await here.client().context(here.workflows[0], "run")).total == 1
    await here.check_completed("run")


@pytest.mark.fault(25)
async def test_a_store_that_is_out_of_reach_for_longer_than_the_patience_costs_time_only(cluster: MakeCluster) -> None:
    gate = Gate()
    here = cluster(two_steps(gate))
    member = await here.start_worker()
    handle = await here.client().start(here.workflows[0], 3, run_id="run")
    await gate.begun.wait()
    member.store.cut()
    gate.go.set()
    await asyncio.sleep(150)
    member.store.heal()
    assert await handle.result(100) == 3
    assert member.services.inflight._reserved == {}
    assert len(member.services.inflight) == 0
    await here.check_completed("run")


async def test_a_chain_of_many_steps_is_one_message_and_a_budget_ends_it(cluster: MakeCluster) -> None:
    names = [f"step{n}" for n in range(6)]

    @node
    async def step(x: int) -> int:
        return x + 1

    first, *others = [step.named(name) for name in names]
    path: Any = first
    for each in others:
        path = path >> each

    class Chain(Workflow[int, int]):
        start = first
        edges = (path,)

    here = cluster(Chain, limits=Limits(chain_steps=3))
    member = await here.start_worker()
    handle = await here.client().start(Chain, 0, run_id="run")
    assert await handle.result(10) == 6
    assert len([message for message in member.queue.published if message.correlation_id]) == 1
    await here.check_completed("run")


async def test_a_claim_does_not_write_the_context_log(cluster: MakeCluster) -> None:
    gate = Gate()
    gate.go.set()
    here = cluster(two_steps(gate))
    member = await here.start_worker()
    handle = await here.client().start(here.workflows[0], 3, run_id="run")
    await handle.result(10)
    appended = [write for batch in member.store.commits for write in _writes(batch) if write.log.name == "x"]
    assert len(appended) == 1


def _writes(batch: Batch) -> list[Append]:
    return [write for write in batch.writes if isinstance(write, Append)]


async def test_two_workers_of_a_pool_do_not_take_each_other_for_dead(cluster: MakeCluster) -> None:
    gate = Gate()
    here = cluster(two_steps(gate), is_durable=False)
    await here.start_worker()
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 3, run_id="run")
    await gate.begun.wait()
    await asyncio.sleep(100)
    gate.go.set()
    assert await handle.result(30) == 3
    assert len(gate.bodies) == 1
    await here.check_completed("run")


async def test_a_worker_works_one_delivery_off_for_debugging_again_and_again(cluster: MakeCluster) -> None:
    gate = Gate()
    gate.go.set()
    here = cluster(two_steps(gate))
    worker, *_ = here.worker_of()
    client = here.client()
    for number in range(3):
        await client.start(here.workflows[0], number, run_id=f"run-{number}")
        assert await worker.run_once(timeout=5)
        assert await client.status(f"run-{number}") is RunStatus.COMPLETED
    assert await worker.run_once(timeout=0.1) is False
    assert WorkerId("worker-1") not in {record.worker_id for record in await client.services.liveness.all()}
