"""Sources on a real broker: nothing is lost or doubled by kills, cuts, and queues that come and go."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import pamqp.header
import pytest
import pytest_asyncio

from floxide_amqp import Orchestrator, RunStatus, SourceMessage
from floxide_amqp.drivers.amqp.message_source import AmqpMessageReader, AmqpMessageSource
from floxide_amqp.drivers.amqp.source_topology import SourceBinding, SourceTopology
from floxide_amqp.drivers.amqp.topology import Names
from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.ports.work_queue import Message
from floxide_amqp.testing.proxy import TcpProxy
from tests.integration.dead_letter_app import SWIFT
from tests.integration.source_app import application

ROOT = Path(__file__).parents[2]
MESSAGES = 5_000
TWICE = 200


@pytest_asyncio.fixture
async def channel(rabbitmq_url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """The other program's."""
    async with await aio_pika.connect(rabbitmq_url) as connection:
        yield await connection.channel()


@asynccontextmanager
async def reading(url: str, topology: SourceTopology, prefetch: int = 10) -> AsyncGenerator[AmqpMessageReader]:
    async with AmqpMessageSource(url, topology, settings=SWIFT).read(prefetch=prefetch) as reader:
        yield reader


async def declare(channel: Any, queue: str, kind: str = "quorum", **arguments: Any) -> None:
    await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": kind, **arguments})


