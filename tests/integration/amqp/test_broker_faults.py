"""A broker that is killed, restarted, wiped, full, or cuts everybody off. Each test has the broker to itself."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from floxide_amqp.drivers.amqp import consumer as consumer_module
from floxide_amqp.drivers.amqp.connection import Link
from floxide_amqp.drivers.amqp.consumer import AmqpConsumer
from floxide_amqp.drivers.amqp.control import AmqpControlBus
from floxide_amqp.drivers.amqp.health import ConnectionState
from floxide_amqp.drivers.amqp.session import Session
from floxide_amqp.drivers.amqp.settings import broker_url
from floxide_amqp.drivers.amqp.topology import count_messages, delete_dead_queue
from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.ports.work_queue import PublishOutcome
from floxide_amqp.testing.services import RabbitMQ
from tests.integration.amqp.support import STEADY, SWIFT, confirmed, consuming, draining, message, until

pytestmark = [pytest.mark.xdist_group("own_rabbitmq")]

PATIENT = replace(SWIFT, publish_deadline=60.0)
SOON_AGAIN = replace(SWIFT, publish_deadline=5.0)
"""Where a publish into a queue without a process is never confirmed, and is to be tried again."""


@pytest.mark.fault(7)
async def test_a_broker_killed_while_publishing_and_consuming_loses_nothing(
    own_rabbitmq: RabbitMQ, namespace: str
) -> None:
    async with (
        consuming(own_rabbitmq.url, namespace, prefetch=20, settings=PATIENT) as (work_queue, consumer),
        draining(consumer) as seen,
    ):
        outcomes: Counter[PublishOutcome] = Counter()

        async def publish_forever() -> None:
            number = 0
            while not killed.is_set() or number < 300:
                outcomes.update(await work_queue.publish([message(b"%d-%d" % (number, n)) for n in range(20)]))
                number += 20

        killed = asyncio.Event()
        publishing = asyncio.create_task(publish_forever())
        await asyncio.sleep(1.5)  # a kill sooner after the declaration leaves a dead queue: the next test
        await until(lambda: outcomes.total() > 100)
        await asyncio.to_thread(own_rabbitmq.kill)
        await asyncio.to_thread(own_rabbitmq.start)
        killed.set()
        await publishing
        assert set(outcomes) == {PublishOutcome.CONFIRMED}
        await until(lambda: len(seen) == outcomes.total())


@pytest.mark.fault(7)
async def test_a_queue_that_died_with_the_broker_right_after_its_declaration_is_replaced(
    own_rabbitmq: RabbitMQ, namespace: str
) -> None:
    async with (
        consuming(own_rabbitmq.url, namespace, prefetch=20, settings=PATIENT) as (work_queue, consumer),
        draining(consumer) as seen,
    ):
        await asyncio.to_thread(own_rabbitmq.kill)
        await asyncio.to_thread(own_rabbitmq.start)
        await confirmed(work_queue, message(b"1"))
        await until(lambda: seen[b"1"] >= 1)


@pytest.mark.fault(7)
async def test_publishing_to_a_dead_broker_ends_as_unknown_and_health_tells(
    own_rabbitmq: RabbitMQ, namespace: str
) -> None:
    async with AmqpWorkQueue(own_rabbitmq.url, namespace=namespace, settings=SWIFT) as work_queue:
        await asyncio.to_thread(own_rabbitmq.kill)
        async with asyncio.timeout(30):
            assert await work_queue.publish([message(b"1")] * 3) == [PublishOutcome.UNKNOWN] * 3
        await until(lambda: "Connect call failed" in work_queue.health()[0].problem)
        (health,) = work_queue.health()
        assert health.state is ConnectionState.CONNECTING
        assert health.round_trip_age_seconds > 1  # the last answer was before the kill
        assert not health.is_ready
        await asyncio.to_thread(own_rabbitmq.start)
        await until(lambda: work_queue.health()[0].state is ConnectionState.READY)
        assert work_queue.health()[0].generation >= 2
        assert work_queue.health()[0].problem == ""


@pytest.mark.fault(7)
async def test_messages_survive_a_restart(own_rabbitmq: RabbitMQ, namespace: str) -> None:
    async with AmqpWorkQueue(own_rabbitmq.url, namespace=namespace, settings=SWIFT) as work_queue:
        async with work_queue.consume(["a"], prefetch=1):
            pass
        await confirmed(work_queue, *(message(b"%d" % number) for number in range(10)))
        await asyncio.to_thread(own_rabbitmq.restart)
        async with work_queue.consume(["a"], prefetch=20) as consumer, draining(consumer) as seen:
            await until(lambda: len(seen) == 10)


@pytest.mark.fault(8)
async def test_after_a_wiped_broker_everything_is_declared_again(own_rabbitmq: RabbitMQ, namespace: str) -> None:
    async with (
        AmqpWorkQueue(own_rabbitmq.url, namespace=namespace, settings=PATIENT) as work_queue,
        AmqpControlBus(own_rabbitmq.url, namespace=namespace, settings=SWIFT) as bus,
        bus.listen("w") as listener,
        work_queue.consume(["a"], prefetch=20) as consumer,
    ):
        await confirmed(work_queue, message(b"lost"))
        held = await consumer.receive()
        await asyncio.to_thread(own_rabbitmq.wipe)
        await confirmed(work_queue, message(b"new"))
        await held.acknowledge()
        again = await asyncio.wait_for(consumer.receive(), 90)
        assert (again.body, again.redelivered) == (b"new", False)
        assert await asyncio.wait_for(anext(listener), 90) == b""
        await bus.broadcast(b"hello")
        assert await asyncio.wait_for(anext(listener), 90) == b"hello"


@pytest.mark.fault(11)
async def test_closing_every_connection_again_and_again_loses_nothing(own_rabbitmq: RabbitMQ, namespace: str) -> None:
    async with (
        consuming(own_rabbitmq.url, namespace, prefetch=20, settings=PATIENT) as (work_queue, consumer),
        draining(consumer) as seen,
    ):
        bodies = [b"%d" % number for number in range(3000)]
        tasks_before = len(asyncio.all_tasks())
        publishing = asyncio.ensure_future(work_queue.publish([message(body) for body in bodies]))
        for _ in range(5):
            await asyncio.to_thread(own_rabbitmq.ctl, "close_all_connections", "chaos")
            await asyncio.sleep(0.3)
        assert set(await publishing) == {PublishOutcome.CONFIRMED}
        await until(lambda: len(seen) == 3000)
        assert all(health.generation >= 2 for health in work_queue.health())
        await until(lambda: len(asyncio.all_tasks()) <= tasks_before + 4)


@pytest.mark.pitfall(11)
@pytest.mark.fault(14)
async def test_an_alarm_blocks_publishing_only_and_shows_in_health(own_rabbitmq: RabbitMQ, namespace: str) -> None:
    async with consuming(own_rabbitmq.url, namespace, prefetch=1, settings=STEADY) as (work_queue, consumer):
        await confirmed(work_queue, message(b"1"), message(b"2"))
        first = await consumer.receive()
        await asyncio.to_thread(own_rabbitmq.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            publishing = asyncio.ensure_future(work_queue.publish([message(b"3")]))
            await until(lambda: work_queue.health()[0].state is ConnectionState.BLOCKED)
            assert "alarm" in work_queue.health()[0].problem
            await first.acknowledge()
            second = await asyncio.wait_for(consumer.receive(), 90)  # only if the broker has seen the acknowledgement
            assert second.body == b"2"
            assert await publishing == [PublishOutcome.UNKNOWN]
            assert await work_queue.publish([message(b"4")]) == [PublishOutcome.UNKNOWN]
            assert work_queue.health()[0].generation == 1
        finally:
            await asyncio.to_thread(own_rabbitmq.ctl, "set_vm_memory_high_watermark", "0.4")
        await until(lambda: work_queue.health()[0].state is ConnectionState.READY)
        await confirmed(work_queue, message(b"5"))
        await second.acknowledge()


@pytest.mark.fault(37)
async def test_a_broker_with_a_smaller_limit_refuses_the_long_message_only(
    own_rabbitmq: RabbitMQ, namespace: str
) -> None:
    own_rabbitmq.ctl("eval", "persistent_term:put(max_message_size, 100000).")
    own_rabbitmq.ctl("eval", "application:set_env(rabbit, max_message_size, 100000).")
    try:
        async with (
            AmqpWorkQueue(own_rabbitmq.url, namespace=namespace, settings=PATIENT) as work_queue,
            work_queue.consume(["a"], prefetch=20) as consumer,
            draining(consumer) as seen,
        ):
            messages = [message(b"%d" % number) for number in range(20)]
            messages.insert(10, message(b"x" * 200_000))
            outcomes = await work_queue.publish(messages)
            assert outcomes[10] is PublishOutcome.REFUSED
            assert Counter(outcomes) == {PublishOutcome.CONFIRMED: 20, PublishOutcome.REFUSED: 1}
            assert work_queue.max_message_bytes == 100_000
            await until(lambda: len(seen) == 20)
    finally:
        own_rabbitmq.restart()


async def test_a_consumer_opens_once_the_broker_is_there_again(own_rabbitmq: RabbitMQ, namespace: str) -> None:
    async with AmqpWorkQueue(own_rabbitmq.url, namespace=namespace, settings=PATIENT) as work_queue:
        await asyncio.to_thread(own_rabbitmq.kill)

        async def consume() -> bytes:
            async with work_queue.consume(["a"], prefetch=1) as consumer:
                await confirmed(work_queue, message(b"1"))
                return (await consumer.receive()).body

        consuming = asyncio.create_task(consume())
        await asyncio.to_thread(own_rabbitmq.start)
        assert await consuming == b"1"


@pytest.mark.pitfall(16)
@pytest.mark.fault(7)
async def test_closing_with_a_dead_broker_takes_no_longer_than_its_deadlines(
    own_rabbitmq: RabbitMQ, namespace: str
) -> None:
    async with (
        AmqpWorkQueue(own_rabbitmq.url, namespace=namespace, settings=SWIFT) as work_queue,
        work_queue.consume(["a"], prefetch=1),
    ):
        await asyncio.to_thread(own_rabbitmq.kill)
        began = time.monotonic()
    assert time.monotonic() - began < 30


@pytest.mark.fault(7)
async def test_a_queue_at_which_the_broker_fails_leaves_the_others_served_and_is_back_once_it_is_mended(
    own_rabbitmq: RabbitMQ, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "LEFT_ALONE_SECONDS", 2.0)
    async with AmqpWorkQueue(own_rabbitmq.url, namespace=namespace, settings=SOON_AGAIN) as work_queue:
        async with work_queue.consume(["a"], prefetch=1):
            pass
        await confirmed(work_queue, message(b"0"))
        await asyncio.to_thread(forget_queue_of_a_living_process, own_rabbitmq, f"{namespace}.work.a")
        async with work_queue.consume(["a", "b"], prefetch=20) as consumer, draining(consumer) as seen:
            await confirmed(work_queue, message(b"1", "b"))
            await until(lambda: seen[b"1"] >= 1)
            assert isinstance(consumer, AmqpConsumer)
            await until(lambda: f"fails at queue {namespace}.work.a: INTERNAL_ERROR" in consumer.problem)
            await asyncio.to_thread(end_process_without_a_queue, own_rabbitmq, f"{namespace}.work.a")
            await confirmed(work_queue, message(b"2"))
            await until(lambda: seen[b"2"] >= 1)
            await until(lambda: consumer.problem == "")


@pytest.mark.fault(7)
async def test_of_several_who_find_a_queue_dead_one_deletes_it(
    own_rabbitmq: RabbitMQ, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    name, sessions = f"{namespace}.work.a", list[Session]()
    async with AsyncExitStack() as stack:
        work_queue = await stack.enter_async_context(
            AmqpWorkQueue(own_rabbitmq.url, namespace=namespace, settings=PATIENT)
        )
        async with work_queue.consume(["a"], prefetch=1):
            pass
        for number in range(4):
            link = Link("consume", broker_url(own_rabbitmq.url, PATIENT), PATIENT, name=f"mender-{number}")
            stack.push_async_callback(link.aclose)
            await link.connect(within=60)
            sessions.append(await link.session())
        await asyncio.gather(*(delete_dead_queue(session, name) for session in sessions))
        assert caplog.text.count("broker.dead_queue_replaced") == 1
        assert await count_messages(sessions[0], name) is None
        async with work_queue.consume(["a"], prefetch=20) as consumer, draining(consumer) as seen:
            await confirmed(work_queue, message(b"1"))
            await until(lambda: seen[b"1"] >= 1)


def forget_queue_of_a_living_process(broker: RabbitMQ, name: str) -> None:
    """Take a quorum queue off the broker's list while its process lives, as two deletions at once can do."""
    broker.ctl("eval", f'rabbit_amqqueue:internal_delete(rabbit_misc:r(<<"/">>, queue, <<"{name}">>), <<"test">>).')


def end_process_without_a_queue(broker: RabbitMQ, name: str) -> None:
    broker.ctl("eval", f"ra:force_delete_server(quorum_queues, {{'%2F_{name}', node()}}).")
