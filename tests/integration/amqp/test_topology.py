"""What is declared, what clashes, what a user with few permissions may still do."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import replace

import aio_pika
import pytest

from floxide_amqp.drivers.amqp import consumer_lane
from floxide_amqp.drivers.amqp.control import AmqpControlBus
from floxide_amqp.drivers.amqp.topology import (
    DELIVERY_LIMIT,
    Names,
    count_messages,
    exchange_exists,
    work_queue_arguments,
)
from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.exceptions import BrokerAccessRefusedError, BrokerUnavailableError, TopologyClashError
from floxide_amqp.ports.work_queue import PublishOutcome
from floxide_amqp.testing.services import RabbitMQ
from floxide_amqp.testing.work_queue_suite import eventually
from tests.integration.amqp.support import SWIFT, message

OWN = [pytest.mark.xdist_group("own_rabbitmq")]


async def test_work_queues_are_quorum_queues_with_dead_letters(
    work_queue: AmqpWorkQueue, namespace: str, by_hand: aio_pika.abc.AbstractChannel
) -> None:
    async with work_queue.consume(["a"], prefetch=1) as consumer:
        await by_hand.declare_queue(
            f"{namespace}.work.a",
            durable=True,
            arguments={"x-queue-type": "quorum", **work_queue_arguments(Names(namespace))},
        )
        await work_queue.publish([message(b"given up")])
        await consumer.stop()
        given_up = await (await by_hand.get_queue(f"{namespace}.work.a")).get()
        await given_up.reject(requeue=False)
        dead = await by_hand.get_queue(f"{namespace}.dead")
        async with asyncio.timeout(90), dead.iterator(no_ack=True) as letters:  # RabbitMQ 4 takes a moment
            assert (await anext(letters)).body == b"given up"


async def test_what_is_given_up_has_a_place_again_when_the_exchange_before_it_was_deleted(
    rabbitmq_url: str, namespace: str, by_hand: aio_pika.abc.AbstractChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_lane, "IDLE_PROBES", 10**6)  # subscribed anew, a consumer declares everything
    name = f"{namespace}.dead"
    async with (
        AmqpWorkQueue(rabbitmq_url, namespace=namespace, settings=SWIFT) as work_queue,
        work_queue.consume(["a"], prefetch=1),
    ):
        await by_hand.exchange_delete(name)

        async def arrives() -> bool:
            session = await work_queue._consume_link.session()
            if not await exchange_exists(session, name):
                return False
            exchange = await by_hand.get_exchange(name, ensure=False)
            await exchange.publish(aio_pika.Message(b"given up"), routing_key="")
            return (await count_messages(session, name) or (0, 0))[0] > 0

        await eventually(arrives, expected=True)


async def test_the_place_for_dead_letters_gives_none_up_that_is_often_given_back(
    work_queue: AmqpWorkQueue, namespace: str, by_hand: aio_pika.abc.AbstractChannel
) -> None:
    async with work_queue.consume(["a"], prefetch=1):
        wanted = {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}
        await by_hand.declare_queue(f"{namespace}.dead", durable=True, arguments=wanted)
        with pytest.raises(aio_pika.exceptions.ChannelPreconditionFailed, match="x-delivery-limit"):
            await by_hand.declare_queue(f"{namespace}.dead", durable=True, arguments={"x-queue-type": "quorum"})


@pytest.mark.fault(23)
async def test_a_place_for_dead_letters_without_that_limit_is_a_clash_that_says_what_to_do(
    work_queue: AmqpWorkQueue, namespace: str, by_hand: aio_pika.abc.AbstractChannel
) -> None:
    await by_hand.declare_queue(f"{namespace}.dead", durable=True, arguments={"x-queue-type": "quorum"})
    with pytest.raises(TopologyClashError) as caught:
        await work_queue.consume(["a"], prefetch=1).__aenter__()
    assert str(caught.value) == (
        f"queue '{namespace}.dead' exists with x-delivery-limit = none, but x-delivery-limit = '{DELIVERY_LIMIT}' "
        "is needed. Delete the queue (its messages are re-created from the store) or use another namespace."
    )
    await by_hand.queue_delete(f"{namespace}.dead")
    async with work_queue.consume(["a"], prefetch=1):
        await work_queue.publish([message(b"1")])


@pytest.mark.fault(23)
async def test_a_queue_declared_differently_is_a_clash_that_names_the_argument(
    work_queue: AmqpWorkQueue, namespace: str, by_hand: aio_pika.abc.AbstractChannel
) -> None:
    await by_hand.declare_queue(
        f"{namespace}.work.a",
        durable=True,
        arguments={"x-queue-type": "classic", "x-dead-letter-exchange": f"{namespace}.dead"},
    )
    with pytest.raises(TopologyClashError) as caught:
        await work_queue.consume(["a"], prefetch=1).__aenter__()
    assert str(caught.value) == (
        f"queue '{namespace}.work.a' exists with x-queue-type = 'classic', but x-queue-type = 'quorum' is needed. "
        "Delete the queue (its messages are re-created from the store) or use another namespace."
    )


@pytest.mark.fault(24)
async def test_an_exchange_declared_differently_is_a_clash_that_names_the_type(
    rabbitmq_url: str, namespace: str, by_hand: aio_pika.abc.AbstractChannel
) -> None:
    await by_hand.declare_exchange(f"{namespace}.work", "fanout", durable=True)
    with pytest.raises(
        TopologyClashError, match=r"exchange '.*\.work' exists with type = 'fanout', but type = 'direct'"
    ):
        await AmqpWorkQueue(rabbitmq_url, namespace=namespace).__aenter__()


@pytest.mark.fault(23)
async def test_a_clash_does_not_disturb_other_consumers(
    work_queue: AmqpWorkQueue, namespace: str, by_hand: aio_pika.abc.AbstractChannel
) -> None:
    async with work_queue.consume(["a"], prefetch=1) as consumer:
        await work_queue.publish([message(b"1")])
        held = await consumer.receive()
        await by_hand.declare_queue(f"{namespace}.work.b", durable=True)
        with pytest.raises(TopologyClashError):
            await work_queue.consume(["b"], prefetch=1).__aenter__()
        await held.acknowledge()
    assert await work_queue.depth("a") == 0


@pytest.mark.fault(23)
async def test_a_queue_recreated_differently_under_its_consumer_makes_receive_raise(
    rabbitmq_url: str, namespace: str, by_hand: aio_pika.abc.AbstractChannel
) -> None:
    async with (
        AmqpWorkQueue(rabbitmq_url, namespace=namespace, settings=SWIFT) as work_queue,
        AmqpWorkQueue(rabbitmq_url, namespace=namespace, settings=SWIFT) as other,
        work_queue.consume(["a"], prefetch=1) as consumer,
        other.consume(["b"], prefetch=1),
    ):
        while True:
            await by_hand.queue_delete(f"{namespace}.work.a")
            try:
                await by_hand.declare_queue(f"{namespace}.work.a", durable=True)
            except aio_pika.exceptions.ChannelPreconditionFailed:
                await by_hand.reopen()  # the driver was faster
            else:
                break
        with pytest.raises(
            TopologyClashError, match=r"with x-dead-letter-exchange = none, but .* = '.*\.dead' is needed"
        ):
            await consumer.receive()
        await by_hand.queue_delete(f"{namespace}.work.a")
        while await other.publish([message(b"healed")]) != [PublishOutcome.CONFIRMED]:
            pass
        assert await work_queue.depth("a") in (0, 1)


@pytest.fixture
def user(own_rabbitmq: RabbitMQ) -> Iterator[str]:
    name = f"user-{secrets.token_hex(4)}"
    own_rabbitmq.ctl("add_user", name, "very-secret")
    yield name
    own_rabbitmq.ctl("delete_user", name)


def url_of(broker: RabbitMQ, user: str, password: str = "very-secret") -> str:
    return broker.url.replace("guest:guest", f"{user}:{password}")


class TestPermissions:
    pytestmark = OWN

    async def test_a_user_who_may_not_declare_uses_what_is_there(
        self, own_rabbitmq: RabbitMQ, namespace: str, user: str
    ) -> None:
        async with (
            AmqpWorkQueue(own_rabbitmq.url, namespace=namespace) as deployed,
            deployed.consume(["a"], prefetch=1),
        ):
            pass
        own_rabbitmq.ctl("set_permissions", user, "^$", rf"^{namespace}\.work$", rf"^{namespace}\.work\..*$")
        async with (
            AmqpWorkQueue(url_of(own_rabbitmq, user), namespace=namespace) as work_queue,
            work_queue.consume(["a"], prefetch=1) as consumer,
        ):
            assert await work_queue.publish([message(b"1")]) == [PublishOutcome.CONFIRMED]
            assert (await consumer.receive()).body == b"1"

    async def test_a_user_who_may_not_declare_what_is_missing_is_told_which_permission(
        self, own_rabbitmq: RabbitMQ, namespace: str, user: str
    ) -> None:
        own_rabbitmq.ctl("set_permissions", user, "^$", ".*", ".*")
        with pytest.raises(BrokerAccessRefusedError, match=rf"Declaring exchange {namespace}\.work was refused"):
            await AmqpWorkQueue(url_of(own_rabbitmq, user), namespace=namespace).__aenter__()

    async def test_a_user_who_may_not_consume_is_told_so(
        self, own_rabbitmq: RabbitMQ, namespace: str, user: str
    ) -> None:
        own_rabbitmq.ctl("set_permissions", user, ".*", ".*", rf"^{namespace}\.(work|dead)$")
        async with AmqpWorkQueue(url_of(own_rabbitmq, user), namespace=namespace) as work_queue:
            with pytest.raises(BrokerAccessRefusedError, match=r"\.work\.a was refused"):
                await work_queue.consume(["a"], prefetch=1).__aenter__()

    async def test_a_message_that_may_not_be_published_is_refused(
        self, own_rabbitmq: RabbitMQ, namespace: str, user: str
    ) -> None:
        own_rabbitmq.ctl("set_permissions", user, ".*", "^$", ".*")
        async with AmqpWorkQueue(url_of(own_rabbitmq, user), namespace=namespace, settings=SWIFT) as work_queue:
            assert await work_queue.publish([message(b"1")]) == [PublishOutcome.REFUSED]

    async def test_a_worker_needs_no_more_for_control_than_its_own_queues(
        self, own_rabbitmq: RabbitMQ, namespace: str, user: str
    ) -> None:
        async with AmqpControlBus(own_rabbitmq.url, namespace=namespace) as sender:
            own = rf"^{namespace}\.(control|events)\..*$"
            own_rabbitmq.ctl("set_permissions", user, own, own, rf"^{namespace}\.(control|events)(\..*)?$")
            async with (
                AmqpControlBus(url_of(own_rabbitmq, user), namespace=namespace) as bus,
                bus.listen("w") as listener,
            ):
                await sender.broadcast(b"1")
                assert await anext(listener) == b"1"

    async def test_a_wrong_password_is_refused_without_being_shown(
        self, own_rabbitmq: RabbitMQ, namespace: str, user: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(BrokerAccessRefusedError) as caught:
            await AmqpWorkQueue(url_of(own_rabbitmq, user, "wrong-secret"), namespace=namespace).__aenter__()
        assert "ACCESS_REFUSED" in str(caught.value)
        assert "wrong-secret" not in str(caught.value) + repr(caught.value.__dict__) + caplog.text

    async def test_an_unknown_virtual_host_is_refused(self, own_rabbitmq: RabbitMQ, namespace: str) -> None:
        settings = replace(SWIFT, open_deadline=2.0)
        with pytest.raises(BrokerUnavailableError, match="virtual host was refused: it does not exist"):
            await AmqpWorkQueue(own_rabbitmq.url + "nowhere", namespace=namespace, settings=settings).__aenter__()
