"""Steps that can be undone, in a fan-out that is closed while their bodies are at work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from floxide_amqp import (
    Compensation,
    Concurrency,
    Hold,
    Next,
    NextAll,
    RunStatus,
    Workflow,
    WorkflowCtx,
    WorkItemStatus,
    first,
    gather,
    node,
)
from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.records import InputKind
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.exceptions import WorkItemNotFoundError
from floxide_amqp.ports.key_value import Batch, Put
from floxide_amqp.runtime import engine_steps, left_items, limits
from floxide_amqp.stores import keys
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


@dataclass
class Nested:
    """A fan-out of two: the first closes it, the second's own fan-out is gathered though each part of it held.

    Attributes:
        log: What happened, in order.
        at_work: Set once the body has begun that runs with what was gathered.
        go: Lets the first end.
        end: Lets that body end, which does not heed being interrupted.
    """

    log: list[str] = field(default_factory=list[str])
    at_work: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    end: asyncio.Event = field(default_factory=asyncio.Event)

    async def total(self, numbers: list[int]) -> int:
        self.at_work.set()
        while not self.end.is_set():
            with suppress(asyncio.CancelledError):
                await self.end.wait()
        self.log.append("ends")
        return sum(numbers)

    def workflow(self) -> Any:
        @node
        async def split(x: int) -> NextAll[int]:
            return NextAll([0, 1])

        @node
        async def pick(x: int) -> Next[str | int]:
            return Next("quick") if x == 0 else Next(x)

        @node
        async def quick(text: str) -> int:
            await self.go.wait()
            return 0

        @node
        async def inner(x: int) -> NextAll[int]:
            return NextAll([1, 2])

        @node
        async def part(ctx: WorkflowCtx[Any], x: int) -> int | Hold:
            return Hold()

        @node
        async def undo(of: Compensation[list[int], int]) -> None:
            self.log.append("undone")

        total = node(compensation=undo)(self.total)

        @node
        async def end(x: int) -> int:
            return x

        closed = first(end)

        class Nesting(Workflow[int, int]):
            start = split
            edges = (
                split >> pick,
                pick.when(str) >> quick >> closed,
                pick.when(int) >> inner >> part >> gather(total) >> closed,
            )

        return Nesting


async def test_a_sweep_finds_what_runs_behind_items_that_are_held_and_that_nothing_wakes(cluster: MakeCluster) -> None:
    race = Nested()
    here = cluster(race.workflow())
    await here.start_worker()
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    await race.at_work.wait()
    race.go.set()
    await asyncio.sleep(1)
    assert await handle.status() is RunStatus.RUNNING, "the run ended while a body was at work that can be undone"
    race.end.set()
    assert await handle.result(60) == 0
    assert race.log == ["ends"]
    counts = await here.counts("run")
    assert (counts.live, counts.held, await here.client().services.items.live_ids(RunId("run"))) == (0, 0, [])
    await here.check_completed("run")


async def test_a_damaged_record_of_what_had_ended_does_not_keep_a_fan_out_from_being_closed(
    cluster: MakeCluster,
) -> None:
    race = Race(fails=False)
    here = cluster(race.workflow())
    await here.start_worker()
    client = here.client()
    handle = await client.start(here.workflows[0], 1, run_id="run")
    await race.second_at_work.wait()
    (opener,) = [item for item in await client.work_items("run") if item.node == "split"]
    here.store.__class__ = MemoryKeyValueStore  # it no longer looks at what is written
    damaged = Put(keys.item(RunId("run"), opener.item_id), bytes(9))
    await client.services.session.commit(Batch(slot=slot_of(RunId("run")), writes=(damaged,)))
    race.go.set()
    assert await handle.result(60) == 0


async def test_a_body_that_waited_for_its_key_does_not_begin_in_a_fan_out_that_was_closed_meanwhile(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    at_door, is_closed, may_begin, has_been_turned_away = (asyncio.Event() for _ in range(4))

    @node
    async def split(_: int) -> NextAll[int]:
        return NextAll([0, 1])

    @node
    async def pick(number: int) -> Next[str | int]:
        return Next("quick") if number == 0 else Next(number)

    @node
    async def quick(_: str) -> int:
        await at_door.wait()
        return 0

    @node
    async def undo(of: Compensation[int, int]) -> None:
        log.append("undone")

    @node(compensation=undo, concurrency=Concurrency("door", limit=1))
    async def enter(number: int) -> int:
        log.append("begun")
        return number

    @node
    async def end(winner: int) -> int:
        return winner

    closed = first(end)

    class Doors(Workflow[int, int]):
        start = split
        edges = (split >> pick, pick.when(str) >> quick >> closed, pick.when(int) >> enter >> closed)

    begin, read_left = limits.begin_body, engine_steps.read_left

    async def begin_when_closed(*given: Any) -> Any:
        at_door.set()
        await may_begin.wait()
        begun = await begin(*given)
        has_been_turned_away.set()
        return begun

    async def read_afterwards(*given: Any) -> Any:
        is_closed.set()
        await has_been_turned_away.wait()
        return await read_left(*given)

    monkeypatch.setattr(limits, "begin_body", begin_when_closed)
    monkeypatch.setattr(engine_steps, "read_left", read_afterwards)
    here = cluster(Doors)
    await here.start_worker()
    handle = await here.client().start(Doors, 1, run_id="run")
    await is_closed.wait()
    may_begin.set()
    assert await handle.result(60) == 0
    assert log == []


async def test_a_fan_out_that_is_closed_around_a_closed_one_whose_bodies_are_at_work_is_counted_to_zero(
    cluster: MakeCluster,
) -> None:
    at_work, go, end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @node
    async def split(x: int) -> NextAll[str]:
        return NextAll(["a", "b"])

    @node
    async def part(name: str) -> NextAll[str]:
        return NextAll([name])

    @node
    async def pair(name: str) -> NextAll[str]:
        return NextAll([f"{name} quick", f"{name} late"])

    @node
    async def undo(of: Compensation[str, str]) -> None: ...

    @node(compensation=undo)
    async def work(name: str) -> str:
        await (go if name.startswith("a") else at_work).wait()
        if name == "b late":
            while not end.is_set():
                with suppress(asyncio.CancelledError):
                    await end.wait()
        return name

    @node
    async def then(name: str) -> str:
        if name.startswith("b"):
            await asyncio.sleep(1000)
        return name

    @node
    async def both(names: list[str]) -> str:
        return names[0]

    @node
    async def winner(name: str) -> str:
        return name

    class Nesting(Workflow[int, str]):
        start = split
        edges = (split >> part >> pair >> work >> first(then) >> gather(both) >> first(winner),)

    here = cluster(Nesting)
    await here.start_worker()
    handle = await here.client().start(Nesting, 1, run_id="run")
    await asyncio.sleep(0.1)
    at_work.set()
    await asyncio.sleep(0.1)
    go.set()
    await asyncio.sleep(0.5)
    end.set()
    assert (await handle.result(60)).startswith("a")
    await here.check_completed("run")


async def test_what_runs_behind_a_closed_fan_out_in_a_fan_out_that_is_closed_is_found_once(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def passed(*_given: Any) -> Any:
        raise NotImplementedError("it is found by following the items")

    monkeypatch.setattr(left_items, "_passed", passed)

    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll([0, 1])

    @node
    async def pair(x: int) -> NextAll[int]:
        return NextAll([x, x])

    @node
    async def work(x: int) -> int:
        return x

    @node
    async def then(ctx: WorkflowCtx[Any], x: int) -> int | Hold:
        if x == 1 and not ctx.timed_out:
            return Hold(for_=3600)
        await asyncio.sleep(1)
        return x

    @node
    async def winner(x: int) -> int:
        return x

    class Nesting(Workflow[int, int]):
        start = split
        edges = (split >> pair >> work >> first(then) >> first(winner),)

    here = cluster(Nesting)
    await here.start_worker()
    handle = await here.client().start(Nesting, 1, run_id="run")
    assert await handle.result(60) == 0
    await here.check_completed("run")
