"""What a real broker gives up on comes back: by its policies, in a crash loop, and where it has nowhere to put it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
import aio_pika.exceptions
import pytest

from floxide_amqp import DeadLetterKind, Floxide, Orchestrator, RunFailedError
from floxide_amqp.core.message_records import Probe
from floxide_amqp.drivers.amqp.dead_letters import AmqpDeadLetterQueue
from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.ports.dead_letters import DeadDelivery, DeadLetterReader
from floxide_amqp.ports.work_queue import Message
from floxide_amqp.stores.record_codec import encode_probe
from floxide_amqp.testing.rabbitmq_servers import RabbitMQ
from tests.integration.dead_letter_app import SWIFT, Innocent, Poison, application

ROOT = Path(__file__).parents[2]
CANARY = encode_probe(Probe(queue="default", number=0, before=""))
"""A message that nobody minds."""

pytestmark = pytest.mark.xdist_group("own_rabbitmq")


class Site:
    """A broker whose policies may be changed, a store, and a namespace."""

    def __init__(self, broker: RabbitMQ, namespace: str, folder: Path) -> None:
        self.broker = broker
        self.namespace = namespace
        self.place = (broker.url, f"sqlite:///{folder}/runs.db", namespace)

    def app(self, *, dead_letters: int = 5) -> Floxide:
        return application(*self.place, dead_letters=dead_letters)

    async def policy(self, name: str, pattern: str, definition: str) -> None:
        """Set a policy on the queues of this namespace whose names end so."""
        pattern = f"^{self.namespace}[.]{pattern}$"
        await asyncio.to_thread(
            self.broker.ctl, "set_policy", f"{self.namespace}-{name}", pattern, definition, "--apply-to", "queues"
        )

    async def no_policy(self, name: str) -> None:
        await asyncio.to_thread(self.broker.ctl, "clear_policy", f"{self.namespace}-{name}")

    async def look(self, queue: str) -> tuple[int, int]:
        """How many messages wait in a queue and how many consumers it has; -1 and 0 where there is none."""
        async with await aio_pika.connect(self.broker.url) as connection:
            channel = await connection.channel()
            try:
                found = await channel.declare_queue(f"{self.namespace}.{queue}", passive=True)
            except aio_pika.exceptions.ChannelNotFoundEntity:
                return -1, 0
            counts = found.declaration_result
            return counts.message_count or 0, counts.consumer_count or 0

    async def is_empty(self, queue: str) -> bool:
        return (await self.look(queue))[0] == 0

    async def purge(self, queue: str) -> None:
        async with await aio_pika.connect(self.broker.url) as connection:
            found = await (await connection.channel()).get_queue(f"{self.namespace}.{queue}")
            await found.purge()

    async def delete(self, queue: str) -> None:
        async with await aio_pika.connect(self.broker.url) as connection:
            await (await connection.channel()).queue_delete(f"{self.namespace}.{queue}")

    async def expire(self, pattern: str = "work[.]default") -> None:
        """Have the broker give up on what waits for 50 ms, and wait until it does: policies take their time."""
        await self.policy("expiry", pattern, '{"message-ttl": 50}')
        async with AmqpWorkQueue(self.broker.url, namespace=self.namespace) as queue:
            for _ in range(100):
                await queue.publish([Message(queue="default", body=CANARY)])
                await asyncio.sleep(0.3)
                if await self.is_empty("work.default"):
                    return
                await self.purge("work.default")
        raise AssertionError("messages do not expire")

    async def fill(self) -> None:
        """Have the dead letter queue keep nothing that comes, and wait until it does so.

        By `drop-head`: what `reject-publish` refuses are publishers, while dead letters get in (3.10, measured).
        """
        await self.policy("full", "dead", '{"max-length": 0, "overflow": "drop-head"}')
        async with await aio_pika.connect(self.broker.url) as connection:
            channel = await connection.channel()
            for _ in range(100):
                await channel.default_exchange.publish(aio_pika.Message(CANARY), routing_key=f"{self.namespace}.dead")
                await asyncio.sleep(0.3)
                if await self.is_empty("dead"):
                    return
                await self.purge("dead")
        raise AssertionError("the queue keeps everything")

    @asynccontextmanager
    async def worker(self, app: Floxide, *queues: str) -> AsyncGenerator[None]:
        async with app.worker(queues=queues) as worker:
            task = asyncio.create_task(worker.run_forever())
            try:
                yield
            finally:
                worker.stop()
                await task


@pytest.fixture
def site(own_rabbitmq: RabbitMQ, namespace: str, tmp_path: Path) -> Site:
    return Site(own_rabbitmq, namespace, tmp_path)


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 120) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - the broker and other processes make it so
            await asyncio.sleep(0.1)


async def made(app: Floxide, site: Site) -> None:
    """Have the task queue declared, by a worker that serves it for a moment."""
    async with site.worker(app, "default"):
        await until(lambda: site.is_empty("work.default"))


@pytest.mark.fault(21)
async def test_neighbours_of_a_crash_loop_that_the_broker_gives_up_on_all_complete(site: Site, tmp_path: Path) -> None:
    app, log = site.app(), tmp_path / "worker.log"
    await made(app, site)
    await site.policy("limit", "work[.]default", '{"delivery-limit": 1}')

    def launch() -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.integration.dead_letter_app", *site.place], cwd=ROOT, stderr=file
            )

    async with app.orchestrator() as orchestrator:
        poison = await orchestrator.start(Poison, 1, run_id="poison")
        innocents = [await orchestrator.start(Innocent, n, run_id=f"run-{n}") for n in range(30)]
        process, killed = launch(), 0
        try:

            async def is_over() -> bool:
                nonlocal process, killed
                if process.poll() is not None:
                    killed += 1
                    process = launch()
                states = [await each.status() for each in (poison, *innocents)]
                return all(state.is_terminal for state in states)

            await until(is_over, 300)
        finally:
            process.kill()
            process.wait()
        assert [await run.result(60) for run in innocents] == [n * n for n in range(30)]
        with pytest.raises(RunFailedError, match="workers died"):
            await poison.result(60)
        assert killed >= 3
        assert await orchestrator.dead_letters() == []
    events = [json.loads(line)["event"] for line in log.read_text().splitlines() if line.startswith("{")]
    assert "dead_letter.published_again" in events or "dead_letter.settled" in events


@pytest.mark.fault(21)
async def test_a_message_that_expires_again_and_again_is_kept_until_somebody_requeues_it(site: Site) -> None:
    app = site.app(dead_letters=2)
    await made(app, site)
    await site.expire()
    async with app.orchestrator() as orchestrator, site.worker(app, "elsewhere"):
        run = await orchestrator.start(Innocent, 7, run_id="run")
        await until(lambda: _is_kept(orchestrator))
        (letter,) = await orchestrator.dead_letters()
        assert (letter.kind, letter.run_id, letter.queue, letter.count) == (
            DeadLetterKind.UNDELIVERED, "run", "default", 3,
        )  # fmt: skip
        assert letter.reason == "it waited too long (message TTL)"
        (item,) = await orchestrator.pending_work("run")
        assert "gave up on its message 3 times in a row" in item.note
        await until(lambda: site.is_empty("dead"))
        await site.no_policy("expiry")
        async with site.worker(app, "default"):
            assert not (await run.status()).is_terminal
            await orchestrator.requeue_dead_letter(letter.letter_id)
            assert await run.result(120) == 49
        assert await orchestrator.dead_letters() == []


async def _is_kept(orchestrator: Orchestrator) -> bool:
    return [each.again_at for each in await orchestrator.dead_letters()] == [None]


@pytest.mark.fault(22)
@pytest.mark.parametrize("how", ["missing", "full"])
async def test_messages_given_up_into_nowhere_are_found_by_the_store(site: Site, how: str) -> None:
    app = site.app()
    await made(app, site)
    if how == "missing":
        await site.delete("dead")
    else:
        await site.fill()
    await site.expire()
    async with app.orchestrator() as orchestrator:
        runs = [await orchestrator.start(Innocent, n, run_id=f"run-{n}") for n in range(20)]
        await until(lambda: site.is_empty("work.default"))
        assert (await site.look("dead"))[0] == (-1 if how == "missing" else 0)
        await site.no_policy("expiry")
        async with site.worker(app, "default"):
            assert [await run.result(120) for run in runs] == [n * n for n in range(20)]
        assert [len(await orchestrator.work_items(run.run_id)) for run in runs] == [1] * 20


async def test_a_letter_says_which_task_queue_gave_it_up_and_why(site: Site) -> None:
    async with AmqpWorkQueue(site.broker.url, namespace=site.namespace) as queue:
        async with queue.consume(["größe", "default"], prefetch=2):
            pass
        await site.expire("work.*")
        await queue.publish([Message(queue="größe", body=b"late")])
        letters = AmqpDeadLetterQueue(site.broker.url, namespace=site.namespace)
        assert letters.health() == ()
        async with letters.read(prefetch=5) as reader:
            letter = await until_arrived(reader, b"late")
            assert (letter.queue, letter.reason, letter.count) == ("größe", "expired", 1)
            (health,) = letters.health()
            assert (health.role, health.is_ready) == ("dead letters", True)
            await letter.release()
            again = await until_arrived(reader, b"late")
            await again.acknowledge()
            await again.acknowledge()  # a second time is harmless
            await until(lambda: site.is_empty("dead"))


async def test_the_reader_of_dead_letters_outlives_its_queue_and_its_connection(site: Site) -> None:
    async with AmqpWorkQueue(site.broker.url, namespace=site.namespace) as queue:
        async with queue.consume(["default"], prefetch=1):
            pass
        await site.expire()
        letters = AmqpDeadLetterQueue(site.broker.url, namespace=site.namespace, settings=SWIFT)
        async with letters.read(prefetch=5) as reader:

            async def arrives(body: bytes) -> None:
                await until(has_reader)
                await queue.publish([Message(queue="default", body=body)])
                await (await until_arrived(reader, body)).acknowledge()

            async def has_reader() -> bool:
                return (await site.look("dead"))[1] > 0

            await arrives(b"one")
            await site.delete("dead")
            await arrives(b"two")
            await asyncio.to_thread(site.broker.ctl, "close_all_connections", "for a test")
            await asyncio.sleep(0.2)
            await arrives(b"three")


async def until_arrived(reader: DeadLetterReader, body: bytes) -> DeadDelivery:
    """Wait for a letter; what comes before it is acknowledged."""
    async with asyncio.timeout(120):
        while (letter := await reader.receive()).body != body:
            await letter.acknowledge()
        return letter
