from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from floxide_amqp.drivers.amqp.control import AmqpControlBus
from floxide_amqp.drivers.memory.control import MemoryControlBus
from floxide_amqp.testing.control_suite import Buses, ControlBusSuite
from floxide_amqp.testing.rabbitmq_fixtures import namespace, rabbitmq_url

__all__ = ["namespace", "rabbitmq_url"]


class TestMemoryControlBus(ControlBusSuite):
    @pytest.fixture
    async def buses(self) -> AsyncIterator[Buses]:
        async with MemoryControlBus() as bus:
            yield bus, bus


@pytest.mark.rabbitmq
class TestAmqpControlBus(ControlBusSuite):
    @pytest.fixture
    async def buses(self, rabbitmq_url: str, namespace: str) -> AsyncIterator[Buses]:
        async with (
            AmqpControlBus(rabbitmq_url, namespace=namespace) as here,
            AmqpControlBus(rabbitmq_url, namespace=namespace) as there,
        ):
            yield here, there
