"""What is shown of a run that waits at a join of edges: which of its sources have arrived, and which have not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from floxide_amqp import (
    Hold,
    NextAll,
    RunStatus,
    Signal,
    Workflow,
    WorkflowCtx,
    all_of,
    all_of_each,
    fan_out,
    gather,
    n_of,
    node,
)
from floxide_amqp.runtime import join_waits
from floxide_amqp.runtime.views import JoinWaitInfo, RunInfo, WaitInfo
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]

GO = Signal("go", int)


@node
async def begin(x: int) -> int:
    return x


@node
async def quick(x: int) -> int:
    return x


@node
async def slow(ctx: WorkflowCtx, x: int) -> int | Hold:
    return ctx.received(GO) or Hold(until=GO)


@node
async def pair(both: tuple[int, int]) -> int:
    return sum(both)


@node
async def total(some: list[int]) -> int:
    return sum(some)


@node
async def spread(x: int) -> NextAll[int]:
    return NextAll(range(1, x + 1))


class Pair(Workflow[int, int]):
    start = begin
    edges = (begin >> (quick, slow), all_of(quick, slow) >> pair)


late = [slow.named(f"late_{n}") for n in range(3)]


class Some(Workflow[int, int]):
    start = begin
    edges = (
        begin >> fan_out([quick, *late]),
        n_of(2, quick, late[0], late[1], late[2]) >> total,
    )


early = [quick.named(f"early_{n:02}") for n in range(12)]
laggards = [slow.named(f"late_{n:02}") for n in range(15)]


class Broad(Workflow[int, int]):
    start = begin
    edges = (begin >> fan_out([*early, *laggards]), all_of_each([*early, *laggards]) >> total)


class InElements(Workflow[int, int]):
    start = spread
    edges = (
        spread >> begin >> (quick, slow),
        all_of(quick, slow) >> pair >> gather(total),
    )


async def joins_of(here: Cluster, workflow: type[Workflow[int, int]], given: int) -> tuple[RunInfo, list[WaitInfo]]:
    await here.start_worker()
    client = here.client()
    await client.start(workflow, given, run_id="run")
    await asyncio.sleep(5)
    info = await client.run_info("run")
    return info, [wait for wait in info.waits if not wait.items]


async def test_a_run_that_waits_at_a_join_says_which_sources_arrived_and_which_did_not(cluster: MakeCluster) -> None:
    here = cluster(Pair)
    info, joins = await joins_of(here, Pair, 1)
    assert info.status is RunStatus.WAITING
    assert [(wait.node, wait.what) for wait in joins] == [
        ("pair", "'slow' to arrive at node 'pair', where 'quick' did")
    ]
    assert joins[0].join == JoinWaitInfo(arrived=("quick",), arrivals=1, missing=("slow",), sources=2, needed=2)
    assert [wait.node for wait in info.waits] == ["slow", "pair"]
    await here.client().signal("run", GO, 1)
    await here.client().wait("run", 30)
    assert (await here.client().run_info("run")).waits == ()


async def test_a_join_that_needs_some_of_its_sources_says_how_many(cluster: MakeCluster) -> None:
    _, joins = await joins_of(cluster(Some), Some, 1)
    (wait,) = joins
    assert wait.what == "1 of 'late_0', 'late_1', 'late_2' to arrive at node 'total', where 'quick' did"
    assert wait.join is not None
    assert (wait.join.needed, wait.join.arrivals, wait.join.sources) == (2, 1, 4)


async def test_of_many_sources_the_first_ten_are_named_and_the_rest_are_counted(cluster: MakeCluster) -> None:
    _, joins = await joins_of(cluster(Broad), Broad, 1)
    (wait,) = joins
    missing = ", ".join(f"'late_{n:02}'" for n in range(10))
    arrived = ", ".join(f"'early_{n:02}'" for n in range(10))
    assert wait.what == f"{missing} and 5 more to arrive at node 'total', where {arrived} and 2 more did"
    assert wait.join is not None
    assert (len(wait.join.arrived), len(wait.join.missing)) == (10, 10)
    assert (wait.join.arrivals, wait.join.sources) == (12, 27)


async def test_each_element_of_a_fan_out_has_a_join_of_its_own_and_only_some_are_shown(cluster: MakeCluster) -> None:
    _, joins = await joins_of(cluster(InElements), InElements, 13)
    assert [wait.node for wait in joins] == ["pair"] * 10 + [""]
    assert joins[-1].what == "what 3 more joins lack"
    assert {wait.what for wait in joins[:10]} == {"'slow' to arrive at node 'pair', where 'quick' did"}


async def test_a_join_that_has_become_an_item_waits_no_more(cluster: MakeCluster) -> None:
    here = cluster(InElements)
    _, joins = await joins_of(here, InElements, 2)
    assert len(joins) == 2
    client = here.client()
    await client.signal("run", GO, 7)
    await asyncio.sleep(5)
    assert len([wait for wait in (await client.run_info("run")).waits if wait.join]) == 1


async def test_who_does_not_know_the_workflow_sees_how_many_arrived(cluster: MakeCluster) -> None:
    here = cluster(Pair)
    await joins_of(here, Pair, 1)
    here.workflows = ()
    waits = (await here.client().run_info("run")).waits
    assert waits[-1].what == "more values to arrive at node 'pair', where 1 did"


async def test_of_more_arrivals_than_are_looked_at_nobody_is_called_missing(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join_waits, "MOST_ARRIVALS", 11)
    _, joins = await joins_of(cluster(Broad), Broad, 1)
    (wait,) = joins
    assert wait.what.startswith("15 more to arrive at node 'total', where 'early_00', ")