async def send(channel: Any, queue: str, numbers: Sequence[int]) -> None:
    messages = [
        aio_pika.Message(
            json.dumps({"number": number}).encode(), message_id=f"n{number}", content_type="application/json",
            headers={"x": number}, delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        for number in numbers
    ]  # fmt: skip
    for start in range(0, len(messages), 500):
        some = messages[start : start + 500]
        await asyncio.gather(*(channel.default_exchange.publish(each, routing_key=queue) for each in some))


async def waiting(channel: Any, queue: str) -> int:
    return int((await channel.declare_queue(queue, passive=True)).declaration_result.message_count or 0)


async def numbers_of(reader: AmqpMessageReader, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        for delivery in await reader.receive(count):
            found.append(json.loads(delivery.message.body)["number"])
            await delivery.acknowledge()
    return found


@pytest.mark.parametrize("kind", ["quorum", "classic"])
async def test_a_queue_is_read_with_all_that_its_messages_say(
    rabbitmq_url: str, namespace: str, channel: Any, kind: str
) -> None:
    queue = f"{namespace}.numbers"
    await declare(channel, queue, kind)
    await send(channel, queue, [7])
    async with reading(rabbitmq_url, SourceTopology(queue=queue)) as reader:
        (delivery,) = await reader.receive(10)
        message = delivery.message
        assert (message.message_id, message.content_type, message.headers) == ("n7", "application/json", {"x": 7})
        assert (message.routing_key, message.redelivered, reader.problem) == (queue, False, "")
        await delivery.acknowledge()
        await delivery.acknowledge()
    assert await waiting(channel, queue) == 0


@pytest.fixture
def latin(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What AAAA is on the wire, in a property of a message that this process publishes: not UTF-8."""
    marshal, latin = pamqp.header.ContentHeader.marshal, "Bär".encode("latin-1") + b"!"
    monkeypatch.setattr(pamqp.header.ContentHeader, "marshal", lambda self: marshal(self).replace(b"AAAA", latin))
    return latin


@pytest.mark.parametrize("kind", ["quorum", "classic"])
async def test_a_message_whose_properties_cannot_be_decoded_does_not_stop_its_queue(
    rabbitmq_url: str, namespace: str, channel: Any, latin: bytes, kind: str
) -> None:
    queue = f"{namespace}.numbers"
    await declare(channel, queue, kind)
    await send(channel, queue, [1])
    odd = aio_pika.Message(b'{"number": 2}', message_id="AAAA", headers={"AAAA": 1})
    await channel.default_exchange.publish(odd, routing_key=queue)
    await send(channel, queue, [3])
    async with reading(rabbitmq_url, SourceTopology(queue=queue)) as reader:
        found: dict[int, SourceMessage] = {}
        while len(found) < 3:
            for delivery in await reader.receive(10):
                found[json.loads(delivery.message.body)["number"]] = delivery.message
                await delivery.acknowledge()
    assert set(found) == {1, 2, 3}
    assert (found[2].message_id, found[2].headers["undecodable.message_id"]) == ("", latin)
    assert found[2].headers["B\\xe4r!"] == 1


@pytest.mark.usefixtures("latin")
async def test_a_message_whose_properties_cannot_be_decoded_does_not_stop_a_worker(
    rabbitmq_url: str, namespace: str, channel: Any
) -> None:
    """One that somebody put into a task queue; the worker's other task queues are on the same connection."""
    bodies = {b"%d" % number for number in range(20)}
    async with (
        AmqpWorkQueue(rabbitmq_url, namespace=namespace, settings=SWIFT) as queue,
        queue.consume(["a", "b"], prefetch=8) as consumer,
    ):
        odd = aio_pika.Message(b"odd", message_id="AAAA", headers={"AAAA": 1})
        await channel.default_exchange.publish(odd, routing_key=Names(namespace).work_queue("a"))
        await queue.publish([Message(queue="b", body=body) for body in bodies])
        found: set[bytes] = set()
        while len(found) < 21:
            delivery = await consumer.receive()
            found.add(delivery.body)
            await delivery.acknowledge()
    assert found == bodies | {b"odd"}


async def test_what_was_not_settled_goes_back(rabbitmq_url: str, namespace: str, channel: Any) -> None:
    queue = f"{namespace}.numbers"
    await declare(channel, queue)
    await send(channel, queue, [1, 2])
    async with reading(rabbitmq_url, SourceTopology(queue=queue)) as reader:
        await reader.receive(10)
    async with reading(rabbitmq_url, SourceTopology(queue=queue)) as reader:
        assert sorted(await numbers_of(reader, 2)) == [1, 2]


async def test_a_rejected_message_goes_where_its_queue_says(rabbitmq_url: str, namespace: str, channel: Any) -> None:
    queue, dead = f"{namespace}.numbers", f"{namespace}.unusable"
    await declare(channel, dead)
    to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    await declare(channel, queue, **to_dead)
    await send(channel, queue, [1])
    async with reading(rabbitmq_url, SourceTopology(queue=queue)) as reader:
        (delivery,) = await reader.receive(10)
        await delivery.reject()
        async with reading(rabbitmq_url, SourceTopology(queue=dead)) as after:
            assert await numbers_of(after, 1) == [1]


async def test_a_queue_that_is_not_there_is_waited_for_and_said_to_be(
    rabbitmq_url: str, namespace: str, channel: Any
) -> None:
    queue = f"{namespace}.numbers"
    async with reading(rabbitmq_url, SourceTopology(queue=queue)) as reader:
        while "there is no queue" not in reader.problem:  # noqa: ASYNC110 - there is nothing to wait for but this
            await asyncio.sleep(0.02)
        await declare(channel, queue)
        await send(channel, queue, [3])
        assert await numbers_of(reader, 1) == [3]
        assert reader.problem == ""


@pytest.mark.fault(10)
async def test_a_queue_that_is_deleted_meanwhile_is_read_again_when_it_is_back(
    rabbitmq_url: str, namespace: str, channel: Any
) -> None:
    queue = f"{namespace}.numbers"
    await declare(channel, queue)
    async with reading(rabbitmq_url, SourceTopology(queue=queue)) as reader:
        await send(channel, queue, [1])
        assert await numbers_of(reader, 1) == [1]
        await channel.queue_delete(queue)
        while "there is no queue" not in reader.problem:  # noqa: ASYNC110 - there is nothing to wait for but this
            await asyncio.sleep(0.02)
        await declare(channel, queue, "classic")
        await send(channel, queue, [2])
        assert await numbers_of(reader, 1) == [2]


async def test_a_queue_and_its_bindings_are_declared_where_that_is_asked_for(
    rabbitmq_url: str, namespace: str, channel: Any
) -> None:
    queue, shop = f"{namespace}.numbers", f"{namespace}.shop"
    binding = SourceBinding(exchange=shop, routing_key="order.#", declare="topic")
    topology = SourceTopology(queue=queue, declare="quorum", arguments={"x-max-length": 9}, bindings=(binding,))
    async with reading(rabbitmq_url, topology) as reader:
        while reader.problem:  # noqa: ASYNC110 - there is nothing to wait for but this
            await asyncio.sleep(0.02)
        exchange = await channel.get_exchange(shop)
        await exchange.publish(aio_pika.Message(b'{"number": 5}'), routing_key="order.placed")
        assert await numbers_of(reader, 1) == [5]


@pytest.mark.pitfall(6)
async def test_a_lost_connection_is_made_again_and_stale_settlements_are_forgotten(
    rabbitmq_url: str, namespace: str, channel: Any
) -> None:
    queue = f"{namespace}.numbers"
    await declare(channel, queue)
    await send(channel, queue, [1])
    async with (
        TcpProxy.before(rabbitmq_url) as proxy,
        reading(proxy.url_of(rabbitmq_url), SourceTopology(queue=queue)) as reader,
    ):
        (stale,) = await reader.receive(10)
        proxy.reset()
        (again,) = await reader.receive(10)
        assert again.message.redelivered
        await stale.acknowledge()
        await again.acknowledge()
    assert await waiting(channel, queue) == 0


async def test_a_source_is_run_without_a_worker_until_it_is_stopped(
    rabbitmq_url: str, namespace: str, channel: Any, tmp_path: Path
) -> None:
    queue = f"{namespace}.numbers"
    app = application(rabbitmq_url, f"sqlite:///{tmp_path}/runs.db", namespace, queue)
    async with app.source("numbers") as feed, app.orchestrator() as client:
        running = asyncio.create_task(feed.run())
        await declare(channel, queue)
        await send(channel, queue, range(30))
        await started(client, 30)
        feed.stop()
        await running
        assert set((await statuses(client)).values()) == {RunStatus.PENDING}
    assert await waiting(channel, queue) == 0


class Site:
    """Worker processes on a broker and a store, and who looks at them."""

    def __init__(self, place: tuple[str, ...]) -> None:
        self.place = place
        self.processes: list[subprocess.Popen[bytes]] = []

    def start_worker(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-m", "tests.integration.source_app", *self.place], cwd=ROOT)
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()


async def started(client: Orchestrator, count: int) -> None:
    """Wait until so many runs were started, about."""
    while sum(each.started for each in await client.sources.list()) < count:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.05)


async def statuses(client: Orchestrator) -> dict[str, RunStatus]:
    found: dict[str, RunStatus] = {}
    cursor = ""
    while True:
        page = await client.list_runs(limit=1_000, cursor=cursor)
        found |= {run.run_id: run.status for run in page.runs}
        if not page.next_cursor:
            return found
        cursor = page.next_cursor


@pytest.mark.fault(1)
@pytest.mark.fault(13)
@pytest.mark.timeout(900)
async def test_each_of_5000_messages_is_one_run_though_a_worker_is_killed_and_the_connection_is_cut(
    rabbitmq_url: str, namespace: str, channel: Any, tmp_path: Path
) -> None:
    queue = f"{namespace}.numbers"
    await declare(channel, queue)
    await send(channel, queue, [*range(MESSAGES), *range(TWICE)])
    async with TcpProxy.before(rabbitmq_url) as proxy:
        place = (rabbitmq_url, f"sqlite:///{tmp_path}/runs.db", namespace, queue)
        site = Site((*place, proxy.url_of(rabbitmq_url)))
        try:
            victim = site.start_worker()
            async with application(*place).orchestrator() as client:
                await started(client, 1_000)
                victim.send_signal(signal.SIGKILL)
                site.start_worker()
                site.start_worker()
                await started(client, 2_500)
                proxy.reset()
                while await waiting(channel, queue):  # noqa: ASYNC110 - there is nothing to wait for but this
                    await asyncio.sleep(0.1)
                while (found := Counter((await statuses(client)).values())) != {RunStatus.COMPLETED: MESSAGES}:
                    assert sum(found.values()) <= MESSAGES
                    await asyncio.sleep(0.2)
                assert (await statuses(client)).keys() == {f"numbers:n{number}" for number in range(MESSAGES)}
                assert not await client.dead_letters()
        finally:
            site.end()
