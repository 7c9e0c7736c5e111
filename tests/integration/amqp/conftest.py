from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import aio_pika
import pytest

from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.testing.proxy import TcpProxy
from tests.integration.amqp.support import SWIFT


@pytest.fixture
async def work_queue(rabbitmq_url: str, namespace: str) -> AsyncIterator[AmqpWorkQueue]:
    async with AmqpWorkQueue(rabbitmq_url, namespace=namespace) as work_queue:
        yield work_queue


@pytest.fixture
async def undeclaring(rabbitmq_url: str, namespace: str) -> AsyncIterator[AmqpWorkQueue]:
    """A publisher that leaves missing task queues missing."""
    settings = replace(SWIFT, declares_missing_queues=False)
    async with AmqpWorkQueue(rabbitmq_url, namespace=namespace, settings=settings) as work_queue:
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
async def no_task_is_left_behind() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    ours = [task for task in left if task.get_name().startswith("floxide-")]
    assert not ours
