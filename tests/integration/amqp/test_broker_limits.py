"""A broker that takes back, refuses, gives up, or changes its mind about who may do what. It belongs to these tests."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import aio_pika
import pytest

from floxide_amqp import Floxide, Timeouts, Workflow, node
from floxide_amqp.drivers.amqp import consumer_lane
from floxide_amqp.drivers.amqp.control import AmqpControlBus
from floxide_amqp.drivers.amqp.health import ConnectionState
from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.exceptions import BrokerAccessRefusedError
from floxide_amqp.ports.work_queue import PublishOutcome
from floxide_amqp.testing.services import PrivateRabbitMQ, RabbitMQ
from floxide_amqp.testing.work_queue_suite import eventually
from tests.integration.amqp.support import STEADY, SWIFT, confirmed, consuming, draining, message, until

pytestmark = [pytest.mark.xdist_group("own_rabbitmq")]

MANUAL = Path(__file__).parents[3] / "docs" / "rabbitmq.md"

QUICK = Timeouts(
    early_acknowledge=1.0, heartbeat=0.3, dead_after=5.0, maintenance=0.3, probe=0.5, publish_retry=0.5,
    result_backstop=0.2,
)  # fmt: skip

ALARMS = {
    "memory": (("set_vm_memory_high_watermark", "absolute", "1MB"), ("set_vm_memory_high_watermark", "0.4")),
    "disk": (("set_disk_free_limit", "100000GB"), ("set_disk_free_limit", "10MB")),
}

bodies_run: list[str] = []


@node
async def note(name: str) -> str:
    bodies_run.append(name)
    return name.upper()


class Noting(Workflow[str, str]):
    start = note


def application(broker: RabbitMQ, namespace: str, folder: Path) -> Floxide:
    return Floxide(
        broker.url,
        store=f"sqlite:///{folder}/runs.db",
        workflows=[Noting],
        namespace=namespace,
        timeouts=QUICK,
        broker_settings=SWIFT,
    )


@asynccontextmanager
async def working(app: Floxide) -> AsyncIterator[None]:
    """Have a worker work."""
    async with app.worker() as worker:
        running = asyncio.create_task(worker.run_forever())
        try:
            yield
        finally:
            worker.stop()
            await running


@contextmanager
def alarm(broker: RabbitMQ, kind: str) -> Iterator[None]:
    raise_it, clear_it = ALARMS[kind]
    broker.ctl(*raise_it)
    try:
        yield
    finally:
        broker.ctl(*clear_it)


@contextmanager
def acknowledgement_timeout(broker: RabbitMQ, seconds: int) -> Iterator[None]:
    """Have the broker look every second for deliveries that old; it reads both when a channel opens."""
    before = broker.ctl("eval", "{ok, T} = application:get_env(rabbit, consumer_timeout), T.").strip()
    broker.ctl("eval", "application:set_env(rabbit, channel_tick_interval, 1000).")
    broker.ctl("eval", f"application:set_env(rabbit, consumer_timeout, {seconds * 1000}).")
    try:
        yield
    finally:
        broker.ctl("eval", "application:set_env(rabbit, channel_tick_interval, 60000).")
        broker.ctl("eval", f"application:set_env(rabbit, consumer_timeout, {before}).")


@pytest.mark.fault(14)
@pytest.mark.pitfall(11)
@pytest.mark.parametrize("kind", ALARMS)
async def test_during_an_alarm_everything_but_publishing_goes_on(
    own_rabbitmq: RabbitMQ, namespace: str, kind: str
) -> None:
    async with (
        AmqpWorkQueue(own_rabbitmq.url, namespace=namespace, settings=STEADY) as work_queue,
        AmqpControlBus(own_rabbitmq.url, namespace=namespace, settings=STEADY) as bus,
        bus.listen("w"),
        work_queue.consume(["a"], prefetch=1) as consumer,
    ):
        await confirmed(work_queue, *(message(b"%d" % number) for number in range(3)))
        await bus.broadcast(b"a connection that never published is not blocked")
        with alarm(own_rabbitmq, kind):
            publishing = asyncio.ensure_future(work_queue.publish([message(b"during")]))
            await until(lambda: work_queue.health()[0].state is ConnectionState.BLOCKED)
            publish, consume = work_queue.health()
            assert (publish.is_ready, consume.is_ready) == (False, True)
            async with asyncio.timeout(90):  # nothing hangs
                for _ in range(3):
                    await (await consumer.receive()).acknowledge()
                await eventually(lambda: work_queue.depth("a"), 0)
                async with work_queue.consume(["b"], prefetch=1):
                    pass
                await bus.broadcast(b"dropped, not waited for")
            assert await publishing == [PublishOutcome.UNKNOWN]
            await until(lambda: (work_queue.health()[0].blocked_seconds or 0) >= STEADY.publish_deadline / 2)
            assert "blocked by the broker for" in work_queue.health()[0].problem
        await until(lambda: all(health.is_ready for health in [*work_queue.health(), *bus.health()]))
        assert [health.generation for health in work_queue.health()] == [1, 1]
        await confirmed(work_queue, message(b"after"))


@pytest.mark.fault(14)
async def test_a_run_started_during_an_alarm_is_done_once_when_it_is_over(
    own_rabbitmq: RabbitMQ, namespace: str, tmp_path: Path
) -> None:
    app = application(own_rabbitmq, namespace, tmp_path)
    async with working(app), app.orchestrator() as orchestrator:
        warm_up = await orchestrator.start(Noting, "before", run_id="before")
        assert await warm_up.result(timeout=90) == "BEFORE"
        with alarm(own_rabbitmq, "memory"):
            run = await orchestrator.start(Noting, "during", run_id="during")
            await asyncio.sleep(2 * SWIFT.publish_deadline)  # the publish has timed out and was tried again
        assert await run.result(timeout=90) == "DURING"
        await asyncio.sleep(1)  # the copies that were held back have come by now
        assert len(await orchestrator.work_items("during")) == 1
        assert bodies_run.count("during") == 1


@pytest.mark.fault(20)
async def test_a_delivery_held_too_long_costs_its_channel_and_nothing_else(
    own_rabbitmq: RabbitMQ, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    with acknowledgement_timeout(own_rabbitmq, 2):
        async with (
            AmqpWorkQueue(own_rabbitmq.url, namespace=namespace, settings=STEADY) as work_queue,
            work_queue.consume(["a"], prefetch=5) as consumer,
            work_queue.consume(["b"], prefetch=5) as neighbour,
        ):
            await confirmed(work_queue, *(message(b"%d" % number) for number in range(3)), message(b"n", "b"))
            held = [await consumer.receive() for _ in range(3)]
            await (await neighbour.receive()).acknowledge()
            again = [await asyncio.wait_for(consumer.receive(), 90) for _ in range(3)]
            assert sorted(delivery.body for delivery in again) == [b"0", b"1", b"2"]
            assert all(delivery.redelivered for delivery in again)
            for delivery in (*held, *again):
                await delivery.acknowledge()  # the first three are stale
            await confirmed(work_queue, message(b"next"), message(b"next", "b"))
            assert (await asyncio.wait_for(consumer.receive(), 90)).body == b"next"
            assert (await asyncio.wait_for(neighbour.receive(), 90)).body == b"next"
            assert [health.generation for health in work_queue.health()] == [1, 1]
    assert "delivery acknowledgement on channel" in caplog.text


@pytest.mark.soak
@pytest.mark.fault(20)
@pytest.mark.timeout(300)
async def test_the_acknowledgement_timeout_of_a_broker_as_it_is_configured_costs_its_channel_only(
    namespace: str,
) -> None:
    """RabbitMQ 3.10 looks once a minute: a timeout of 60 s strikes after up to 120 s."""
    with PrivateRabbitMQ(configuration="consumer_timeout = 60000") as broker:
        async with (
            AmqpWorkQueue(broker.url, namespace=namespace) as work_queue,
            work_queue.consume(["a"], prefetch=2) as consumer,
            work_queue.consume(["b"], prefetch=2) as neighbour,
        ):
            await confirmed(work_queue, message(b"1"), message(b"2"), message(b"n", "b"))
            stale = [await consumer.receive() for _ in range(2)]
            await (await neighbour.receive()).acknowledge()
            again = [await asyncio.wait_for(consumer.receive(), 150) for _ in range(2)]
            assert all(delivery.redelivered for delivery in again)
            for delivery in (*stale, *again):
                await delivery.acknowledge()
            assert [health.generation for health in work_queue.health()] == [1, 1]
            assert all(health.is_ready for health in work_queue.health())


@pytest.mark.fault(21)
async def test_innocents_of_a_crash_loop_end_as_dead_letters_and_not_nowhere(
    own_rabbitmq: RabbitMQ, namespace: str
) -> None:
    policy = {"delivery-limit": 2}
    own_rabbitmq.ctl("set_policy", namespace, rf"^{namespace}\.work\.", json.dumps(policy), "--apply-to", "queues")
    try:
        async with AmqpWorkQueue(own_rabbitmq.url, namespace=namespace, settings=SWIFT) as work_queue:
            async with work_queue.consume(["a"], prefetch=10):
                pass
            await confirmed(work_queue, *(message(b"%d" % number) for number in range(10)))
            for _ in range(3):  # each takes all ten and dies with them, for one of them
                async with work_queue.consume(["a"], prefetch=10) as consumer:
                    for _ in range(10):
                        await asyncio.wait_for(consumer.receive(), 90)
            await eventually(lambda: work_queue.depth("a"), 0)
            async with await aio_pika.connect(own_rabbitmq.url) as connection:
                dead = await (await connection.channel()).get_queue(f"{namespace}.dead")
                async with asyncio.timeout(90), dead.iterator(no_ack=True) as letters:
                    assert {(await anext(letters)).body for _ in range(10)} == {b"%d" % number for number in range(10)}
    finally:
        own_rabbitmq.ctl("clear_policy", namespace)


@pytest.mark.fault(22)
@pytest.mark.parametrize("harm", ["missing", "full"])
async def test_a_message_the_broker_drops_for_want_of_dead_letters_is_sent_again(
    own_rabbitmq: RabbitMQ, namespace: str, tmp_path: Path, harm: str
) -> None:
    app = application(own_rabbitmq, namespace, tmp_path)
    name = f"{harm}-{namespace}"
    async with app.orchestrator() as orchestrator, await aio_pika.connect(own_rabbitmq.url) as connection:
        run = await orchestrator.start(Noting, name)
        channel = await connection.channel()
        queue = await channel.get_queue(f"{namespace}.work.default")
        if harm == "missing":
            await channel.queue_delete(f"{namespace}.dead")
        else:
            limits = {"max-length": 0, "overflow": "reject-publish"}
            own_rabbitmq.ctl("set_policy", namespace, rf"^{namespace}\.dead$", json.dumps(limits))
        try:
            given_up = await queue.get(timeout=90)
            await given_up.reject(requeue=False)
            await until_empty(channel, queue.name)
            async with working(app):
                assert await run.result(timeout=90) == name.upper()
                assert bodies_run.count(name) == 1
        finally:
            if harm == "full":
                own_rabbitmq.ctl("clear_policy", namespace)


async def until_empty(channel: aio_pika.abc.AbstractChannel, name: str) -> None:
    async with asyncio.timeout(90):
        while True:
            if not (await channel.declare_queue(name, passive=True)).declaration_result.message_count:
                return
            await asyncio.sleep(0.05)


@pytest.mark.fault(22)
async def test_a_place_for_dead_letters_that_was_taken_away_comes_back(
    own_rabbitmq: RabbitMQ, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_lane, "IDLE_PROBES", 1_000)  # or an idle consumer is subscribed anew, which helps too
    settings = replace(SWIFT, probe_interval=1.0)
    async with (
        AmqpWorkQueue(own_rabbitmq.url, namespace=namespace, settings=settings) as work_queue,
        work_queue.consume(["a"], prefetch=1),
        await aio_pika.connect(own_rabbitmq.url) as connection,
    ):
        channel = await connection.channel()
        await channel.queue_delete(f"{namespace}.dead")
        async with asyncio.timeout(90):
            while True:
                try:
                    await channel.get_queue(f"{namespace}.dead")
                except aio_pika.exceptions.ChannelNotFoundEntity:
                    await channel.reopen()
                    await asyncio.sleep(0.1)
                else:
                    return


@pytest.mark.fault(9)
async def test_a_purged_queue_costs_a_run_time_only(own_rabbitmq: RabbitMQ, namespace: str, tmp_path: Path) -> None:
    app = application(own_rabbitmq, namespace, tmp_path)
    async with app.orchestrator() as orchestrator:
        run = await orchestrator.start(Noting, f"purged-{namespace}")
        own_rabbitmq.ctl("purge_queue", f"{namespace}.work.default")
        async with working(app):
            assert await run.result(timeout=90) == f"PURGED-{namespace}".upper()


@pytest.mark.fault(15)
async def test_a_binding_that_was_taken_away_is_made_again_by_the_next_message(
    own_rabbitmq: RabbitMQ, namespace: str
) -> None:
    async with (
        consuming(own_rabbitmq.url, namespace, prefetch=1) as (work_queue, consumer),
        await aio_pika.connect(own_rabbitmq.url) as connection,
    ):
        channel = await (await connection.channel()).get_underlay_channel()
        await channel.queue_unbind(f"{namespace}.work.a", f"{namespace}.work", "a")
        assert await work_queue.publish([message(b"1")]) == [PublishOutcome.CONFIRMED]
        assert (await asyncio.wait_for(consumer.receive(), 90)).body == b"1"


@pytest.mark.fault(8, 51)
async def test_the_first_run_on_a_fresh_broker_does_not_wait_for_a_timer(
    own_rabbitmq: RabbitMQ, namespace: str, tmp_path: Path
) -> None:
    app = application(own_rabbitmq, namespace, tmp_path)
    async with app.orchestrator() as orchestrator, AmqpWorkQueue(own_rabbitmq.url, namespace=namespace) as work_queue:
        await orchestrator.start(Noting, "first")
        assert await work_queue.depth("default") == 1  # before there is any worker


def rights_in_the_manual(namespace: str) -> dict[str, list[str]]:
    """Return configure, write and read for each user of docs/rabbitmq.md, for a namespace."""
    rows = re.findall(r"^\| (\w+) \| `(\^.*)` \| `(\^.*)` \| `(\^.*)` \|$", MANUAL.read_text(), re.MULTILINE)
    return {
        user: [right.replace("\\|", "|").replace("floxide", namespace) for right in rights] for user, *rights in rows
    }


class TestUsers:
    @pytest.fixture
    def user(self, own_rabbitmq: RabbitMQ) -> Iterator[str]:
        name = f"user-{secrets.token_hex(4)}"
        own_rabbitmq.ctl("add_user", name, "first-secret")
        own_rabbitmq.ctl("set_permissions", name, ".*", ".*", ".*")
        yield name
        own_rabbitmq.ctl("delete_user", name)

    @pytest.mark.fault(55)
    async def test_a_rotated_password_is_told_loudly_without_a_storm_and_heals(
        self, own_rabbitmq: RabbitMQ, namespace: str, user: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        url = own_rabbitmq.url.replace("guest:guest", f"{user}:first-secret")
        async with (
            AmqpWorkQueue(url, namespace=namespace, settings=SWIFT) as work_queue,
            work_queue.consume(["a"], prefetch=1) as consumer,
        ):
            own_rabbitmq.ctl("change_password", user, "second-secret")
            own_rabbitmq.ctl("close_all_connections", "rotated")
            await until(lambda: all("ACCESS_REFUSED" in health.problem for health in work_queue.health()))
            assert "Check the user and the password" in work_queue.health()[0].problem
            await asyncio.sleep(2)
            assert 2 <= caplog.text.count("broker.connect_failed") <= 4  # two links, a line per problem of each
            assert "first-secret" not in caplog.text
            own_rabbitmq.ctl("change_password", user, "first-secret")
            await until(lambda: all(health.is_ready for health in work_queue.health()))
            await confirmed(work_queue, message(b"1"))
            assert (await asyncio.wait_for(consumer.receive(), 90)).body == b"1"

    @pytest.mark.fault(55)
    async def test_a_revoked_permission_is_told_loudly_and_heals_when_it_is_granted_again(
        self, own_rabbitmq: RabbitMQ, namespace: str, user: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        url = own_rabbitmq.url.replace("guest:guest", f"{user}:first-secret")
        async with (
            AmqpWorkQueue(url, namespace=namespace, settings=SWIFT) as work_queue,
            work_queue.consume(["a"], prefetch=1) as consumer,
        ):
            own_rabbitmq.ctl("set_permissions", user, "^$", "^$", "^$")
            own_rabbitmq.ctl("close_all_connections", "revoked")
            with pytest.raises(BrokerAccessRefusedError, match=r"refused for user .* Grant the user"):
                await asyncio.wait_for(consumer.receive(), 90)
            assert not work_queue.health()[1].is_ready
            await until(lambda: work_queue.health()[0].is_ready)
            caplog.clear()
            assert await work_queue.publish([message(b"1")]) == [PublishOutcome.REFUSED]
            own_rabbitmq.ctl("set_permissions", user, ".*", ".*", ".*")
            await until(lambda: all(health.is_ready for health in work_queue.health()))
            await confirmed(work_queue, message(b"2"))
            async with draining(consumer) as seen:
                await until(lambda: seen[b"2"] >= 1)

    @pytest.mark.fault(55)
    async def test_hints_are_sent_again_when_the_right_to_send_them_is_back(
        self, own_rabbitmq: RabbitMQ, namespace: str, user: str
    ) -> None:
        url = own_rabbitmq.url.replace("guest:guest", f"{user}:first-secret")
        async with (
            AmqpControlBus(url, namespace=namespace, settings=SWIFT) as bus,
            AmqpControlBus(own_rabbitmq.url, namespace=namespace, settings=STEADY) as other,
            other.listen("w") as listener,
        ):
            own_rabbitmq.ctl("set_permissions", user, ".*", "^$", ".*")
            await bus.broadcast(b"refused: the broker closes the channel over it")
            own_rabbitmq.ctl("set_permissions", user, ".*", ".*", ".*")
            await until(lambda: bus.health()[0].generation == 2 and bus.health()[0].is_ready)
            await bus.broadcast(b"allowed")
            assert await asyncio.wait_for(anext(listener), 90) == b"allowed"

    async def test_a_run_needs_no_more_than_the_rights_in_the_manual(
        self, own_rabbitmq: RabbitMQ, namespace: str, tmp_path: Path
    ) -> None:
        rights = rights_in_the_manual(namespace)
        for name, (configure, write, read) in rights.items():
            user = f"{name}-{namespace}"
            own_rabbitmq.ctl("add_user", user, "secret")
            own_rabbitmq.ctl("set_permissions", user, configure, write, read)
        places = {
            name: application(own_rabbitmq, namespace, tmp_path).elsewhere(
                broker=own_rabbitmq.url.replace("guest:guest", f"{name}-{namespace}:secret")
            )
            for name in rights
        }
        try:
            async with working(places["topology"]):
                pass
            async with working(places["worker"]), places["client"].orchestrator() as orchestrator:
                run = await orchestrator.start(Noting, "allowed")
                assert await run.result(timeout=90) == "ALLOWED"
                await (await orchestrator.start(Noting, "cancelled")).cancel()
        finally:
            for name in rights:
                own_rabbitmq.ctl("delete_user", f"{name}-{namespace}")

    async def test_a_publisher_that_may_not_declare_gets_its_message_back(
        self, own_rabbitmq: RabbitMQ, namespace: str, user: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        url = own_rabbitmq.url.replace("guest:guest", f"{user}:first-secret")
        settings = replace(STEADY, publish_deadline=60.0)
        async with AmqpWorkQueue(own_rabbitmq.url, namespace=namespace):
            pass  # declares the work exchange
        own_rabbitmq.ctl("set_permissions", user, "^$", rf"^{namespace}\.work$", "^$")
        async with AmqpWorkQueue(url, namespace=namespace, settings=settings) as work_queue:
            assert await work_queue.publish([message(b"1")] * 20) == [PublishOutcome.RETURNED] * 20
            assert caplog.text.count("broker.task_queue_missing") == 1
            assert work_queue.health()[0].generation == 1
