"""Threads in real time: what waits for one has not begun, and the heartbeat's survives what it meets."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from floxide_amqp import RunStatus, Workflow, node
from floxide_amqp.core.ids import WorkerId
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.ports.clock import SystemClock
from floxide_amqp.ports.key_value import Batch, CommitReply
from floxide_amqp.runtime.heartbeat import Heartbeat, new_record
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.runtime.start import Start
from tests.unit.runtime.cluster import Cluster


def test_a_sync_node_that_waits_for_a_thread_does_not_use_up_its_timeout() -> None:
    begun = threading.Event()

    @node
    def occupies(x: int) -> int:
        begun.set()
        time.sleep(2.0)  # in real time: threads have no other
        return x

    @node(timeout=timedelta(seconds=1.0))
    def works(x: int) -> int:
        return x

    class Occupying(Workflow[int, int]):
        start = occupies

    class Working(Workflow[int, int]):
        start = works

    async def scenario(executor: ThreadPoolExecutor) -> list[RunStatus]:
        here = Cluster(Occupying, Working, executor=executor, limits=Limits(concurrency=8, threads=1))
        await here.start_worker()
        client = here.client()
        first = await client.start(Occupying, 1, run_id="first")
        while not begun.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.01)
        handles = await client.start_many(Working, [Start(n, run_id=f"run-{n}") for n in range(4)])
        ended = [await handle.wait(30) for handle in (first, *handles)]
        await here.close()
        return ended

    with ThreadPoolExecutor(1) as executor:
        assert asyncio.run(scenario(executor)) == [RunStatus.COMPLETED] * 5


class Stumbling(MemoryKeyValueStore):
    """A store whose second commit raises what its driver should have translated."""

    calls = 0

    async def commit(self, batches: Sequence[Batch]) -> CommitReply:
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("a driver's mistake")
        return await super().commit(batches)


def test_an_error_nobody_expected_does_not_end_the_heartbeat() -> None:
    store = Stumbling()

    async def open_store() -> MemoryKeyValueStore:
        return store

    async def scenario() -> int:
        record = new_record(WorkerId("w"), now_ms=0, queues=(), workflows=(), concurrency=1)
        heartbeat = Heartbeat(record, open_store, SystemClock(), 0.005)
        await heartbeat.start()
        async with asyncio.timeout(10):
            while heartbeat.succeeded(0) < 3:  # noqa: ASYNC110 - another thread counts
                await asyncio.sleep(0.005)
        await heartbeat.stop()
        return store.calls

    assert asyncio.run(scenario()) > 3
