from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_asyncio

from floxide_amqp.testing.virtual_time import pytest_asyncio_loop_factories
from tests.unit.runtime.cluster import Cluster

__all__ = ["pytest_asyncio_loop_factories"]


@pytest_asyncio.fixture
async def cluster() -> AsyncIterator[Callable[..., Cluster]]:
    """Return a function that makes clusters; they are closed when the test ends."""
    made: list[Cluster] = []

    def make(*workflows: Any, **options: Any) -> Cluster:
        made.append(Cluster(*workflows, **options))
        return made[-1]

    yield make
    for each in made:
        await each.close()
        assert each.store.violations == []
