from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import aio_pika
import pytest

from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.ports.work_queue import Message, PublishOutcome
from tests.integration.amqp.support import SWIFT, draining, message, until


@pytest.mark.pitfall(1)
@pytest.mark.fault(15)
async def test_an_unroutable_message_is_reported_as_returned_and_not_as_published(undeclaring: AmqpWorkQueue) -> None:
    assert await undeclaring.publish([message(b"1", "nobody")]) == [PublishOutcome.RETURNED]


@pytest.mark.pitfall(2)
@pytest.mark.fault(15)
async def test_unroutable_messages_of_one_item_are_all_reported(undeclaring: AmqpWorkQueue) -> None:
    same = Message(queue="nobody", body=b"1", correlation_id="one-item")
    assert await undeclaring.publish([same] * 50) == [PublishOutcome.RETURNED] * 50


@pytest.mark.pitfall(2)
@pytest.mark.fault(15)
async def test_routable_and_unroutable_messages_do_not_mix_up(undeclaring: AmqpWorkQueue) -> None:
    async with undeclaring.consume(["a"], prefetch=1000) as consumer, draining(consumer) as seen:
        bodies = [b"%d" % number for number in range(900)]
        outcomes = await undeclaring.publish(
            [message(body, "a" if number % 2 else "nobody") for number, body in enumerate(bodies)]
        )
        assert Counter(outcomes) == {PublishOutcome.CONFIRMED: 450, PublishOutcome.RETURNED: 450}
        await until(lambda: seen.total() == 450)
        assert set(seen) == set(bodies[1::2])


@pytest.mark.pitfall(3)
@pytest.mark.fault(16)
async def test_publishing_goes_on_after_many_cancelled_publishes_of_unroutable_messages(
    undeclaring: AmqpWorkQueue,
) -> None:
    work_queue = undeclaring
    big = b"x" * 50_000
    async with work_queue.consume(["a"], prefetch=1000) as consumer, draining(consumer) as seen:
        for number in range(200):
            publishing = asyncio.ensure_future(work_queue.publish([message(big, "nobody"), message(b"%d" % number)]))
            for _ in range(1 + number % 9):
                await asyncio.sleep(0)
            publishing.cancel()
        assert await work_queue.publish([message(b"last")]) == [PublishOutcome.CONFIRMED]
        await until(lambda: seen.total() == 201)
        assert work_queue.health()[0].generation == 1


async def test_a_batch_may_be_larger_than_the_window(rabbitmq_url: str, namespace: str) -> None:
    settings = replace(SWIFT, publish_window=7, publish_window_bytes=300)
    async with (
        AmqpWorkQueue(rabbitmq_url, namespace=namespace, settings=settings) as work_queue,
        work_queue.consume(["a"], prefetch=100) as consumer,
        draining(consumer) as seen,
    ):
        outcomes = await work_queue.publish([message(b"%d" % n + b"x" * (n % 500)) for n in range(500)])
        assert set(outcomes) == {PublishOutcome.CONFIRMED}
        await until(lambda: len(seen) == 500)


async def test_messages_are_persistent_and_carry_the_item_id(
    work_queue: AmqpWorkQueue, namespace: str, by_hand: aio_pika.abc.AbstractChannel
) -> None:
    async with work_queue.consume(["a"], prefetch=1):
        pass
    await work_queue.publish([Message(queue="a", body=b"1", correlation_id="item-7")] * 2)
    queue = await by_hand.get_queue(f"{namespace}.work.a")
    first, second = await queue.get(no_ack=True), await queue.get(no_ack=True)
    assert first.delivery_mode is aio_pika.DeliveryMode.PERSISTENT
    assert first.correlation_id == second.correlation_id == "item-7"
    assert first.message_id != second.message_id


@pytest.mark.fault(22)
async def test_a_full_queue_refuses(
    work_queue: AmqpWorkQueue, namespace: str, by_hand: aio_pika.abc.AbstractChannel
) -> None:
    await (await by_hand.declare_exchange(f"{namespace}.work", "direct", durable=True, passive=True)).publish(
        aio_pika.Message(b""), "nobody", mandatory=False
    )
    full = await by_hand.declare_queue(
        f"{namespace}.work.full", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    await full.bind(f"{namespace}.work", "full")
    outcomes = [(await work_queue.publish([message(b"1", "full")]))[0] for _ in range(4)]
    assert outcomes[0] is PublishOutcome.CONFIRMED
    assert outcomes[-1] is PublishOutcome.REFUSED
    await full.delete(if_unused=False, if_empty=False)


async def test_closing_finishes_what_is_on_its_way(
    rabbitmq_url: str, namespace: str, work_queue: AmqpWorkQueue
) -> None:
    async with work_queue.consume(["a"], prefetch=1000) as consumer, draining(consumer) as seen:
        async with AmqpWorkQueue(rabbitmq_url, namespace=namespace) as short_lived:
            publishing = asyncio.ensure_future(short_lived.publish([message(b"%d" % n) for n in range(100)]))
            await asyncio.sleep(0)
        assert set(await publishing) == {PublishOutcome.CONFIRMED}
        await until(lambda: len(seen) == 100)


async def test_publishing_after_closing_ends_as_unknown_at_once(rabbitmq_url: str, namespace: str) -> None:
    async with AmqpWorkQueue(rabbitmq_url, namespace=namespace) as work_queue:
        pass
    async with asyncio.timeout(20):  # less than the time that a broker has for its confirm
        assert await work_queue.publish([message(b"1")]) == [PublishOutcome.UNKNOWN]


async def test_closing_twice_is_fine(rabbitmq_url: str, namespace: str) -> None:
    work_queue = AmqpWorkQueue(rabbitmq_url, namespace=namespace)
    await work_queue.aclose()
    async with work_queue:
        pass
    await work_queue.aclose()
