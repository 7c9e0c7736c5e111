"""Probes through task queues with and without consumers, behind backlogs, and through a broker that was wiped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from floxide_amqp import Workflow, node
from floxide_amqp.core.message_records import Envelope, Probe
from floxide_amqp.ports.work_queue import Message, PublishOutcome
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.stores.record_codec import decode_message, encode_probe
from floxide_amqp.testing.queue_faults import QueueFaults
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


async def test_after_a_long_outage_of_the_broker_the_next_probe_goes_out_at_once(cluster: MakeCluster) -> None:
    workflow = working(1)
    here = cluster(workflow)
    member = await here.start_worker()
    client = here.client()
    queue: Any = client.services.queue
    queue.faults = QueueFaults(dropped=1.0)
    publish = member.queue.publish

    async def out_of_reach(messages: Any) -> Any:
        return [PublishOutcome.UNKNOWN for _ in messages]

    async def never_seen_empty(queue: str) -> int:
        return 1

    member.queue.publish = out_of_reach  # type: ignore[method-assign]
    member.queue.depth = never_seen_empty  # type: ignore[method-assign]
    handle = await client.start(workflow, 3, run_id="run")
    await asyncio.sleep(1800)  # by then a probe that is repeated ever more rarely has its longest pause
    member.queue.publish = publish  # type: ignore[method-assign]
    assert await handle.result(2 * QUICK.probe + 2 * QUICK.early_acknowledge + 5) == 3
    await here.check_completed("run")


async def test_a_lost_message_whose_next_one_is_put_off_by_an_outage_stays_known_as_lost_before(
    cluster: MakeCluster,
) -> None:
    workflow = working(1)
    here = cluster(workflow)
    member = await here.start_worker()
    client = here.client()
    queue: Any = client.services.queue
    queue.faults = QueueFaults(dropped=1.0)
    publish = member.queue.publish

    async def losing_work(messages: Any) -> Any:
        """Probes come through, everything else may have been lost on the way, and has been."""
        kept = [m for m in messages if isinstance(decode_message(m.body), Probe)]
        await publish(kept)
        return [PublishOutcome.CONFIRMED if m in kept else PublishOutcome.UNKNOWN for m in messages]

    member.queue.publish = losing_work  # type: ignore[method-assign]
    handle = await client.start(workflow, 3, run_id="run")
    await asyncio.sleep(600)
    (note,) = await client.services.indexes.messages("default")
    assert note.tries >= 1
    member.queue.publish = publish  # type: ignore[method-assign]
    assert await handle.result(600) == 3
    await here.check_completed("run")


@pytest.mark.parametrize(
    ("probe", "reason"),
    [
        (Probe(queue="default", number=1, before="~", store="ours"), "its position is no time"),
        (Probe(queue="default", number=1, before="1" * 13, store="ours"), "its position is no time"),
        (Probe(queue="default", number=1, before="9" * 14, store="ours"), "its position lies in the future"),
        (Probe(queue="other", number=1, before="0" * 14, store="ours"), "it was sent through task queue 'other'"),
        (Probe(queue="default", number=1, before="0" * 14, store="theirs"), "it is of another store"),
        (Probe(queue="default", number=1, before="0" * 14), "it is of another store"),
        (Probe(queue="default", number=1, before="0" * 14, store="ours", shard="x"), "it is about no server"),
    ],
)
async def test_a_probe_that_this_store_cannot_have_sent_is_not_believed(
    cluster: MakeCluster, caplog: pytest.LogCaptureFixture, probe: Probe, reason: str
) -> None:
    here = cluster(working(1))
    member = await here.start_worker()
    member.services.store_id = "ours"
    await asyncio.sleep(5)
    await here.queue.publish([Message(queue="default", body=encode_probe(probe))])
    await asyncio.sleep(60)
    assert await here.queue.depth("default") == 0
    for queue in ("default", "other"):
        assert await member.services.probes.returned(queue) == ""
    assert "probe.ignored" in caplog.text
    assert reason in caplog.text


async def test_a_probe_of_this_store_is_believed(cluster: MakeCluster) -> None:
    here = cluster(working(1))
    member = await here.start_worker()
    member.services.store_id = "ours"
    await asyncio.sleep(5)
    probe = Probe(queue="default", number=1, before=f"{member.services.now_ms():014d}", store="ours")
    await here.queue.publish([Message(queue="default", body=encode_probe(probe))])
    await asyncio.sleep(5)
    assert await member.services.probes.returned("default") == probe.before
