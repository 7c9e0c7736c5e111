"""One regression test for each trap that aio-pika and aiormq set; docs/reliability.md lists them.

Those that were tests already stand where they stood, with the same mark: 1 to 3 in test_publishing.py, 4 in
test_links.py, 11 in test_broker_faults.py.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from dataclasses import replace

import aio_pika
import pytest

from floxide_amqp.drivers.amqp.consumer import AmqpConsumer
from floxide_amqp.drivers.amqp.control import AmqpControlBus
from floxide_amqp.drivers.amqp.health import ConnectionState
from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.exceptions import TopologyClashError
from floxide_amqp.ports.work_queue import PublishOutcome
from floxide_amqp.testing.proxy import TcpProxy
from floxide_amqp.testing.work_queue_suite import eventually
from tests.integration.amqp.support import SWIFT, confirmed, consuming, draining, message, until

PATIENT = replace(SWIFT, publish_deadline=90.0)


async def break_channel(consumer: AmqpConsumer) -> None:
    """Have the broker close the consumer's channel, and nothing else: it is told of a delivery that never was."""
    lane = consumer._lane
    assert lane is not None
    await lane._channel.basic_ack(10**6)
    await lane.closed


@pytest.mark.pitfall(5)
@pytest.mark.fault(13)
async def test_who_works_on_a_delivery_is_not_cancelled_with_its_connection(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy
) -> None:
    async with consuming(proxy.url_of(rabbitmq_url), namespace, prefetch=1) as (work_queue, consumer):
        await confirmed(work_queue, message(b"1"))
        may_end = asyncio.Event()

        async def handle() -> bytes:
            delivery = await consumer.receive()
            begun.set()
            await may_end.wait()
            return delivery.body

        begun = asyncio.Event()
        handling = asyncio.create_task(handle())
        await begun.wait()
        proxy.reset()
        await until(lambda: work_queue.health()[1].generation == 2)
        assert not handling.done()
        may_end.set()
        assert await handling == b"1"


