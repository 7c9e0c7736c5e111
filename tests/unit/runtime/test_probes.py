"""Probes through task queues with and without consumers, behind backlogs, and through a broker that was wiped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from floxide_amqp import Workflow, node
from floxide_amqp.core.records import Envelope, Probe
from floxide_amqp.ports.work_queue import PublishOutcome
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.stores.record_codec import decode_message
from floxide_amqp.testing.faults import QueueFaults
from tests.unit.runtime.cluster import QUICK, Cluster

MakeCluster = Callable[..., Cluster]


def working(seconds: float) -> Any:
    @node
    async def work(x: int) -> int:
        await asyncio.sleep(seconds)
        return x

    class Working(Workflow[int, int]):
        start = work
        edges = ()

    return Working


def wipe(here: Cluster) -> None:
    """The broker forgets every message that waits; its queues are declared anew."""
    for waiting in here.queue._queues.values():
        waiting.clear()


def sent(here: Cluster) -> list[Probe | Envelope]:
    return [decode_message(message.body) for member in here.members for message in member.queue.published]


def probes(here: Cluster, queue: str = "default") -> list[Probe]:
    return [message for message in sent(here) if isinstance(message, Probe) and message.queue == queue]


def republished(here: Cluster) -> list[Envelope]:
    return [message for message in sent(here) if isinstance(message, Envelope) and message.recovered]


async def test_a_queue_whose_workers_are_dead_is_not_probed(cluster: MakeCluster) -> None:
    workflow = working(1)
    here = cluster(workflow)
    leader = await here.start_worker(queues=["elsewhere"])
    victim = await here.start_worker(queues=["default"])
    await asyncio.sleep(5)
    await victim.kill()
    handle = await here.client().start(workflow, 3, run_id="run")
    await asyncio.sleep(3600)
    assert leader.worker.maintenance.is_leader
    assert len(probes(here)) <= 3  # before its death was known
    await here.start_worker(queues=["default"])
    assert await handle.result(30) == 3
    await here.check_completed("run")


async def test_probes_do_not_pile_up_in_a_queue_that_a_living_worker_does_not_get_round_to(
    cluster: MakeCluster,
) -> None:
    workflow = working(1)
    here = cluster(workflow)
    leader = await here.start_worker(queues=["elsewhere"])
    deaf = await here.start_worker(queues=["default"])
    await asyncio.sleep(5)
    await deaf.queue.cut()
    handle = await here.client().start(workflow, 3, run_id="run")
    await asyncio.sleep(3600)
    assert leader.worker.maintenance.is_leader
    assert 4 <= len(probes(here)) <= 8  # it was 900
    await here.start_worker(queues=["default"])
    assert await handle.result(30) == 3
    await here.check_completed("run")


async def test_a_backlog_is_no_loss_nothing_of_it_is_published_again(cluster: MakeCluster) -> None:
    workflow = working(4)
    here = cluster(workflow, limits=Limits(concurrency=4))
    client = here.client()
    handles = [await client.start(workflow, n, run_id=f"run-{n}") for n in range(800)]
    await here.start_worker()
    await here.start_worker()
    assert await handles[-1].result(2_000) == 799
    assert await here.settle() == {}
    assert republished(here) == []
    assert 2 <= len(probes(here)) <= 20
    for n in (0, 400, 799):
        await here.check_completed(f"run-{n}")


@pytest.mark.fault(8, 9)
async def test_a_queue_wiped_behind_a_backlog_is_noticed_as_soon_as_it_is_empty(cluster: MakeCluster) -> None:
    workflow = working(4)
    here = cluster(workflow, limits=Limits(concurrency=4))
    client = here.client()
    handles = [await client.start(workflow, n, run_id=f"run-{n}") for n in range(200)]
    await here.start_worker()
    await asyncio.sleep(100)
    wipe(here)
    before = asyncio.get_running_loop().time()
    while not republished(here):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    noticed = asyncio.get_running_loop().time() - before
    assert noticed <= 6 * QUICK.probe + 2 * QUICK.early_acknowledge + 5
    await asyncio.gather(*(handle.result(600) for handle in handles))
    assert await here.settle() == {}
    assert len(republished(here)) <= 200


async def test_a_message_given_back_behind_a_probe_is_repeated_ever_more_rarely(cluster: MakeCluster) -> None:
    workflow = working(1)
    here = cluster(workflow)
    member = await here.start_worker()
    client = here.client()
    queue: Any = client.services.queue
    queue.faults = QueueFaults(dropped=1.0)
    handle = await client.start(workflow, 3, run_id="run")
    publish = member.queue.publish

    async def losing_work(messages: Any) -> Any:
        """Every message is confirmed and lost, only probes come through: as of one that is always given back."""
        kept = [m for m in messages if isinstance(decode_message(m.body), Probe)]
        member.queue.published += [m for m in messages if m not in kept]
        await publish(kept)
        return [PublishOutcome.CONFIRMED for _ in messages]

    member.queue.publish = losing_work  # type: ignore[method-assign]
    await asyncio.sleep(3600)
    assert 4 <= len(republished(here)) <= 6 + 3600 / (64 * QUICK.probe)
    member.queue.publish = publish  # type: ignore[method-assign]
    assert await handle.result(600) == 3
    await here.check_completed("run")
