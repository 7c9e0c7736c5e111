"""Who is blamed when a worker dies: only an item that was alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from floxide_amqp import Workflow, WorkflowCtx, node
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.runtime.solitude import Solitude
from tests.unit.runtime.cluster import QUICK, Cluster

HERE = (RunId("run"), WorkItemId("item"))


class Deaths:
    """Kills the worker on which a poisonous item begins, and starts another."""

    def __init__(self) -> None:
        self.began: asyncio.Queue[str] = asyncio.Queue()
        self.count = 0

    async def play(self, here: Cluster, workers: int) -> None:
        for _ in range(workers):
            await here.start_worker()
        while True:
            name = await self.began.get()
            for member in tuple(here.members):
                if member.name == name and not member.task.done():
                    self.count += 1
                    await member.kill()
                    await here.start_worker()


def mixed(deaths: Deaths, seconds: float) -> type[Workflow[int, int]]:
    @node
    async def work(ctx: WorkflowCtx, x: int) -> int:
        if x < 0:
            await asyncio.sleep(0.2)
            deaths.began.put_nowait(ctx.worker_id)
            await asyncio.sleep(1_000)
        await asyncio.sleep(seconds)
        return x

    class Mixed(Workflow[int, int]):
        start = work
        edges = ()

    return Mixed


@pytest.mark.fault(45)
@pytest.mark.parametrize("seconds", [2.0, QUICK.early_acknowledge + 3, QUICK.early_acknowledge + 10])
async def test_an_innocent_item_under_suspicion_does_not_fail_with_a_new_neighbour_that_kills(seconds: float) -> None:
    deaths = Deaths()
    workflow = mixed(deaths, seconds)
    here = Cluster(workflow, limits=Limits(concurrency=4), timeouts=replace(QUICK, company=4.0))
    client = here.client()
    await here.start_leader()  # sees who dies
    innocent = await client.start(workflow, 1, run_id="innocent")
    for _ in range(3):  # it is claimed from the second time on
        member = await here.start_worker()
        await asyncio.sleep(1.5)
        await member.kill()
        await asyncio.sleep(2 * QUICK.dead_after)
    assert (await client.pending_work("innocent"))[0].workers_lost == 2  # nobody serves its queue: the leader counts
    playing = asyncio.create_task(deaths.play(here, workers=1))
    poisons = [await client.start(workflow, -n, run_id=f"poison{n}") for n in range(1, 4)]
    assert await innocent.wait(1_000) is RunStatus.COMPLETED
    assert [await poison.wait(1_000) for poison in poisons] == [RunStatus.FAILED] * 3
    playing.cancel()
    errors = [await client.errors(poison.run_id) for poison in poisons]
    assert [error.error_type for (error,) in errors] == ["PoisonError"] * 3
    await here.close()


@pytest.mark.fault(45)
async def test_an_item_that_kills_only_in_company_is_given_up_at_last() -> None:
    """It takes longer to kill than a suspect may keep others waiting."""
    began: asyncio.Queue[str] = asyncio.Queue()

    @node
    async def slow_poison(ctx: WorkflowCtx, x: int) -> int:
        await asyncio.sleep(QUICK.early_acknowledge + 2.0)
        began.put_nowait(ctx.worker_id)
        await asyncio.sleep(1_000)
        return x

    class Slow(Workflow[int, int]):
        start = slow_poison
        edges = ()

    here = Cluster(Slow, timeouts=replace(QUICK, company=1.0), limits=Limits(concurrency=2, deaths=2))
    deaths = Deaths()
    deaths.began = began
    playing = asyncio.create_task(deaths.play(here, workers=1))
    handle = await here.client().start(Slow, 1, run_id="run")
    assert await handle.wait(3_000) is RunStatus.FAILED
    playing.cancel()
    assert deaths.count == 20
    await here.close()


async def test_who_comes_while_somebody_is_alone_waits_at_the_door() -> None:
    solitude = Solitude()
    inside: list[str] = []
    leave = asyncio.Event()

    async def work(name: str) -> None:
        async with solitude.at_work():
            inside.append(name)
            await leave.wait()

    async with solitude.at_work():
        first = asyncio.create_task(work("before"))
        await asyncio.sleep(0)
        assert solitude.suspect(*HERE)
        assert not solitude.suspect(RunId("run"), WorkItemId("another"))
        assert not await solitude.alone(1.0)  # the other does not end
        second = asyncio.create_task(work("beside"))
        await asyncio.sleep(0)
        assert inside == ["before", "beside"]
        leave.set()
        assert solitude.suspect(*HERE), "who has company is the suspect no more"
        assert await solitude.alone(1.0)
        third = asyncio.create_task(work("after"))
        await asyncio.sleep(5)
        assert inside == ["before", "beside"]
        solitude.let_go(RunId("run"), WorkItemId("another"))
        await asyncio.sleep(5)
        assert inside == ["before", "beside"]
        solitude.let_go(*HERE)
    await asyncio.gather(first, second, third)
    assert inside == ["before", "beside", "after"]
