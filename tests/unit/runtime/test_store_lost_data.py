"""A store that has lost what it had reported: a worker does not go on from what it remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from floxide_amqp import RunStatus, Workflow, node
from floxide_amqp.core.ids import SYSTEM_SLOT
from floxide_amqp.exceptions import StoreDataLostError
from floxide_amqp.ports.key_value import Batch
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]


@node
async def double(x: int) -> int:
    return 2 * x


class Double(Workflow[int, int]):
    start = double


async def lost(batches: Sequence[Batch]) -> None:
    """What a step meets; heartbeats have a connection of their own, which may not have seen what is gone."""
    if any(batch.slot != SYSTEM_SLOT for batch in batches):
        raise StoreDataLostError(store="s", reason="it went on with commit 5, and had reported commit 7 before")


async def test_a_worker_whose_store_has_lost_data_ends_at_once_with_that_error(cluster: MakeCluster) -> None:
    one = cluster(Double)
    member = await one.start_worker()
    member.store.before_commit = lost
    await one.client().start(Double, 4)
    with pytest.raises(StoreDataLostError, match="start the process anew"):
        await asyncio.wait_for(member.task, 30)


async def test_a_worker_started_anew_does_what_the_other_could_not(cluster: MakeCluster) -> None:
    one = cluster(Double)
    member = await one.start_worker()
    member.store.before_commit = lost
    run = await one.client().start(Double, 4)
    with pytest.raises(StoreDataLostError):
        await asyncio.wait_for(member.task, 30)
    await one.start_worker()
    assert await run.result(60) == 8
    assert await run.status() is RunStatus.COMPLETED
