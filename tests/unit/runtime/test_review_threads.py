"""Sync nodes, threads and time: what waits for a thread has not begun."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from floxide_amqp import RunStatus, Workflow, node
from floxide_amqp.runtime.orchestrator import Start
from floxide_amqp.runtime.settings import Limits
from tests.unit.runtime.cluster import Cluster


def test_a_sync_node_that_waits_for_a_thread_does_not_use_up_its_timeout() -> None:
    @node(timeout=timedelta(seconds=0.2))
    def works(x: int) -> int:
        time.sleep(0.05)
        return x

    class Working(Workflow[int, int]):
        start = works
        edges = ()

    async def scenario(executor: ThreadPoolExecutor) -> list[RunStatus]:
        here = Cluster(Working, executor=executor, limits=Limits(concurrency=8, threads=1))
        await here.start_worker()
        handles = await here.client().start_many(Working, [Start(n, run_id=f"run-{n}") for n in range(8)])
        ended = [await handle.wait(10) for handle in handles]
        await here.close()
        return ended

    with ThreadPoolExecutor(1) as executor:
        assert asyncio.run(scenario(executor)) == [RunStatus.COMPLETED] * 8  # in real time: threads have no other
