"""Three nodes on this machine, quorum queues on all of them, and one node after the other taken away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.ports.work_queue import Consumer, PublishOutcome
from floxide_amqp.testing.rabbitmq_cluster import RabbitMQCluster
from floxide_amqp.testing.rabbitmq_servers import PrivateRabbitMQ
from tests.integration.amqp.support import SWIFT, confirmed, consuming, draining, message, until

pytestmark = [pytest.mark.xdist_group("rabbitmq_cluster"), pytest.mark.fault(57)]

PATIENT = replace(SWIFT, rpc_deadline=5.0, publish_deadline=60.0)
URL = "amqp://guest:guest@rabbitmq.cluster.test/"


@pytest.fixture(scope="module")
def cluster() -> Iterator[RabbitMQCluster]:
    try:
        with RabbitMQCluster() as cluster:
            yield cluster
    except ConfigurationError as error:
        pytest.skip(f"needs RabbitMQ servers of its own: {error}")


@pytest.fixture
async def addresses(cluster: RabbitMQCluster, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What the name in `URL` stands for: the nodes, in this order."""
    ports = [urlsplit(node.url).port for node in cluster.nodes]
    addresses = [("127.0.0.1", port) for port in ports if port is not None]

    async def resolve(host: str, port: int, **_: Any) -> list[Any]:
        assert host == urlsplit(URL).hostname
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    return addresses


async def leader_of(cluster: RabbitMQCluster, name: str) -> PrivateRabbitMQ:
    rows = await asyncio.to_thread(cluster.nodes[0].ctl, "list_queues", "name", "leader", "--no-table-headers")
    return cluster.node_called(dict(row.split("\t") for row in rows.splitlines())[name])


async def check_work_goes_on_without(node: PrivateRabbitMQ, work_queue: AmqpWorkQueue, consumer: Consumer) -> None:
    """Publish and consume while a node is killed, and until it is back.

    What the queue's old leader had not confirmed is refused, and must be published again; nothing may be lost.
    """
    async with draining(consumer) as seen:
        outcomes: dict[bytes, PublishOutcome] = {}
        before_kill = 0

        def is_served_by_two() -> bool:
            return len(outcomes) >= before_kill + 200 and set([*outcomes.values()][-100:]) == {PublishOutcome.CONFIRMED}

        is_back = asyncio.Event()

        async def publish() -> None:
            while not is_back.is_set():
                bodies = [b"%d" % (len(outcomes) + number) for number in range(20)]
                results = await work_queue.publish([message(body) for body in bodies])
                outcomes.update(zip(bodies, results, strict=True))
                await asyncio.sleep(0.2 if PublishOutcome.REFUSED in results else 0)

        publishing = asyncio.create_task(publish())
        try:
            await until(lambda: len(outcomes) >= 100)
            await asyncio.to_thread(node.kill)
            before_kill = len(outcomes)
            await until(is_served_by_two, within=120)
            await asyncio.to_thread(node.start)
        finally:
            is_back.set()
            await publishing
        assert set(outcomes.values()) <= {PublishOutcome.CONFIRMED, PublishOutcome.REFUSED}
        refused = [body for body, outcome in outcomes.items() if outcome is PublishOutcome.REFUSED]
        await confirmed(work_queue, *(message(body) for body in refused))
        await until(lambda: outcomes.keys() <= seen.keys())


async def test_work_goes_on_when_the_leader_of_a_queue_is_killed(
    cluster: RabbitMQCluster, addresses: list[tuple[str, int]], namespace: str
) -> None:
    async with consuming(URL, namespace, prefetch=50, settings=PATIENT) as (work_queue, consumer):
        await confirmed(work_queue, message(b"first"))
        leader = await leader_of(cluster, f"{namespace}.work.a")
        addresses.reverse()
        await check_work_goes_on_without(leader, work_queue, consumer)


@pytest.mark.soak
async def test_work_goes_on_over_another_node_when_the_one_connected_to_is_killed(
    cluster: RabbitMQCluster, addresses: list[tuple[str, int]], namespace: str
) -> None:
    async with consuming(URL, namespace, prefetch=50, settings=PATIENT) as (work_queue, consumer):
        await confirmed(work_queue, message(b"first"))
        await check_work_goes_on_without(cluster.nodes[0], work_queue, consumer)
        assert all(health.is_ready and health.generation >= 2 for health in work_queue.health())


@pytest.mark.soak
async def test_without_a_majority_publishes_are_unknown_and_with_it_they_are_confirmed_again(
    cluster: RabbitMQCluster, addresses: list[tuple[str, int]], namespace: str
) -> None:
    async with (
        consuming(URL, namespace, prefetch=50) as (work_queue, consumer),
        draining(consumer) as seen,
    ):
        await confirmed(work_queue, message(b"first"))
        for node in cluster.nodes[1:]:
            await asyncio.to_thread(node.kill)
        assert await work_queue.publish([message(b"alone")]) == [PublishOutcome.UNKNOWN]
        async with asyncio.TaskGroup() as starts:
            for node in cluster.nodes[1:]:
                starts.create_task(asyncio.to_thread(node.start))
        await confirmed(work_queue, message(b"together"))
        await until(lambda: seen[b"together"] >= 1)
