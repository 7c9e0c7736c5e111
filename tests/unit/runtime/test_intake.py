from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from floxide_amqp import Limits, Workflow, node
from tests.unit.runtime.cluster import Cluster


@node
async def linger(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


class Lingering(Workflow[float, float]):
    start = linger


async def test_a_worker_full_of_long_steps_leaves_the_other_messages_in_the_queue(
    cluster: Callable[..., Cluster],
) -> None:
    full = cluster(Lingering, limits=Limits(concurrency=2))
    await full.start_worker()
    client = full.client()
    long_runs = [await client.start(Lingering, 100.0, run_id=f"long-{n}") for n in range(2)]
    await asyncio.sleep(10)
    assert await _owners(client, "long-0", "long-1") == ["worker-1", "worker-1"]
    short = await client.start(Lingering, 1.0, run_id="short")
    await asyncio.sleep(10)
    await full.start_worker()
    assert await short.result(30) == 1.0
    assert await _owners(client, "long-0", "long-1") == ["worker-1", "worker-1"]
    assert [await run.result(200) for run in long_runs] == [100.0, 100.0]


async def test_a_worker_takes_messages_in_again_when_a_long_step_has_ended(cluster: Callable[..., Cluster]) -> None:
    alone = cluster(Lingering, limits=Limits(concurrency=1))
    await alone.start_worker()
    client = alone.client()
    await client.start(Lingering, 20.0)
    waiting = [await client.start(Lingering, 1.0, run_id=f"short-{n}") for n in range(3)]
    assert [await run.result(60) for run in waiting] == [1.0, 1.0, 1.0]
    for n in range(3):
        await alone.check_completed(f"short-{n}")


async def _owners(client: Any, *run_ids: str) -> list[str]:
    items = [await client.pending_work(run_id) for run_id in run_ids]
    return [each[0].owner for each in items]
