"""Threads of sync nodes whose bodies never end: replaced, counted, too many of them end the worker. In real time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from floxide_amqp import RunStatus, Workflow, node
from floxide_amqp.exceptions import WorkerStuckError
from floxide_amqp.runtime.settings import Limits
from tests.unit.runtime.cluster import QUICK, Cluster, Member

T = TypeVar("T")

HASTY = replace(QUICK, cancel_grace=0.05, maintenance=0.1, heartbeat=0.2, dead_after=2.0, drain=1.0)


class Hanging:
    """A sync node that hangs until it is let go, and one that does not."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        hanging = self

        @node(timeout=timedelta(seconds=0.05))
        def hangs(x: int) -> int:
            hanging.let_go.wait(600)
            return x

        @node
        def works(x: int) -> int:
            return x

        class Hangs(Workflow[int, int]):
            start = hangs
            edges = ()

        class Works(Workflow[int, int]):
            start = works
            edges = ()

        self.hangs, self.works = Hangs, Works

    def play(self, scenario: Callable[[Cluster], Coroutine[Any, Any, T]], **limits: int) -> T:
        with ThreadPoolExecutor(2) as executor:
            try:

                async def main() -> T:
                    here = Cluster(
                        self.hangs, self.works, executor=executor, timeouts=HASTY,
                        limits=Limits(concurrency=8, threads=2, **limits),
                    )  # fmt: skip
                    try:
                        return await scenario(here)
                    finally:
                        self.let_go.set()
                        await here.close()

                return asyncio.run(main())
            finally:
                self.let_go.set()


async def hang_all(here: Cluster, hanging: Hanging, count: int) -> Member:
    """Lose as many threads as runs are started."""
    member = await here.start_worker()
    client = here.client()
    handles = [await client.start(hanging.hangs, n, run_id=f"hangs-{n}") for n in range(count)]
    assert [await handle.wait(90) for handle in handles] == [RunStatus.FAILED] * count
    async with asyncio.timeout(90):
        while member.worker.health().threads_lost < count:  # noqa: ASYNC110 - other threads make it so
            await asyncio.sleep(0.01)
    return member


@pytest.mark.fault(42)
def test_no_item_waits_for_a_thread_that_a_hanging_body_holds() -> None:
    hanging = Hanging()

    async def scenario(here: Cluster) -> list[RunStatus]:
        member = await hang_all(here, hanging, 5)  # of two threads
        assert {body.node for body in member.worker.health().stuck} == {"hangs"}
        client = here.client()
        return [await (await client.start(hanging.works, n, run_id=f"works-{n}")).wait(90) for n in range(4)]

    assert hanging.play(scenario) == [RunStatus.COMPLETED] * 4


def test_a_thread_whose_body_ends_after_all_is_not_counted_any_more() -> None:
    hanging = Hanging()

    async def scenario(here: Cluster) -> int:
        member = await hang_all(here, hanging, 3)
        hanging.let_go.set()
        async with asyncio.timeout(90):
            while member.worker.health().threads_lost:  # noqa: ASYNC110 - other threads make it so
                await asyncio.sleep(0.01)
        return len(member.worker.health().stuck)

    assert hanging.play(scenario) == 0


def test_a_body_that_ends_within_its_grace_costs_no_thread() -> None:
    hanging = Hanging()

    async def scenario(here: Cluster) -> int:
        here.timeouts = replace(HASTY, cancel_grace=5.0)
        member = await here.start_worker()
        run = await here.client().start(hanging.hangs, 1, run_id="run")
        assert await run.wait(90) is RunStatus.FAILED
        hanging.let_go.set()
        works = await here.client().start(hanging.works, 1, run_id="works")
        assert await works.wait(90) is RunStatus.COMPLETED
        return member.worker.health().threads_lost

    assert hanging.play(scenario) == 0


def test_a_worker_with_a_process_of_its_own_ends_itself_when_too_many_threads_are_lost() -> None:
    hanging = Hanging()

    async def scenario(here: Cluster) -> None:
        member = await here.start_worker()
        member.services.owns_process = True
        client = here.client()
        for n in range(3):
            await client.start(hanging.hangs, n, run_id=f"hangs-{n}")
        with pytest.raises(WorkerStuckError, match=r"3 threads are held by nodes that did not end \(hangs\)"):
            await asyncio.wait_for(asyncio.shield(member.task), 90)
        assert member.worker.health().status == "stopped"
        assert await client.workers() == []

    hanging.play(scenario, lost_threads=3)


def test_a_worker_in_somebody_elses_process_goes_on_however_many_threads_are_lost() -> None:
    hanging = Hanging()

    async def scenario(here: Cluster) -> RunStatus:
        member = await hang_all(here, hanging, 4)
        assert member.worker.health().status == "running"
        return await (await here.client().start(hanging.works, 1, run_id="works")).wait(90)

    assert hanging.play(scenario, lost_threads=3) is RunStatus.COMPLETED
