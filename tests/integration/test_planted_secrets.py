"""A secret that runs carry is looked for wherever servers keep anything: tables, keys, messages, all their files."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol, TypeVar

import aio_pika
import aio_pika.abc
import pytest

from floxide_amqp import Codec, Compression, DeadLetterKind, Encryption, Limits, Orchestrator, RunFailedError, RunHandle
from floxide_amqp.drivers.amqp.topology import Names
from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.testing.postgresql_servers import PostgreSQL, PrivatePostgreSQL, execute
from floxide_amqp.testing.rabbitmq_servers import PrivateRabbitMQ, RabbitMQ
from floxide_amqp.testing.redis_servers import PrivateRedis, Redis
from tests.integration.searched_stores import SearchedPostgreSQL, SearchedRedis, SearchedShards, files_in
from tests.integration.test_encryption import Bench, at_work, until
from tests.unit.runtime.sealed_workflows import EXPECTED, SECRET, Everything, Failing, Told, Two

KEYED = (Compression(above=10_000), Encryption({"k": bytes(range(32))}))


def carried_by_runs_of(secret: str) -> dict[str, str]:
    """What a store keeps of the runs here, in plain where nothing is encrypted."""
    return {
        "an input": secret,
        "an element of a fan-out, and what a step adds to the context": f"{secret} 1",
        "an initial context": f"initially: {secret}",
        "the text of an error that a fallback caught": f"part: {secret} 3",
        "a result": EXPECTED.replace(SECRET, secret),
        "the text of the error a run failed with": f"I will not tell {secret}",
    }


NAMED = (b"everything", b"failing", b"Everything")
"""What may be read, and so must be found: else the search found nothing because it looked nowhere."""

LIMITS = Limits(chain_steps=1, dead_letters=1)

pytestmark = [pytest.mark.xdist_group("own_rabbitmq")]


class Started(Protocol):
    def start(self) -> None: ...
    def close(self) -> None: ...


ServerT = TypeVar("ServerT", bound=Started)


def with_files(own: object, kind: Callable[[], ServerT]) -> Iterator[ServerT]:
    """Give a server whose files are on this machine: the one that is there, or another one."""
    if isinstance(own, kind if isinstance(kind, type) else ()):
        yield own
        return
    try:
        server = kind()
    except ConfigurationError as error:
        pytest.skip(f"needs a server whose files can be read here: {error}")
    server.start()
    yield server
    server.close()


@pytest.fixture
def broker(own_rabbitmq: RabbitMQ) -> Iterator[PrivateRabbitMQ]:
    yield from with_files(own_rabbitmq, PrivateRabbitMQ)


@pytest.fixture
def postgresql(own_postgresql: PostgreSQL) -> Iterator[PrivatePostgreSQL]:
    yield from with_files(own_postgresql, PrivatePostgreSQL)


@pytest.fixture
def redis(own_redis: Redis) -> Iterator[PrivateRedis]:
    yield from with_files(own_redis, PrivateRedis)


class Place(Bench):
    """An application on a broker, PostgreSQL and Redis, all of whose files can be read."""

    def __init__(self, broker: PrivateRabbitMQ, postgresql: PrivatePostgreSQL, redis: PrivateRedis) -> None:
        name = f"test_{secrets.token_hex(6)}"
        self.server, self.postgresql, self.redis = broker, postgresql, redis
        database = SearchedPostgreSQL(f"{postgresql.new_database()}?schema={name}")
        self.shards = SearchedShards({"anna": database, "bert": SearchedRedis(f"{redis.url}?prefix={name}")})
        self.names = Names(f"test-{secrets.token_hex(6)}")
        super().__init__(broker.url, self.names.namespace, self.shards)

    def everything(self) -> Mapping[str, bytes]:
        """All that the stores hold and their files, once they have written down what they had in mind."""
        execute(self.postgresql.url, "CHECKPOINT")
        self.redis.command("CONFIG", "SET", "rdbcompression", "no")  # what is packed cannot be searched
        self.redis.command("SAVE")
        return {
            **self.shards.contents(),
            "anna: files": files_in(self.postgresql.data),
            "bert: files": files_in(self.redis.data),
        }


class Tapped:
    """Queues beside those of an application, which get a copy of each message.

    Attributes:
        bodies: What has come, with the headers and properties.
    """

    def __init__(self, channel: aio_pika.abc.AbstractChannel, names: Names) -> None:
        self.bodies: list[bytes] = []
        self._channel, self._names = channel, names

    async def bind(self) -> None:
        """Listen, durably: so that the copies lie in the broker's files like the messages."""
        for exchange, kind, key in (
            (self._names.work_exchange, "direct", "default"),
            (self._names.control_exchange, "fanout", ""),
            (self._names.event_exchange, "topic", "#"),
            (self._names.dead_exchange, "fanout", ""),
        ):
            await self._channel.declare_exchange(exchange, kind, durable=True)
            queue = await self._channel.declare_queue(
                f"{exchange}.tap", durable=True, arguments={"x-queue-type": "quorum"}
            )
            await queue.bind(exchange, key)
            await queue.consume(self._keep, no_ack=False)

    async def _keep(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        self.bodies.append(b"\0".join((message.body, repr(message.info()).encode())))

    async def publish_half_of_one(self) -> None:
        """Publish a message that cannot be read, made of one that can."""
        exchange = await self._channel.get_exchange(self._names.work_exchange)
        body = self.bodies[0].partition(b"\0")[0]
        await exchange.publish(aio_pika.Message(body[: len(body) // 2]), "default")

    async def give_up_on(self, orchestrator: Orchestrator) -> None:
        """Reject the only message of the task queue, until it is kept as a dead letter."""
        queue = await self._channel.get_queue(self._names.work_queue("default"))
        while [letter.again_at for letter in await orchestrator.dead_letters()] != [None]:
            message = await queue.get(fail=False)
            if message is not None:
                await message.reject(requeue=False)
            await asyncio.sleep(0.05)


@asynccontextmanager
async def tapped(place: Place) -> AsyncIterator[Tapped]:
    async with await aio_pika.connect(place.broker) as connection:
        tap = Tapped(await connection.channel(), place.names)
        await tap.bind()
        yield tap


@pytest.mark.parametrize("codecs", [(), KEYED], ids=["without", "with"])
async def test_a_planted_secret_is_in_no_table_key_message_or_file_of_the_servers_and_without_a_codec_in_their_stores(
    codecs: Sequence[Codec], broker: PrivateRabbitMQ, postgresql: PrivatePostgreSQL, redis: PrivateRedis
) -> None:
    secret = f"{SECRET} {secrets.token_hex(8)}"  # servers keep what earlier tests have told them
    place = await asyncio.to_thread(Place, broker, postgresql, redis)
    app = place.app(*codecs, limits=LIMITS)
    async with AsyncExitStack() as stack:
        tap = await stack.enter_async_context(tapped(place))
        orchestrator = await stack.enter_async_context(app.orchestrator())
        async with at_work(app):  # so that the task queue is there
            pass
        waiting = await orchestrator.start(Two, secret, run_id=place.shards.ids("waiting")[0])
        async with at_work(app, "elsewhere"), asyncio.timeout(90):
            await tap.give_up_on(orchestrator)
        before = await asyncio.to_thread(place.everything)

        await stack.enter_async_context(at_work(app))
        await tap.publish_half_of_one()
        runs: list[RunHandle[str]] = []
        for run_id in place.shards.ids("everything"):
            runs.append(
                await orchestrator.start(Everything, secret, context=Told(said=f"initially: {secret}"), run_id=run_id)
            )
        for run_id in place.shards.ids("failing"):
            bad = await orchestrator.start(Failing, secret, context=Told(said=f"initially: {secret}"), run_id=run_id)
            with pytest.raises(RunFailedError, match=f"I will not tell {secret}"):
                await bad.result(90)
        for run in runs:
            assert await run.result(90) == EXPECTED.replace(SECRET, secret)
        async with asyncio.timeout(90):
            while not await orchestrator.quarantine():  # noqa: ASYNC110 - the worker's doing
                await asyncio.sleep(0.02)
        kept = {letter.kind: letter.letter_id for letter in await orchestrator.dead_letters()}
        assert set(kept) == {DeadLetterKind.UNDELIVERED, DeadLetterKind.UNREADABLE}
        await orchestrator.requeue_dead_letter(kept[DeadLetterKind.UNDELIVERED])
        assert await waiting.result(90) == secret
        await until(lambda: any(b"finished" in body or b"completed" in body for body in tap.bodies))
        after = await asyncio.to_thread(place.everything)
        in_the_broker = {"messages": b"\0".join(tap.bodies), "files": files_in(broker.data)}

    check_found(secret, before, after, is_plain=not codecs)
    for where, found in in_the_broker.items():
        assert secret.encode() not in found, where
        assert b"everything" in found, where


def check_found(secret: str, before: Mapping[str, bytes], after: Mapping[str, bytes], *, is_plain: bool) -> None:
    assert any(secret.encode() in found for found in before.values()) is is_plain
    for where, found in after.items():
        if not is_plain:
            assert secret.encode() not in found, where
    for where in ("anna: cells", "anna: files", "bert: keys", "bert: files"):
        for name in NAMED:
            assert name in after[where], (where, name)
    for what, text in carried_by_runs_of(secret).items():
        for where in ("anna: files", "bert: keys", "bert: files"):
            assert (text.encode() in after[where]) is is_plain, (what, where)
