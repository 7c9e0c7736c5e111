"""The servers of the cluster demo: RabbitMQ and the store's, named by the environment or launched for one census."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from floxide_amqp import ConfigurationError
from floxide_amqp.apps.settings import BROKER_VARIABLE, STORE_VARIABLE, read_settings
from floxide_amqp.testing.services import (
    PostgreSQL,
    RabbitMQ,
    Redis,
    launch_own_postgresql,
    launch_own_rabbitmq,
    launch_own_redis,
    launch_rabbitmq,
)

SQLITE = "sqlite"


def _launch_redis() -> Redis:
    """Launch a Redis that loses nothing when it is killed: with ``everysec`` it may hold writes back for a moment."""
    server = launch_own_redis()
    server.command("CONFIG", "SET", "appendfsync", "always")
    return server


SERVERS: dict[str, tuple[str, Callable[[], PostgreSQL | Redis]]] = {
    "postgresql": ("PostgreSQL", launch_own_postgresql),
    "redis": ("Redis", _launch_redis),
}
"""What `--store` may name besides a SQLite file: what people call it, and what launches one."""

AWAY_SECONDS = 3.0
"""How long the store's server stays dead."""


@asynccontextmanager
async def broker_of(*, kills: bool, has_workers: bool) -> AsyncIterator[tuple[str, RabbitMQ | None]]:
    """Yield the URL of the broker to use and, if it was launched here, the broker itself.

    Raises:
        ConfigurationError: It is to be killed and somebody else's, or workers elsewhere could not know it.
    """
    url = read_settings().broker
    if url is not None:
        if kills:
            raise ConfigurationError(f"The broker named by {BROKER_VARIABLE} is not ours to kill; unset the variable.")
        yield url, None
        return
    if not has_workers:
        raise ConfigurationError(f"With --workers 0 the workers run elsewhere: name their broker in {BROKER_VARIABLE}.")
    broker = await asyncio.to_thread(launch_own_rabbitmq if kills else launch_rabbitmq)
    try:
        say(f"RabbitMQ at {broker.url.rpartition('@')[2]}.")
        yield broker.url, broker if broker.is_mine else None
    finally:
        await asyncio.to_thread(broker.close)


@asynccontextmanager
async def store_of(kind: str | None, file_url: str) -> AsyncIterator[tuple[str, PostgreSQL | Redis | None]]:
    """Yield the URL of the store to use and, if it has a server that was launched here, the server.

    Args:
        kind: One of `SERVERS`, `SQLITE`, or None for the store that the environment names, else a SQLite file.
        file_url: The SQLite file.

    Raises:
        ConfigurationError: The server is to be killed, and the environment names another store.
    """
    named = read_settings().store
    if kind is None or kind == SQLITE:
        yield named if named is not None and kind is None else file_url, None
        return
    if named is not None:
        raise ConfigurationError(f"The store named by {STORE_VARIABLE} is not ours to kill; unset the variable.")
    name, launch = SERVERS[kind]
    server = await asyncio.to_thread(launch)
    try:
        say(f"{name} at {urlsplit(server.url).netloc.rpartition('@')[2]}.")
        yield server.url, server
    finally:
        await asyncio.to_thread(server.close)


async def kill_broker(broker: RabbitMQ) -> None:
    """Kill it and start it again."""
    await asyncio.to_thread(broker.kill)
    say("Killed RabbitMQ (SIGKILL).")
    await asyncio.to_thread(broker.start)
    say("RabbitMQ runs again.")


async def kill_store(kind: str, server: PostgreSQL | Redis) -> None:
    """Kill the store's server and start it again a little later."""
    name, _ = SERVERS[kind]
    await asyncio.to_thread(server.kill)
    say(f"Killed {name} (SIGKILL), where the runs are.")
    await asyncio.sleep(AWAY_SECONDS)
    await asyncio.to_thread(server.start)
    say(f"{name} runs again.")


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)
