"""The kinds of servers that tests launch, and the ways to get one: what the tests of the launchers are run over."""

from __future__ import annotations

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, ClassVar, Literal

import aio_pika
import aio_pika.exceptions
import asyncpg
import pytest

from floxide_amqp.testing import postgresql_servers, rabbitmq_servers, redis_servers, services
from floxide_amqp.testing.postgresql_servers import execute
from floxide_amqp.testing.services import (
    ContainerPostgreSQL,
    ContainerRabbitMQ,
    ContainerRedis,
    ExternalPostgreSQL,
    ExternalRabbitMQ,
    ExternalRedis,
    PrivatePostgreSQL,
    PrivateRabbitMQ,
    PrivateRedis,
    has_container_engine,
    new_namespace,
)

Provider = Literal["External", "Container", "Private"]


class ServerKind(ABC):
    """What a test knows of RabbitMQ, PostgreSQL or Redis: how it is launched, and how a note is left in it."""

    name: ClassVar[str]
    scheme: ClassVar[str]
    variable: ClassVar[str]
    package: ClassVar[str]
    classes: ClassVar[dict[Provider, Any]]
    launch: ClassVar[Any]
    nobody: ClassVar[str]
    """A URL where no server is."""

    @abstractmethod
    def answers(self, url: str) -> bool:
        """Tell whether one can log in; blocks."""

    @abstractmethod
    def new_place(self, server: Any) -> str:
        """Return a place in the server that nobody else uses."""

    @abstractmethod
    def leave(self, server: Any, place: str, note: str) -> None:
        """Leave a note there that outlives the server."""

    @abstractmethod
    def find(self, server: Any, place: str) -> str | None:
        """Return the note that was left there, None if there is none."""

    @contextmanager
    def opened(self, provider: Provider) -> Iterator[Any]:
        """Launch one; the one that is somebody else's is a private server here."""
        if provider == "Container" and not has_container_engine():
            pytest.skip("no container engine answers")
        if provider != "External":
            with closing(self.classes[provider]()) as server:
                server.start()
                yield server
            return
        with self.opened("Private") as theirs, closing(self.classes["External"](theirs.url)) as server:
            server.start()
            yield server


class RabbitMQKind(ServerKind):
    name = "rabbitmq"
    scheme = "amqp"
    variable = services.URL_VARIABLE
    package = "rabbitmq-server|rabbitmq"
    classes: ClassVar[dict[Provider, Any]] = {
        "External": ExternalRabbitMQ,
        "Container": ContainerRabbitMQ,
        "Private": PrivateRabbitMQ,
    }
    launch = staticmethod(services.launch_rabbitmq)
    nobody = "amqp://guest:secret@127.0.0.1:1/"

    def answers(self, url: str) -> bool:
        return rabbitmq_servers.can_log_in(url)

    def new_place(self, server: Any) -> str:
        del server
        return new_namespace()

    def leave(self, server: Any, place: str, note: str) -> None:
        async def publish() -> None:
            async with await aio_pika.connect(server.url) as connection:
                channel = await connection.channel()
                await channel.declare_queue(place, durable=True, arguments={"x-queue-type": "quorum"})
                lasting = aio_pika.Message(note.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
                await channel.default_exchange.publish(lasting, place)

        asyncio.run(publish())

    def find(self, server: Any, place: str) -> str | None:
        async def look() -> str | None:
            async with await aio_pika.connect(server.url) as connection:
                channel = await connection.channel()
                try:
                    queue = await channel.declare_queue(place, passive=True)
                except aio_pika.exceptions.ChannelNotFoundEntity:
                    return None
                async with asyncio.timeout(120):
                    found = await self._first(queue)
                await found.reject(requeue=True)
                return found.body.decode()

        return asyncio.run(look())

    async def _first(self, queue: aio_pika.abc.AbstractQueue) -> aio_pika.abc.AbstractIncomingMessage:
        while (found := await queue.get(fail=False)) is None:  # noqa: ASYNC110 - its leader is elected after a restart
            await asyncio.sleep(0.1)
        return found


class PostgreSQLKind(ServerKind):
    name = "postgresql"
    scheme = "postgresql"
    variable = postgresql_servers.URL_VARIABLE
    package = "postgresql"
    classes: ClassVar[dict[Provider, Any]] = {
        "External": ExternalPostgreSQL,
        "Container": ContainerPostgreSQL,
        "Private": PrivatePostgreSQL,
    }
    launch = staticmethod(services.launch_postgresql)
    nobody = "postgresql://somebody:secret@127.0.0.1:1/db"

    def answers(self, url: str) -> bool:
        return postgresql_servers.can_log_in(url)

    def new_place(self, server: Any) -> str:
        return str(server.new_database())

    def leave(self, server: Any, place: str, note: str) -> None:
        del server
        execute(place, f"CREATE TABLE note AS SELECT '{note}' AS said")

    def find(self, server: Any, place: str) -> str | None:
        del server
        try:
            (row,) = execute(place, "SELECT said FROM note")
        except (asyncpg.InvalidCatalogNameError, asyncpg.UndefinedTableError):
            return None
        return str(row["said"])


class RedisKind(ServerKind):
    name = "redis"
    scheme = "redis"
    variable = redis_servers.URL_VARIABLE
    package = "redis-server|redis"
    classes: ClassVar[dict[Provider, Any]] = {
        "External": ExternalRedis,
        "Container": ContainerRedis,
        "Private": PrivateRedis,
    }
    launch = staticmethod(services.launch_redis)
    nobody = "redis://somebody:secret@127.0.0.1:1/0"

    def answers(self, url: str) -> bool:
        return redis_servers.answers(url)

    def new_place(self, server: Any) -> str:
        del server
        return f"test-{secrets.token_hex(6)}"

    def leave(self, server: Any, place: str, note: str) -> None:
        server.command("SET", place, note)

    def find(self, server: Any, place: str) -> str | None:
        found = server.command("GET", place)
        return None if found is None else str(found.decode())


KINDS: tuple[ServerKind, ...] = (RabbitMQKind(), PostgreSQLKind(), RedisKind())


def named(one: object) -> str:
    """Return the name of a parameter."""
    return one.name if isinstance(one, ServerKind) else str(one)
