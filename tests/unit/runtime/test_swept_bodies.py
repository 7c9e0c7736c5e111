"""Steps that can be undone, in a fan-out that is closed while their bodies are at work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from floxide_amqp import Compensation, NextAll, RunStatus, Workflow, WorkItemStatus, first, node
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.records import InputKind
from floxide_amqp.exceptions import WorkItemNotFoundError
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]


class Race:
    """A fan-out of two that the first closes; the body of the second is at work then.

    Attributes:
        log: What happened, in order.
        second_at_work: Set once the second's body has begun.
        go: Lets the first end.
        end: Lets the second end, where it does not heed being interrupted.
    """

    def __init__(self, *, is_stubborn: bool = False, fails: bool = True) -> None:
        self.log: list[str] = []
        self.second_at_work = asyncio.Event()
        self.go, self.end = asyncio.Event(), asyncio.Event()
        self._is_stubborn, self._fails = is_stubborn, fails

    async def second(self) -> None:
        self.log.append("second begins")
        self.second_at_work.set()
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            if self._is_stubborn:
                await asyncio.sleep(0.5)  # a call to a service that cannot be interrupted
            self.log.append("second ends")
            raise
        self.log.append("second ends")

    def workflow(self) -> Any:
        @node
        async def split(x: int) -> NextAll[int]:
            return NextAll([0, 1])

        @node
        async def unwork(of: Compensation[int, int]) -> None:
            self.log.append(f"undo {of.input}")

        @node(compensation=unwork)
        async def work(x: int) -> int:
            if x == 1:
                await self.second()
            else:
                await self.second_at_work.wait()
                await self.go.wait()
            return x

        @node
        async def ship(x: int) -> int:
            if self._fails:
                raise ValueError("ship")
            return x

        class Racing(Workflow[int, int]):
            start = split
            edges = (split >> work >> first(ship),)

        return Racing


async def statuses(here: Cluster) -> dict[str, list[WorkItemStatus]]:
    found: dict[str, list[WorkItemStatus]] = {}
    for item in await here.client().work_items("run"):
        found.setdefault(item.node, []).append(item.status)
    return found


async def test_a_swept_step_is_undone_only_when_its_body_has_ended(cluster: MakeCluster) -> None:
    race = Race(is_stubborn=True)
    here = cluster(race.workflow())
    await here.start_worker()
    race.go.set()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    assert await handle.wait(60) is RunStatus.FAILED
    assert race.log[:2] == ["second begins", "second ends"]
    assert sorted(race.log[2:]) == ["undo 0", "undo 1"]
    assert await here.settle() == {}


async def test_a_swept_step_is_not_undone_while_a_worker_that_heard_nothing_is_at_it(cluster: MakeCluster) -> None:
    race = Race()
    here = cluster(race.workflow())
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    await race.second_at_work.wait()
    listeners, here.bus._listeners = here.bus._listeners, set()
    member = here.members[0]
    member.services.inflight.interrupt_items = lambda *_: None  # type: ignore[method-assign]
    member.services.inflight.interrupt = lambda *_, **__: 0  # type: ignore[method-assign]
    race.go.set()
    while (await handle.status()) is not RunStatus.COMPENSATING:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    await asyncio.sleep(30)
    assert "undo 1" not in race.log
    here.bus._listeners = listeners
    race.end.set()
    assert await handle.wait(60) is RunStatus.FAILED
    assert race.log.index("second ends") < race.log.index("undo 1")
    assert await here.settle() == {}


async def test_a_run_whose_fan_out_was_closed_ends_when_the_bodies_that_are_left_have(cluster: MakeCluster) -> None:
    race = Race(is_stubborn=True, fails=False)
    here = cluster(race.workflow())
    await here.start_worker()
    race.go.set()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    assert await handle.result(60) == 0
    assert race.log == ["second begins", "second ends"]
    assert (await statuses(here))["work"] == [WorkItemStatus.COMPLETED, WorkItemStatus.CANCELLED] or (
        await statuses(here)
    )["work"] == [WorkItemStatus.CANCELLED, WorkItemStatus.COMPLETED]
    await here.check_completed("run")


async def test_the_body_of_a_swept_step_does_not_run_again_when_its_worker_has_died(cluster: MakeCluster) -> None:
    race = Race(fails=False)
    here = cluster(race.workflow())
    victim = await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    await race.second_at_work.wait()
    client = here.client()
    found = [item for item in await client.services.items.live(RunId("run")) if item.item.node == "work"]
    assert [item.item.begun for item in found] == [True, True]
    await handle.pause()
    race.go.set()
    while len(await client.services.items.live(RunId("run"))) != 3:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.1)
    await victim.kill()
    await here.start_worker()
    await handle.resume()
    assert await handle.result(600) == 0
    assert race.log.count("second begins") == 1
    kinds = [item.input.kind for item in await _all_items(here)]
    assert kinds.count(InputKind.SWEEP) == 1
    await here.check_completed("run")


async def test_what_stands_for_the_rest_of_a_fan_out_cannot_be_given_an_output(cluster: MakeCluster) -> None:
    race = Race(fails=False)
    here = cluster(race.workflow())
    victim = await here.start_worker()
    client = here.client()
    handle = await client.start(here.workflows[0], 1, run_id="run")
    await race.second_at_work.wait()
    await handle.pause()
    race.go.set()
    sweeps: list[Any] = []
    while not sweeps:
        await asyncio.sleep(0.1)
        live = await client.services.items.live(RunId("run"))
        sweeps = [found.item for found in live if found.item.input.kind is InputKind.SWEEP]
    await victim.kill()
    with pytest.raises(WorkItemNotFoundError):
        await client.complete_item("run", sweeps[0].item_id, 7)
    await here.start_worker()
    await handle.resume()
    assert await handle.result(600) == 0


async def _all_items(here: Cluster) -> list[Any]:
    services = here.client().services
    ids = [entry.item_id for entry in await here.history("run")]
    return [found.item for found in await services.items.find(RunId("run"), ids) if found is not None]
