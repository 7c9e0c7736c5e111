from __future__ import annotations

import aio_pika
import pytest

from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.testing.work_queue_suite import eventually
from tests.integration.amqp.support import SWIFT, confirmed, draining, message, until


@pytest.mark.fault(10)
async def test_a_queue_deleted_under_its_consumer_comes_back(
    work_queue: AmqpWorkQueue, namespace: str, by_hand: aio_pika.abc.AbstractChannel
) -> None:
    async with work_queue.consume(["a", "b"], prefetch=10) as consumer, draining(consumer) as seen:
        await work_queue.publish([message(b"before")])
        await until(lambda: seen[b"before"] == 1)
        await by_hand.queue_delete(f"{namespace}.work.a")
        await confirmed(work_queue, message(b"after"))
        await until(lambda: seen[b"after"] == 1)


@pytest.mark.fault(10)
async def test_a_queue_deleted_under_its_consumer_does_not_disturb_the_other_queues(
    work_queue: AmqpWorkQueue, namespace: str, by_hand: aio_pika.abc.AbstractChannel
) -> None:
    async with work_queue.consume(["a", "b"], prefetch=10) as consumer:
        await work_queue.publish([message(b"held", "b")])
        held = await consumer.receive()
        await by_hand.queue_delete(f"{namespace}.work.a")
        await confirmed(work_queue, message(b"after"))
        assert (await consumer.receive()).body == b"after"
        await held.acknowledge()
    assert await work_queue.depth("b") == 0


@pytest.mark.fault(10)
async def test_acknowledging_what_came_from_a_deleted_queue_is_silent(
    work_queue: AmqpWorkQueue, namespace: str, by_hand: aio_pika.abc.AbstractChannel
) -> None:
    async with work_queue.consume(["a"], prefetch=10) as consumer:
        await work_queue.publish([message(b"1")])
        held = await consumer.receive()
        await by_hand.queue_delete(f"{namespace}.work.a")
        await held.acknowledge()
        await confirmed(work_queue, message(b"2"))
        assert (await consumer.receive()).body == b"2"


@pytest.mark.fault(10)
async def test_a_consumer_the_broker_forgot_in_silence_is_noticed(
    rabbitmq_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What aio-pika does with a cancel from the broker on a healthy connection when nobody listens for it.
    monkeypatch.setattr("floxide_amqp.drivers.amqp.consumer_lane.ConsumerLane._on_cancelled_by_broker", lambda *_: None)
    async with (
        AmqpWorkQueue(rabbitmq_url, namespace=namespace, settings=SWIFT) as work_queue,
        await aio_pika.connect(rabbitmq_url) as connection,
        work_queue.consume(["a"], prefetch=10) as consumer,
        draining(consumer) as seen,
    ):
        await (await connection.channel()).queue_delete(f"{namespace}.work.a")
        await confirmed(work_queue, message(b"after"))
        await until(lambda: seen[b"after"] == 1)


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\x00", b"\xff" * 1000, b"\x90" * 100_000, b"not msgpack", "ünïcode".encode(), bytes(range(256))],
    ids=["empty", "zero", "ones", "nested", "text", "unicode", "all bytes"],
)
async def test_garbage_published_by_hand_arrives_as_it_is(
    work_queue: AmqpWorkQueue, namespace: str, by_hand: aio_pika.abc.AbstractChannel, garbage: bytes
) -> None:
    async with work_queue.consume(["a"], prefetch=1) as consumer:
        exchange = await by_hand.get_exchange(f"{namespace}.work")
        await exchange.publish(
            aio_pika.Message(garbage, headers={"x": [1, {"y": None}]}, content_type="nonsense", priority=9), "a"
        )
        delivery = await consumer.receive()
        assert delivery.body == garbage
        await delivery.acknowledge()


async def test_settling_twice_does_not_cost_the_channel(
    work_queue: AmqpWorkQueue, caplog: pytest.LogCaptureFixture
) -> None:
    async with work_queue.consume(["a"], prefetch=2) as consumer:
        await work_queue.publish([message(b"1"), message(b"2")])
        twice, held = await consumer.receive(), await consumer.receive()
        await twice.acknowledge()
        await twice.acknowledge()
        await twice.release()
        await work_queue.publish([message(b"3")])
        assert (await consumer.receive()).body == b"3"
        await held.acknowledge()
    assert "broker.channel_closed" not in caplog.text
    await eventually(lambda: work_queue.depth("a"), 1)


async def test_two_consumers_of_one_process_do_not_disturb_each_other(work_queue: AmqpWorkQueue) -> None:
    async with work_queue.consume(["a"], prefetch=2) as staying:
        await work_queue.publish([message(b"held")])
        held = await staying.receive()
        async with work_queue.consume(["a"], prefetch=2):
            pass
        await held.acknowledge()
        await work_queue.publish([message(b"next")])
        assert (await staying.receive()).body == b"next"
    await eventually(lambda: work_queue.depth("a"), 1)  # `next` was not acknowledged
