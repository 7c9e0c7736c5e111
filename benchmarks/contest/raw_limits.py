"""What the parts do without an engine: a relay through the client library, and grouped commits in each store.

The relay is measured twice: through this project's own driver, which is what its runs go through, and through aiormq,
which is beneath aio-pika.

They are measured in the same rounds as the contestants: what bare loops reach in one process, on the event loop that
workers have, to compare with. They prove no bound: one could have more processes, or larger groups.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import aiormq
from pamqp import commands

from benchmarks.contest.figures import RELAY
from benchmarks.loops import run
from benchmarks.peers.payload import new_order
from floxide_amqp.drivers.amqp.topology import Names
from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.ports.work_queue import Consumer, Message, PublishOutcome
from floxide_amqp.testing.services import new_namespace

PREFETCH = 100
KEYS = 5
"""Keys that one step writes."""

GROUP = 50
"""Steps whose commits share a transaction."""

_numbers = count()


async def relay_rate(broker: str, messages: int) -> float:
    """Consume a message, publish it with a confirm, acknowledge it: quorum queues, one process, our own driver."""
    namespace = new_namespace("relay")
    async with AmqpWorkQueue(broker, namespace=namespace) as queue:
        bodies = [new_order(number).model_dump_json().encode() for number in range(messages)]
        await _publish_own(queue, [Message(queue="here", body=body) for body in bodies])
        async with queue.consume(["here"], prefetch=PREFETCH) as consumer:
            left = iter(range(messages))
            began = time.perf_counter()
            async with asyncio.TaskGroup() as hands:
                for _ in range(PREFETCH):
                    hands.create_task(_hand_on(queue, consumer, left))
            seconds = time.perf_counter() - began
        relayed = await queue.depth("there")
    if relayed != messages:
        raise AssertionError(f"{relayed} of {messages} messages came through the relay")
    await _delete(broker, [Names(namespace).work_queue(name) for name in ("here", "there")])
    return messages / seconds


async def _hand_on(queue: AmqpWorkQueue, consumer: Consumer, left: Iterator[int]) -> None:
    for _ in left:
        delivery = await consumer.receive()
        await _publish_own(queue, [Message(queue="there", body=delivery.body)])
        await delivery.acknowledge()


async def _publish_own(queue: AmqpWorkQueue, messages: Sequence[Message]) -> None:
    outcomes = set(await queue.publish(messages))
    if outcomes != {PublishOutcome.CONFIRMED}:
        raise AssertionError(f"messages of the relay were {sorted(outcome.value for outcome in outcomes)}")


async def _delete(broker: str, names: Sequence[str]) -> None:
    connection = await aiormq.connect(broker)
    try:
        channel = await connection.channel()
        for name in names:
            await channel.queue_delete(name)
    finally:
        await connection.close()


async def aiormq_relay_rate(broker: str, messages: int) -> float:
    """The same through aiormq, a channel each way."""
    connection = await aiormq.connect(broker)
    try:
        consuming, publishing = await connection.channel(), await connection.channel()
        await consuming.basic_qos(prefetch_count=PREFETCH)
        names = [new_namespace("relay") for _ in range(2)]
        for name in names:
            await publishing.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
        await _fill(publishing, names[0], messages)
        seconds = await _relay(consuming, publishing, names, messages)
        left = await publishing.queue_declare(names[1], passive=True)
        if left.message_count != messages:
            raise AssertionError(f"{left.message_count} of {messages} messages came through the relay")
    finally:
        await connection.close()
    await _delete(broker, names)
    return messages / seconds


async def _fill(channel: aiormq.abc.AbstractChannel, name: str, messages: int) -> None:
    for first in range(0, messages, PREFETCH):
        await asyncio.gather(*(
            _publish(channel, name, new_order(number).model_dump_json().encode())
            for number in range(first, min(first + PREFETCH, messages))
        ))  # fmt: skip


async def _publish(channel: aiormq.abc.AbstractChannel, name: str, body: bytes) -> None:
    properties = commands.Basic.Properties(delivery_mode=2)
    await channel.basic_publish(body, exchange="", routing_key=name, properties=properties)


async def _relay(consuming: Any, publishing: Any, names: list[str], messages: int) -> float:
    left, done = messages, asyncio.Event()

    async def hand_on(message: Any) -> None:
        nonlocal left
        await _publish(publishing, names[1], message.body)
        await consuming.basic_ack(message.delivery.delivery_tag)
        left -= 1
        if not left:
            done.set()

    began = time.perf_counter()
    consumer = await consuming.basic_consume(names[0], hand_on)
    await done.wait()
    seconds = time.perf_counter() - began
    await consuming.basic_cancel(consumer.consumer_tag)
    return seconds


def _groups(steps: int) -> list[list[tuple[str, bytes]]]:
    """Return what to write for so many steps: each value differs, or a store could skip its write."""
    numbers = [[next(_numbers) for _ in range(GROUP)] for _ in range(steps // GROUP)]
    return [
        [(f"run/{number:012}/{key}", json.dumps([number, key] * 8).encode()) for number in group for key in range(KEYS)]
        for group in numbers
    ]


async def sqlite_rate(steps: int) -> float:
    """Grouped commits in SQLite: WAL, synchronous=FULL."""

    def measure() -> float:
        folder = tempfile.TemporaryDirectory(prefix="floxide-bench-")
        with folder as name, closing(sqlite3.connect(Path(name) / "raw.db", isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("CREATE TABLE raw (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
            groups = _groups(steps)
            began = time.perf_counter()
            for group in groups:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT OR REPLACE INTO raw VALUES (?, ?)", group)
                connection.execute("COMMIT")
            return steps / (time.perf_counter() - began)

    return await asyncio.to_thread(measure)


async def postgresql_rate(url: str, steps: int) -> float:
    """Grouped commits in PostgreSQL: one connection, one multi-row statement for each group."""
    asyncpg = import_module("asyncpg")
    connection: Any = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS raw (key text PRIMARY KEY, value bytea)")
        statement = await connection.prepare(
            "INSERT INTO raw SELECT * FROM unnest($1::text[], $2::bytea[])"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        )
        groups = _groups(steps)
        began = time.perf_counter()
        for group in groups:
            await statement.fetch([key for key, _ in group], [value for _, value in group])
        return steps / (time.perf_counter() - began)
    finally:
        await connection.close()


async def redis_rate(url: str, steps: int) -> float:
    """Grouped commits in Redis: one MSET for each group."""
    client: Any = import_module("redis.asyncio").Redis.from_url(url)
    try:
        groups = _groups(steps)
        began = time.perf_counter()
        for group in groups:
            await client.mset(dict(group))
        return steps / (time.perf_counter() - began)
    finally:
        await client.aclose()


def measure_limits(broker: str, postgresql: str, redis: str, size: int) -> dict[str, float]:
    """Measure each once.

    Args:
        size: Messages that are relayed, and steps that are committed ten times as many of.

    Returns:
        Messages, and steps, per second.
    """
    measured: dict[str, Callable[[], Any]] = {
        RELAY: lambda: relay_rate(broker, size),
        "relay through aiormq, messages": lambda: aiormq_relay_rate(broker, size),
        "grouped commit, PostgreSQL": lambda: postgresql_rate(postgresql, 10 * size),
        "grouped commit, Redis": lambda: redis_rate(redis, 10 * size),
        "grouped commit, SQLite": lambda: sqlite_rate(10 * size),
    }
    return {name: run(measure()) for name, measure in measured.items()}
