"""What the tests of the RabbitMQ drivers share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import aio_pika
import pytest

from floxide_amqp.drivers.amqp.settings import AmqpSettings
from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.ports.work_queue import Message
from floxide_amqp.testing.proxy import TcpProxy

SWIFT = AmqpSettings(
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


@pytest.fixture
def swift() -> AmqpSettings:
    return SWIFT


@pytest.fixture
async def work_queue(rabbitmq_url: str, namespace: str) -> AsyncIterator[AmqpWorkQueue]:
    async with AmqpWorkQueue(rabbitmq_url, namespace=namespace) as work_queue:
        yield work_queue


@pytest.fixture
async def proxy(rabbitmq_url: str) -> AsyncIterator[TcpProxy]:
    async with TcpProxy.before(rabbitmq_url) as proxy:
        yield proxy


@pytest.fixture
async def by_hand(rabbitmq_url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """A plain channel, to do things behind the driver's back."""
    async with await aio_pika.connect(rabbitmq_url) as connection:
        yield await connection.channel()


@pytest.fixture(autouse=True)
async def no_task_is_left_behind(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    del request
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    assert {task.get_coro().__qualname__ for task in left} <= KNOWN_TASKS


KNOWN_TASKS: set[str] = set()


def message(body: bytes, queue: str = "a") -> Message:
    return Message(queue=queue, body=body, correlation_id=f"item-{body[:20]!r}")


async def until(holds: Callable[[], bool], within: float = 20.0) -> None:
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.02)
