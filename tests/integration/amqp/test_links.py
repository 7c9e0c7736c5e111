"""Bad networks: half-open links, cuts in the middle of a frame, resets, delays."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace

import aiormq
import pytest

from floxide_amqp.drivers.amqp.control import AmqpControlBus
from floxide_amqp.drivers.amqp.health import ConnectionState
from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.exceptions import BrokerUnavailableError
from floxide_amqp.ports.work_queue import PublishOutcome
from floxide_amqp.testing.proxy import TcpProxy
from tests.integration.amqp.support import SWIFT, confirmed, consuming, draining, message, until


@pytest.mark.pitfall(4)
@pytest.mark.fault(12)
async def test_publishes_on_a_half_open_link_end_as_unknown_and_the_link_heals(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy
) -> None:
    async with AmqpWorkQueue(proxy.url_of(rabbitmq_url), namespace=namespace, settings=SWIFT) as work_queue:
        async with work_queue.consume(["a"], prefetch=1):
            pass
        proxy.blackhole()
        async with asyncio.timeout(30):  # not the ten minutes that TCP would take
            assert await work_queue.publish([message(b"1"), message(b"2")]) == [PublishOutcome.UNKNOWN] * 2
        proxy.pass_through()
        await confirmed(work_queue, message(b"3"))


@pytest.mark.fault(12, 13)
async def test_a_publish_rides_out_a_short_outage(rabbitmq_url: str, namespace: str, proxy: TcpProxy) -> None:
    settings = replace(SWIFT, publish_deadline=90.0)
    async with AmqpWorkQueue(proxy.url_of(rabbitmq_url), namespace=namespace, settings=settings) as work_queue:
        async with work_queue.consume(["a"], prefetch=1):
            pass
        proxy.blackhole()
        publishing = asyncio.ensure_future(work_queue.publish([message(b"%d" % n) for n in range(300)]))
        await asyncio.sleep(0.1)
        proxy.reset()
        await asyncio.sleep(0.1)
        proxy.pass_through()
        assert set(await publishing) == {PublishOutcome.CONFIRMED}


@pytest.mark.pitfall(6)
@pytest.mark.fault(12)
async def test_a_half_open_consumer_is_replaced_and_nothing_is_lost(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy, work_queue: AmqpWorkQueue
) -> None:
    async with (
        AmqpWorkQueue(proxy.url_of(rabbitmq_url), namespace=namespace, settings=SWIFT) as behind,
        behind.consume(["a"], prefetch=5) as consumer,
    ):
        await work_queue.publish([message(b"1"), message(b"2")])
        held = await consumer.receive()
        proxy.blackhole()
        await until(lambda: behind.health()[1].state is ConnectionState.CONNECTING)
        proxy.pass_through()
        await until(lambda: behind.health()[1].state is ConnectionState.READY)
        await held.acknowledge()  # of a channel that is gone: forgotten in silence
        again = {(await consumer.receive()).body for _ in range(2)}
        assert again == {b"1", b"2"}


@pytest.mark.parametrize("harm", ["reset", "cut_mid_frame"])
@pytest.mark.fault(13)
async def test_a_broken_connection_heals_and_loses_nothing(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy, harm: str
) -> None:
    settings = replace(SWIFT, publish_deadline=90.0)
    async with (
        consuming(proxy.url_of(rabbitmq_url), namespace, prefetch=50, settings=settings) as (work_queue, consumer),
        draining(consumer) as seen,
    ):
        bodies = [b"%d-" % number + b"x" * 2000 for number in range(600)]
        publishing = asyncio.ensure_future(work_queue.publish([message(body) for body in bodies]))
        for _ in range(4):
            await asyncio.sleep(0.1)
            getattr(proxy, harm)()
        assert set(await publishing) == {PublishOutcome.CONFIRMED}
        await until(lambda: len(seen) == 600)
        assert set(seen) == set(bodies)


@pytest.mark.pitfall(4)
@pytest.mark.fault(12)
async def test_a_half_open_link_that_only_heartbeats_find_cancels_nobody_and_heals(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy
) -> None:
    settings = replace(SWIFT, probe_interval=60.0, publish_deadline=60.0, heartbeat=1)
    async with AmqpWorkQueue(proxy.url_of(rabbitmq_url), namespace=namespace, settings=settings) as work_queue:
        proxy.blackhole()
        publishing = asyncio.ensure_future(work_queue.publish([message(b"%d" % number) for number in range(20)]))
        await until(lambda: work_queue.health()[0].state is ConnectionState.CONNECTING)  # after 6 s
        proxy.pass_through()
        async with asyncio.timeout(90):
            assert set(await publishing) == {PublishOutcome.CONFIRMED}


@pytest.mark.pitfall(7)
@pytest.mark.fault(13)
async def test_a_publish_that_is_not_told_of_the_loss_of_its_connection_is_tried_again_soon(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What aiormq does, now and then, to a channel of a connection whose writer has just died.
    monkeypatch.setattr(aiormq.Channel, "closing", property(lambda _: asyncio.get_running_loop().create_future()))
    settings = replace(SWIFT, publish_deadline=90.0)
    async with AmqpWorkQueue(proxy.url_of(rabbitmq_url), namespace=namespace, settings=settings) as work_queue:
        proxy.delay(0.5)  # the confirmation comes too late
        publishing = asyncio.ensure_future(work_queue.publish([message(b"1")]))
        await until(lambda: bool(work_queue._publisher._on_its_way))
        proxy.reset()
        proxy.delay(0.0)
        async with asyncio.timeout(90):
            assert await publishing == [PublishOutcome.CONFIRMED]


async def test_a_slow_link_is_not_taken_for_a_dead_one(rabbitmq_url: str, namespace: str, proxy: TcpProxy) -> None:
    settings = replace(SWIFT, rpc_deadline=30.0, publish_deadline=60.0)
    async with AmqpWorkQueue(proxy.url_of(rabbitmq_url), namespace=namespace, settings=settings) as work_queue:
        proxy.delay(0.1)
        async with work_queue.consume(["a"], prefetch=1) as consumer:
            assert await work_queue.publish([message(b"1")]) == [PublishOutcome.CONFIRMED]
            assert (await consumer.receive()).body == b"1"
        assert [health.generation for health in work_queue.health()] == [1, 1]
        proxy.delay(0.0)


@pytest.mark.fault(56)
async def test_opening_gives_up_on_a_broker_that_does_not_answer(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy
) -> None:
    proxy.blackhole()
    settings = replace(SWIFT, connect_deadline=0.3, open_deadline=1.0)
    with pytest.raises(BrokerUnavailableError, match=r"no answer within 0\.3 s"):
        await AmqpWorkQueue(proxy.url_of(rabbitmq_url), namespace=namespace, settings=settings).__aenter__()


async def test_opening_gives_up_where_nobody_listens(namespace: str) -> None:
    settings = replace(SWIFT, open_deadline=0.5)
    with pytest.raises(BrokerUnavailableError, match="is unavailable"):
        await AmqpWorkQueue("amqp://guest:secret@127.0.0.1:1/", namespace=namespace, settings=settings).__aenter__()


@pytest.mark.pitfall(16)
@pytest.mark.fault(12)
async def test_closing_a_half_open_link_takes_no_longer_than_its_deadline(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy
) -> None:
    settings = replace(SWIFT, probe_interval=60.0, close_deadline=0.5)
    async with (
        AmqpWorkQueue(proxy.url_of(rabbitmq_url), namespace=namespace, settings=settings) as work_queue,
        work_queue.consume(["a"], prefetch=1),
    ):
        proxy.blackhole()
        began = time.monotonic()
    assert time.monotonic() - began < 30  # its probes alone would take a minute


@pytest.mark.pitfall(4)
@pytest.mark.fault(12, 13)
async def test_nobody_is_cancelled_who_was_not_asked_to_be(rabbitmq_url: str, namespace: str, proxy: TcpProxy) -> None:
    async with consuming(proxy.url_of(rabbitmq_url), namespace, prefetch=5) as (work_queue, consumer):
        receiving = asyncio.ensure_future(consumer.receive())
        publishing = [asyncio.ensure_future(work_queue.publish([message(b"x" * 100_000)] * 20)) for _ in range(3)]
        await asyncio.sleep(0)
        proxy.blackhole()
        await asyncio.sleep(1.0)
        proxy.reset()
        done, _ = await asyncio.wait(publishing, timeout=90)
        assert len(done) == 3
        assert not any(task.cancelled() for task in publishing)
        proxy.pass_through()
        await confirmed(work_queue, message(b"x" * 100_000))
        assert len((await asyncio.wait_for(receiving, 90)).body) == 100_000


@pytest.mark.fault(13, 49)
async def test_listeners_behind_a_broken_link_are_told_of_the_gap(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy
) -> None:
    async with (
        AmqpControlBus(rabbitmq_url, namespace=namespace) as sender,
        AmqpControlBus(proxy.url_of(rabbitmq_url), namespace=namespace, settings=SWIFT) as bus,
        bus.listen("w") as listener,
        bus.subscribe("#") as events,
    ):
        await sender.broadcast(b"1")
        assert await anext(listener) == b"1"
        proxy.reset()
        assert await asyncio.wait_for(anext(listener), 90) == b""
        assert await asyncio.wait_for(anext(events), 90) == b""
        await sender.broadcast(b"2")
        await sender.announce("x", b"3")
        assert await asyncio.wait_for(anext(listener), 90) == b"2"
        assert await asyncio.wait_for(anext(events), 90) == b"3"


@pytest.mark.fault(49)
async def test_a_broadcast_without_a_connection_is_dropped_and_not_raised(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy
) -> None:
    async with AmqpControlBus(proxy.url_of(rabbitmq_url), namespace=namespace, settings=SWIFT) as bus:
        proxy.blackhole()
        proxy.reset()
        await until(lambda: bus.health()[0].state is ConnectionState.CONNECTING)
        await bus.broadcast(b"1")
        await bus.announce("x", b"1")


async def test_a_hint_to_a_key_that_no_frame_has_room_for_is_dropped_and_not_raised(
    rabbitmq_url: str, namespace: str
) -> None:
    async with AmqpControlBus(rabbitmq_url, namespace=namespace, settings=SWIFT) as bus, bus.subscribe("#") as events:
        await bus.announce("k" * 256, b"1")  # a forged hint may ask for news under any key
        await bus.announce("k" * 255, b"2")
        assert await asyncio.wait_for(anext(events), 90) == b"2"


@pytest.mark.fault(12)
async def test_a_role_whose_last_answer_is_too_old_is_not_ready(
    rabbitmq_url: str, namespace: str, proxy: TcpProxy
) -> None:
    # No probe ever fails here, so nothing but the age of the last answer can tell.
    settings = replace(SWIFT, probe_interval=0.3, rpc_deadline=0.4)
    patient = replace(settings, rpc_deadline=30.0)
    async with (
        AmqpWorkQueue(proxy.url_of(rabbitmq_url), namespace=namespace, settings=settings) as work_queue,
        AmqpControlBus(proxy.url_of(rabbitmq_url), namespace=namespace, settings=settings) as bus,
        work_queue.consume(["a"], prefetch=1),
        bus.listen("w"),
    ):
        assert [health.role for health in [*work_queue.health(), *bus.health()]] == ["publish", "consume", "control"]
        await until(lambda: all(health.is_ready for health in [*work_queue.health(), *bus.health()]))
        for link in (work_queue._publish_link, work_queue._consume_link, bus._link):
            assert link.current is not None
            link.current._settings = patient  # its calls wait for ever
        proxy.blackhole()
        await until(lambda: not any(health.is_ready for health in [*work_queue.health(), *bus.health()]))
        for health in [*work_queue.health(), *bus.health()]:
            assert health.state is ConnectionState.READY
            assert re.fullmatch(r"the broker has not answered for \d+ s", health.problem)
            assert health.round_trip_age_seconds is not None
            assert health.round_trip_age_seconds > settings.round_trip_limit
        proxy.pass_through()
        await until(lambda: all(health.is_ready for health in [*work_queue.health(), *bus.health()]))