@pytest.mark.pitfall(6)
@pytest.mark.fault(13)
async def test_acknowledging_after_a_reconnect_is_silent_and_the_message_comes_again(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with consuming(proxy.url_of(rabbitmq_url), namespace, prefetch=1) as (work_queue, consumer):
        await confirmed(work_queue, message(b"1"))
        stale = await consumer.receive()
        proxy.reset()
        again = await asyncio.wait_for(consumer.receive(), 90)
        assert (again.body, again.redelivered) == (b"1", True)
        await stale.acknowledge()  # its tag is valid on the new channel too, and means the other delivery there
        await stale.release()
        assert await work_queue.depth("a") == 0
        await again.acknowledge()
        generations = [health.generation for health in work_queue.health()]
    assert generations == [2, 2]
    assert "broker.channel_closed" not in caplog.text
    async with AmqpWorkQueue(rabbitmq_url, namespace=namespace) as work_queue:
        assert await work_queue.depth("a") == 0


@pytest.mark.pitfall(6)
@pytest.mark.fault(13)
async def test_a_stale_acknowledgement_takes_nothing_off_that_came_on_the_next_channel(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy
) -> None:
    async with consuming(proxy.url_of(rabbitmq_url), namespace, prefetch=1) as (work_queue, consumer):
        await confirmed(work_queue, message(b"1"))
        stale = await consumer.receive()
        proxy.reset()
        again = await asyncio.wait_for(consumer.receive(), 90)
        assert again.tag == stale.tag  # so that taking one for the other would be easy
        await stale.acknowledge()
        await work_queue.depth("a")  # a round trip, so that the broker has seen what was sent
        proxy.reset()
        third = await asyncio.wait_for(consumer.receive(), 90)
        assert (third.body, third.redelivered) == (b"1", True)
        await again.acknowledge()
        await third.acknowledge()
    async with AmqpWorkQueue(rabbitmq_url, namespace=namespace) as work_queue:
        assert await work_queue.depth("a") == 0


@pytest.mark.pitfall(7)
@pytest.mark.fault(13)
async def test_publishes_in_flight_at_a_drop_are_not_reported_as_gone(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy, work_queue: AmqpWorkQueue
) -> None:
    hasty = replace(SWIFT, publish_deadline=0.4)
    async with work_queue.consume(["a"], prefetch=1):
        pass
    async with AmqpWorkQueue(proxy.url_of(rabbitmq_url), namespace=namespace, settings=hasty) as behind:
        proxy.delay(0.5)  # the messages arrive; their confirms come too late
        outcomes = await behind.publish([message(b"%d" % number) for number in range(40)])
        assert set(outcomes) == {PublishOutcome.UNKNOWN}
        await eventually(lambda: is_at_least(work_queue, 40), expected=True)
        proxy.pass_through()


async def is_at_least(work_queue: AmqpWorkQueue, count: int) -> bool:
    return await work_queue.depth("a") >= count


@pytest.mark.pitfall(8)
@pytest.mark.fault(24)
async def test_a_channel_error_and_a_failed_restoration_are_healed_once_the_cause_is_gone(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy, by_hand: aio_pika.abc.AbstractChannel
) -> None:
    async with consuming(proxy.url_of(rabbitmq_url), namespace, prefetch=5) as (work_queue, consumer):
        await by_hand.exchange_delete(f"{namespace}.work")
        await by_hand.declare_exchange(f"{namespace}.work", "fanout", durable=True)
        await break_channel(consumer)
        with pytest.raises(TopologyClashError, match=r"exists with type = 'fanout', but type = 'direct' is needed"):
            await asyncio.wait_for(consumer.receive(), 90)
        _, consume = work_queue.health()
        assert not consume.is_ready
        assert "type = 'fanout'" in consume.problem
        assert consume.state is ConnectionState.READY  # the connection itself is fine
        assert await work_queue.publish([message(b"nowhere")]) == [PublishOutcome.RETURNED]
        proxy.reset()
        await until(lambda: "type = 'fanout'" in work_queue.health()[0].problem)
        await by_hand.exchange_delete(f"{namespace}.work")
        await until(lambda: all(health.is_ready for health in work_queue.health()))
        await confirmed(work_queue, message(b"healed"))
        assert (await asyncio.wait_for(consumer.receive(), 90)).body == b"healed"


@pytest.mark.pitfall(8)
async def test_a_channel_that_the_broker_closes_costs_neither_the_connection_nor_a_message(
    work_queue: AmqpWorkQueue,
) -> None:
    async with work_queue.consume(["a"], prefetch=5) as consumer:
        await confirmed(work_queue, message(b"1"), message(b"2"))
        await consumer.receive()
        await break_channel(consumer)
        async with draining(consumer) as seen:
            await until(lambda: seen[b"1"] == seen[b"2"] == 1)
        assert [health.generation for health in work_queue.health()] == [1, 1]


@pytest.mark.pitfall(8)
async def test_hints_arrive_again_after_their_exchange_was_deleted(
    rabbitmq_url: str, namespace: str, by_hand: aio_pika.abc.AbstractChannel
) -> None:
    async with (
        AmqpControlBus(rabbitmq_url, namespace=namespace, settings=SWIFT) as bus,
        AmqpControlBus(rabbitmq_url, namespace=namespace, settings=SWIFT) as silent,
        bus.listen("w") as own,
        silent.listen("v") as others,
    ):
        await by_hand.exchange_delete(f"{namespace}.control")
        await bus.broadcast(b"into the void: the broker closes the channel over it")
        await until(lambda: bus.health()[0].generation == 2 and bus.health()[0].is_ready)
        for listener in (own, others):  # the bindings went with the exchange, of those too that send nothing
            hearing = asyncio.ensure_future(heard(listener, b"after"))
            async with asyncio.timeout(90):
                while not hearing.done():
                    await bus.broadcast(b"after")
                    await asyncio.sleep(0.05)


async def heard(listener: AsyncIterator[bytes], body: bytes) -> None:
    """Listen until something is heard."""
    async for each in listener:
        if each == body:
            return


@pytest.mark.pitfall(9)
async def test_cancelling_a_call_to_the_broker_disturbs_no_delivery(
    work_queue: AmqpWorkQueue, caplog: pytest.LogCaptureFixture
) -> None:
    async with work_queue.consume(["a"], prefetch=5) as consumer:
        await confirmed(work_queue, message(b"1"))
        held = await consumer.receive()
        for turns in range(12):
            calls = [
                asyncio.ensure_future(work_queue.depth("a")),
                asyncio.ensure_future(work_queue.consume(["b"], prefetch=1).__aenter__()),
            ]
            await asyncio.sleep(0.002 * turns)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
        await confirmed(work_queue, message(b"2"))
        assert (await asyncio.wait_for(consumer.receive(), 90)).body == b"2"
        await held.acknowledge()
        assert [health.generation for health in work_queue.health()] == [1, 1]
    assert "broker.channel_closed" not in caplog.text
    await eventually(lambda: work_queue.depth("a"), 1)


@pytest.mark.pitfall(9)
async def test_cancelling_a_stop_leaves_what_was_handed_out_valid(
    work_queue: AmqpWorkQueue, caplog: pytest.LogCaptureFixture
) -> None:
    for turns in range(6):
        async with work_queue.consume(["a"], prefetch=5) as consumer:
            await confirmed(work_queue, message(b"%d" % turns))
            held = await asyncio.wait_for(consumer.receive(), 90)
            stopping = asyncio.ensure_future(consumer.stop())
            for _ in range(turns):
                await asyncio.sleep(0)
            stopping.cancel()
            await asyncio.wait([stopping])
            await work_queue.depth("a")  # a round trip, so that the broker has seen what aiormq would have made of it
            await held.acknowledge()
        await eventually(lambda: work_queue.depth("a"), 0)
    assert "broker.channel_closed" not in caplog.text


@pytest.mark.pitfall(9)
@pytest.mark.fault(12)
async def test_a_call_that_is_not_answered_costs_its_connection_and_not_the_caller(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy
) -> None:
    settings = replace(SWIFT, probe_interval=30.0)
    async with consuming(proxy.url_of(rabbitmq_url), namespace, prefetch=5, settings=settings) as (
        work_queue,
        consumer,
    ):
        proxy.blackhole()
        with pytest.raises(Exception, match="no answer within 1 s"):
            await work_queue.depth("a")
        proxy.pass_through()
        await until(lambda: work_queue.health()[1].generation == 2 and work_queue.health()[1].is_ready)
        await confirmed(work_queue, message(b"1"))
        assert (await asyncio.wait_for(consumer.receive(), 90)).body == b"1"


@pytest.mark.pitfall(10)
@pytest.mark.fault(44)
async def test_cancelling_who_works_on_a_delivery_does_not_take_it_off_the_queue(work_queue: AmqpWorkQueue) -> None:
    async with work_queue.consume(["a"], prefetch=1) as consumer:
        await confirmed(work_queue, message(b"1"))

        async def handle() -> None:
            await consumer.receive()
            begun.set()
            await asyncio.Event().wait()

        begun = asyncio.Event()
        handling = asyncio.create_task(handle())
        await begun.wait()
        handling.cancel()
        await asyncio.wait([handling])
    async with work_queue.consume(["a"], prefetch=1) as consumer:
        again = await asyncio.wait_for(consumer.receive(), 90)
        assert (again.body, again.redelivered) == (b"1", True)


@pytest.mark.pitfall(12)
@pytest.mark.fault(12)
async def test_an_acknowledgement_the_broker_never_saw_is_only_a_hint(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy
) -> None:
    async with consuming(proxy.url_of(rabbitmq_url), namespace, prefetch=1) as (work_queue, consumer):
        await confirmed(work_queue, message(b"1"))
        delivery = await consumer.receive()
        proxy.blackhole()
        await delivery.acknowledge()  # returns as if all were well
        proxy.reset()
        proxy.pass_through()
        again = await asyncio.wait_for(consumer.receive(), 90)
        assert (again.body, again.redelivered) == (b"1", True)
        await again.acknowledge()


@pytest.mark.pitfall(13)
@pytest.mark.fault(23)
async def test_one_subscription_that_cannot_be_restored_leaves_the_others_alone_and_backs_off(
    rabbitmq_url: str, namespace: str, by_hand: aio_pika.abc.AbstractChannel, caplog: pytest.LogCaptureFixture
) -> None:
    settings = replace(SWIFT, backoff_initial=0.5, backoff_max=2.0)
    async with (
        AmqpWorkQueue(rabbitmq_url, namespace=namespace, settings=settings) as work_queue,
        work_queue.consume(["good"], prefetch=5) as good,
        work_queue.consume(["bad"], prefetch=5) as bad,
    ):
        await confirmed(work_queue, message(b"held", "good"))
        held = await good.receive()
        await replace_queue(by_hand, f"{namespace}.work.bad")
        with pytest.raises(TopologyClashError, match=r"queue '.*\.work\.bad' exists with "):
            await asyncio.wait_for(bad.receive(), 90)
        caplog.clear()
        caplog.set_level(logging.DEBUG, "floxide_amqp.drivers.amqp.keeper")
        began = asyncio.get_running_loop().time()
        for number in range(40):
            await confirmed(work_queue, message(b"%d" % number, "good"))
            await (await asyncio.wait_for(good.receive(), 90)).acknowledge()
            await asyncio.sleep(0.05)
        tries = [record.levelname for record in caplog.records if "broker.subscription_failed" in record.getMessage()]
        elapsed = asyncio.get_running_loop().time() - began
        assert len(tries) <= 6 + 2 * elapsed  # pauses of a second on average, and never below half of the first
        assert "WARNING" not in tries  # it was told when it began
        assert [health.generation for health in work_queue.health()] == [1, 1]
        await held.acknowledge()
        await by_hand.queue_delete(f"{namespace}.work.bad")
        await confirmed(work_queue, message(b"healed", "bad"))
        assert (await asyncio.wait_for(received_at_last(bad), 90)).body == b"healed"
    assert await work_queue_depth(rabbitmq_url, namespace, "good") == 0


async def replace_queue(by_hand: aio_pika.abc.AbstractChannel, name: str) -> None:
    """Put a classic queue in the place of a task queue, although its consumers bring that back as soon as they can."""
    while True:
        await by_hand.queue_delete(name)
        try:
            await by_hand.declare_queue(name, durable=True)
        except aio_pika.exceptions.ChannelPreconditionFailed:
            await by_hand.reopen()  # the driver was faster
        else:
            return


async def received_at_last(consumer: AmqpConsumer) -> object:
    while True:
        try:
            return await consumer.receive()
        except TopologyClashError:
            await asyncio.sleep(0.05)


async def work_queue_depth(url: str, namespace: str, queue: str) -> int:
    async with AmqpWorkQueue(url, namespace=namespace) as work_queue:
        return await work_queue.depth(queue)


@pytest.mark.pitfall(14)
@pytest.mark.fault(13)
async def test_a_subscription_outlives_a_collection_and_a_reconnect(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy
) -> None:
    async with (
        AmqpWorkQueue(proxy.url_of(rabbitmq_url), namespace=namespace, settings=SWIFT) as work_queue,
        AmqpControlBus(proxy.url_of(rabbitmq_url), namespace=namespace, settings=SWIFT) as bus,
        bus.listen("w") as listener,
        work_queue.consume(["a"], prefetch=5) as consumer,
        draining(consumer) as seen,
    ):
        for generation in (2, 3):
            gc.collect()
            proxy.reset()
            await until(lambda at=generation: [health.generation for health in work_queue.health()] == [at, at])
            gc.collect()
            body = b"%d" % generation
            await confirmed(work_queue, message(body))
            await until(lambda body=body: seen[body] >= 1)
            assert await asyncio.wait_for(anext(listener), 90) == b""


@pytest.mark.pitfall(15)
async def test_a_consumer_never_holds_more_than_its_prefetch(work_queue: AmqpWorkQueue) -> None:
    async with work_queue.consume(["a"], prefetch=1):
        pass
    await confirmed(work_queue, *(message(b"%d" % number) for number in range(60)))
    async with work_queue.consume(["a"], prefetch=7) as consumer:
        first = await consumer.receive()
        await eventually(lambda: work_queue.depth("a"), 53)
        await asyncio.sleep(0.2)
        assert await work_queue.depth("a") == 53
        await first.acknowledge()
        await eventually(lambda: work_queue.depth("a"), 52)


@pytest.mark.pitfall(16)
async def test_a_closed_consumer_has_settled_what_it_was_told_to_and_given_back_the_rest(
    work_queue: AmqpWorkQueue,
) -> None:
    async with work_queue.consume(["a"], prefetch=5) as consumer:
        await confirmed(work_queue, message(b"1"), message(b"2"))
        await (await consumer.receive()).acknowledge()
    left = [task for task in asyncio.all_tasks() if task.get_name().startswith("floxide-consumer")]
    assert left == []
    await eventually(lambda: work_queue.depth("a"), 1)


CLOSING = """
    import asyncio, sys
    from floxide_amqp.drivers.amqp.control import AmqpControlBus
    from floxide_amqp.drivers.amqp.settings import AmqpSettings
    from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
    from floxide_amqp.ports.work_queue import Message

    async def main(url, namespace):
        asyncio.get_running_loop().slow_callback_duration = 600  # or asyncio tells of a slow machine
        settings = AmqpSettings(rpc_deadline=1.0, publish_deadline=2.0, close_deadline=1.0)
        async with (
            AmqpWorkQueue(url, namespace=namespace, settings=settings) as work_queue,
            AmqpControlBus(url, namespace=namespace, settings=settings) as bus,
            bus.listen("w"), bus.subscribe("#"),
            work_queue.consume(["a", "b"], prefetch=10) as consumer,
        ):
            await work_queue.publish([Message(queue="a", body=b"%d" % number) for number in range(50)])
            held = await consumer.receive()
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            body = b"x" * 1_000_000  # more of them than the buffers on the way hold
            unheard = asyncio.ensure_future(work_queue.publish([Message(queue="b", body=body)] * 20))
            await asyncio.sleep(0)
        await held.acknowledge()
        unheard.cancel()
        await asyncio.wait([unheard])
        assert asyncio.all_tasks() == {asyncio.current_task()}, asyncio.all_tasks()

    asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.pitfall(16)
@pytest.mark.parametrize("harm", ["none", "reset", "blackhole"])
async def test_closing_ends_in_order_and_in_silence(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy, harm: str
) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(CLOSING),
        proxy.url_of(rabbitmq_url), namespace,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert program.stdout is not None
    assert await program.stdout.readline() == b"ready\n"
    if harm != "none":
        getattr(proxy, harm)()
    async with asyncio.timeout(60):
        rest, problems = await program.communicate(b"\n")
    unexpected = problems if harm == "none" else without_warnings(problems)
    assert (program.returncode, rest, unexpected) == (0, b"", b"")


def without_warnings(log: bytes) -> bytes:
    """What a program wrote besides the log's own lines, which begin with an event of the broker's."""
    return b"".join(line for line in log.splitlines(keepends=True) if not line.startswith(b"broker."))


@pytest.mark.fault(10)
async def test_a_consumer_that_the_broker_moved_to_a_new_queue_and_forgot_is_replaced(
    rabbitmq_url: str, namespace: str, by_hand: aio_pika.abc.AbstractChannel
) -> None:
    """Deleted and declared again within some 30 ms, a quorum queue keeps its consumers in name only."""
    settings = replace(SWIFT, probe_interval=0.2)
    async with (
        AmqpWorkQueue(rabbitmq_url, namespace=namespace, settings=settings) as work_queue,
        work_queue.consume(["a", "b"], prefetch=5) as consumer,
    ):
        await confirmed(work_queue, message(b"held", "b"))
        held = await consumer.receive()
        name, dead = f"{namespace}.work.a", f"{namespace}.dead"
        arguments = {"x-queue-type": "quorum", "x-dead-letter-exchange": dead, "x-delivery-limit": 2**31 - 1}
        await by_hand.queue_delete(name)
        queue = await by_hand.declare_queue(name, durable=True, arguments=arguments)
        await queue.bind(f"{namespace}.work", "a")
        await held.acknowledge()
        await confirmed(work_queue, message(b"swallowed"))
        again = await asyncio.wait_for(consumer.receive(), 90)
        assert again.body == b"swallowed"
        await again.acknowledge()
