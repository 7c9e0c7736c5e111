"""Small things the tests of the RabbitMQ drivers share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from floxide_amqp.drivers.amqp.consumer import AmqpConsumer
from floxide_amqp.drivers.amqp.settings import AmqpSettings
from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.ports.work_queue import Consumer, Message, PublishOutcome, WorkQueue

SWIFT: Final = AmqpSettings(
    open_deadline=30.0,
    connect_deadline=3.0,
    rpc_deadline=1.0,
    publish_deadline=1.5,
    close_deadline=1.0,
    probe_interval=0.4,
    backoff_initial=0.05,
    backoff_max=0.5,
)
"""Deadlines short enough to be waited for."""

STEADY: Final = replace(SWIFT, rpc_deadline=60.0)
"""The same for a connection that must outlast the test: a broker that is only slow is not taken for a dead one."""


def message(body: bytes, queue: str = "a") -> Message:
    """Return a message for a task queue."""
    return Message(queue=queue, body=body, correlation_id=f"item-{body[:20]!r}")


async def until(holds: Callable[[], bool], within: float = 90.0) -> None:
    """Wait until something holds, which must be soon."""
    async with asyncio.timeout(within):
        while True:
            if holds():
                return
            await asyncio.sleep(0.02)


async def confirmed(work_queue: WorkQueue, *messages: Message) -> None:
    """Publish until all is confirmed, which must be soon; what was confirmed already may be published again."""
    async with asyncio.timeout(90):
        while True:
            if set(await work_queue.publish(messages)) == {PublishOutcome.CONFIRMED}:
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def consuming(
    url: str, namespace: str, *, prefetch: int, settings: AmqpSettings = SWIFT
) -> AsyncIterator[tuple[AmqpWorkQueue, AmqpConsumer]]:
    """Open a work queue, and a consumer of its task queue ``a``."""
    async with (
        AmqpWorkQueue(url, namespace=namespace, settings=settings) as work_queue,
        work_queue.consume(["a"], prefetch=prefetch) as consumer,
    ):
        yield work_queue, consumer


@asynccontextmanager
async def draining(consumer: Consumer) -> AsyncIterator[Counter[bytes]]:
    """Acknowledge everything that comes, and count the bodies."""
    seen: Counter[bytes] = Counter()

    async def drain() -> None:
        while True:
            delivery = await consumer.receive()
            seen[delivery.body] += 1
            await delivery.acknowledge()

    task = asyncio.create_task(drain())
    try:
        yield seen
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
