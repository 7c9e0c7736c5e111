from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from floxide_amqp.drivers.amqp.work_queue import AmqpWorkQueue
from floxide_amqp.drivers.memory.work_queue import MemoryWorkQueue
from floxide_amqp.testing.rabbitmq_fixtures import namespace, rabbitmq_url
from floxide_amqp.testing.work_queue_suite import WorkQueueSuite

__all__ = ["namespace", "rabbitmq_url"]


class TestMemoryWorkQueue(WorkQueueSuite):
    creates_on_publish = True

    @pytest.fixture
    async def work_queue(self) -> AsyncIterator[MemoryWorkQueue]:
        async with MemoryWorkQueue() as work_queue:
            yield work_queue


class TestMemoryWorkQueueThatReturns(WorkQueueSuite):
    @pytest.fixture
    async def work_queue(self) -> AsyncIterator[MemoryWorkQueue]:
        async with MemoryWorkQueue(creates_on_publish=False) as work_queue:
            yield work_queue


@pytest.mark.rabbitmq
class TestAmqpWorkQueue(WorkQueueSuite):
    creates_on_publish = True

    @pytest.fixture
    async def work_queue(self, rabbitmq_url: str, namespace: str) -> AsyncIterator[AmqpWorkQueue]:
        async with AmqpWorkQueue(rabbitmq_url, namespace=namespace) as work_queue:
            yield work_queue
