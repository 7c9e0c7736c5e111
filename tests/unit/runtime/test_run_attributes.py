"""Runs are found by their attributes, those they were started with and those their nodes set."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from floxide_amqp import (
    DefinitionError,
    FloxideError,
    Hold,
    InvalidAttributeError,
    Next,
    NextAll,
    Orchestrator,
    RetryPolicy,
    RunFailedError,
    RunFilter,
    RunStatus,
    Start,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)
from floxide_amqp.core.attributes import Attributes
from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.ports.key_value import Batch, Put
from floxide_amqp.runtime import searching
from floxide_amqp.stores import keys, run_list_keys
from floxide_amqp.stores.attributes import attribute_index
from tests.unit.runtime.cluster import Cluster, GuardedStore

MakeCluster = Callable[..., Cluster]


@node
async def pack(ctx: WorkflowCtx, number: int) -> int:
    ctx.set_attribute("stage", "packed")
    return number


@node
async def ship(ctx: WorkflowCtx, number: int) -> int:
    if number < 0:
        raise ValueError("nobody lives there")
    ctx.set_attribute("stage", "shipped")
    ctx.set_attribute("number", number)
    return number


class Parcels(Workflow[int, int]):
    start = pack
    edges = (pack >> ship,)


class Others(Workflow[int, int]):
    start = pack.named("others_pack")


@node
async def fail_after_setting(ctx: WorkflowCtx, number: int) -> int:
    ctx.set_attribute("stage", "tried")
    raise ValueError("not today")


class Failing(Workflow[int, int]):
    start = fail_after_setting


@node
async def split(ctx: WorkflowCtx, width: int) -> NextAll[int]:
    return NextAll(range(width))


@node
async def mark(ctx: WorkflowCtx, number: int) -> int:
    ctx.set_attribute(f"part-{number}", True)
    return number


@node
async def total(ctx: WorkflowCtx, numbers: list[int]) -> int:
    ctx.set_attribute("part-0", None)
    return sum(numbers)


class Wide(Workflow[int, int]):
    start = split
    edges = (split >> mark >> gather(total),)


@node(retry=RetryPolicy(max_attempts=2, initial_backoff=1, jitter=0))
async def set_too_many(ctx: WorkflowCtx, number: int) -> int:
    for n in range(number):
        ctx.set_attribute(f"a{n}", n)
    return number


class TooMany(Workflow[int, int]):
    start = set_too_many


@node
async def hold_and_tell(ctx: WorkflowCtx, number: int) -> Next[int] | Hold:
    ctx.set_attribute("held", True)
    return Hold(for_=timedelta(seconds=600))


class Holding(Workflow[int, int]):
    start = hold_and_tell


async def found(client: Orchestrator, **filters: object) -> set[str]:
    """Return the ids of all runs that a filter finds, page by page."""
    ids: list[str] = []
    cursor = ""
    while True:
        page = await client.list_runs(limit=3, cursor=cursor, **filters)  # type: ignore[arg-type]
        ids += [run.run_id for run in page.runs]
        cursor = page.next_cursor
        if not cursor:
            assert len(ids) == len(set(ids))
            return set(ids)


def lists_of(here: Cluster) -> dict[str, list[str]]:
    return {
        name: [run_list_keys.run_of(entry) for entry in entries]
        for name, entries in here.store.leftovers("runs.attribute:").items()
    }


async def test_a_run_is_found_by_the_attributes_it_was_started_with(cluster: MakeCluster) -> None:
    here = cluster(Parcels, Others)
    client = here.client()
    at = datetime(2026, 7, 1, tzinfo=UTC)
    attributes: list[Attributes] = [
        {"tenant": "acme", "vip": True}, {"tenant": "acme", "vip": False}, {"tenant": "else", "due": at, "cost": 1.5},
    ]  # fmt: skip
    await client.start_many(Parcels, [Start(n, None, f"run-{n}", each) for n, each in enumerate(attributes)])
    await client.start(Others, 1, run_id="other", attributes={"tenant": "acme"})
    await client.start(Parcels, 1, run_id="plain")
    assert await found(client, attributes={"tenant": "acme"}) == {"run-0", "run-1", "other"}
    assert await found(client, attributes={"tenant": "acme"}, workflow="Parcels") == {"run-0", "run-1"}
    assert await found(client, attributes={"tenant": "acme", "vip": True}) == {"run-0"}
    assert await found(client, attributes={"due": at, "cost": 1.5}) == {"run-2"}
    assert await found(client, attributes={"vip": 1}) == set()
    assert await found(client, attributes={"unknown": 1}) == set()
    assert (await client.run_info("run-2")).attributes == attributes[2]
    assert (await client.run_info("plain")).attributes == {}
    (shown,) = (await client.list_runs(attributes={"vip": True})).runs
    assert shown.attributes == attributes[0]


async def test_nodes_set_change_and_take_away_attributes_in_the_commits_of_their_steps(cluster: MakeCluster) -> None:
    here = cluster(Parcels)
    await here.start_worker()
    client = here.client()
    for number in (5, -1):
        await client.start(Parcels, number, run_id=f"run{number}", attributes={"stage": "new", "tenant": "acme"})
        await client.wait(f"run{number}")
    assert (await client.run_info("run5")).attributes == {"number": 5, "stage": "shipped", "tenant": "acme"}
    assert (await client.run_info("run-1")).attributes == {"stage": "packed", "tenant": "acme"}
    assert await found(client, attributes={"stage": "packed"}) == {"run-1"}
    assert await found(client, attributes={"tenant": "acme"}, status=RunStatus.FAILED) == {"run-1"}
    assert attribute_index("stage", "new") not in lists_of(here)


async def test_what_a_failed_attempt_set_is_dropped_with_it(cluster: MakeCluster) -> None:
    here = cluster(Failing)
    await here.start_worker()
    client = here.client()
    await client.start(Failing, 1, run_id="run")
    assert await client.wait("run") is RunStatus.FAILED
    assert (await client.run_info("run")).attributes == {}
    assert lists_of(here) == {}


async def test_steps_that_set_attributes_side_by_side_lose_none(cluster: MakeCluster) -> None:
    here = cluster(Wide)
    await here.start_worker()
    await here.start_worker()
    client = here.client()
    handle = await client.start(Wide, 20, run_id="run")
    assert await handle.result() == sum(range(20))
    assert set((await client.run_info("run")).attributes) == {f"part-{n}" for n in range(1, 20)}
    assert lists_of(here) == {attribute_index(f"part-{n}", True): ["run"] for n in range(1, 20)}
    await here.check_completed("run")


async def test_a_step_that_would_give_its_run_too_many_fails_at_once_and_says_so(cluster: MakeCluster) -> None:
    here = cluster(TooMany)
    await here.start_worker()
    handle = await here.client().start(TooMany, 33, run_id="run")
    with pytest.raises(RunFailedError, match="a run has at most 32 attributes") as caught:
        await handle.result()
    assert caught.value.attempts == 1


async def test_a_step_that_holds_sets_attributes_too(cluster: MakeCluster) -> None:
    here = cluster(Holding)
    await here.start_worker()
    client = here.client()
    await client.start(Holding, 1, run_id="run")
    await asyncio.sleep(5)
    assert await found(client, attributes={"held": True}, status=RunStatus.WAITING) == {"run"}


async def test_a_repeated_start_leaves_attributes_as_they_are(cluster: MakeCluster) -> None:
    client = cluster(Parcels).client()
    for tenant in ("first", "second"):
        await client.start(Parcels, 1, run_id="run", attributes={"tenant": tenant})
    assert (await client.run_info("run")).attributes == {"tenant": "first"}
    assert await found(client, attributes={"tenant": "second"}) == set()


async def test_a_start_with_what_cannot_be_an_attribute_starts_nothing(cluster: MakeCluster) -> None:
    client = cluster(Parcels).client()
    with pytest.raises(InvalidAttributeError):
        await client.start(Parcels, 1, attributes={"tenant": None})  # type: ignore[dict-item]
    assert (await client.list_runs()).runs == []


async def test_runs_are_found_by_when_they_were_started(cluster: MakeCluster) -> None:
    client = cluster(Parcels).client()
    times: list[datetime] = []
    for n in range(4):
        await client.start(Parcels, n, run_id=f"run-{n}", attributes={"even": n % 2 == 0})
        times.append((await client.run_info(f"run-{n}")).created_at)
        await asyncio.sleep(10)
    assert await found(client, started_after=times[1]) == {"run-1", "run-2", "run-3"}
    assert await found(client, started_before=times[1]) == {"run-0"}
    assert await found(client, started_after=times[1], started_before=times[3]) == {"run-1", "run-2"}
    just_after = times[1] + timedelta(microseconds=1)
    assert await found(client, started_after=just_after, attributes={"even": False}) == {"run-3"}
    assert await found(client, started_before=just_after) == {"run-0", "run-1"}
    assert await found(client, started_after=datetime(1970, 1, 1, tzinfo=UTC)) == {f"run-{n}" for n in range(4)}
    with pytest.raises(DefinitionError, match="time zone"):
        await client.list_runs(started_after=datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused


async def test_a_rare_match_among_many_runs_is_found_page_by_page_with_bounded_work(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MOST_LOOKED_AT", 5)
    monkeypatch.setattr(searching, "LEAST_READ", 4)
    client = cluster(Parcels, Others).client()
    for n in range(60):
        workflow = Others if n == 3 else Parcels
        await client.start(workflow, n, run_id=f"run-{n}", attributes={"tenant": "acme", "third": n % 3 == 0})
        await asyncio.sleep(1)
    assert await found(client, attributes={"tenant": "acme", "third": True}, workflow="Others") == {"run-3"}
    assert await found(client, attributes={"third": True}) == {f"run-{n}" for n in range(0, 60, 3)}
    assert await found(client, status=RunStatus.WAITING) == set()
    empty = await client.list_runs(status=RunStatus.WAITING, limit=1)
    assert (empty.runs, bool(empty.next_cursor)) == ([], True)


async def test_all_runs_of_a_filter_are_met_once_while_they_change(cluster: MakeCluster) -> None:
    client = cluster(Parcels).client()
    for n in range(25):
        await client.start(Parcels, n, run_id=f"run-{n}", attributes={"tenant": "acme"})
    met: list[str] = []
    where = RunFilter(status=RunStatus.PENDING, attributes={"tenant": "acme"})
    async for each in searching.all_runs(client.services, where, page=4):
        met.append(each.run.header.run_id)
        await client.cancel(met[-1])
    assert sorted(met) == sorted(f"run-{n}" for n in range(25))
    assert await found(client, attributes={"tenant": "acme"}, status=RunStatus.CANCELLED) == set(met)


async def test_a_deleted_run_leaves_every_list(cluster: MakeCluster) -> None:
    here = cluster(Parcels)
    await here.start_worker()
    client = here.client()
    await client.start(Parcels, 5, run_id="run", attributes={"tenant": "acme"})
    await client.wait("run")
    assert lists_of(here) != {}
    assert await client.delete("run") is True
    assert lists_of(here) == {}


async def test_a_run_whose_attributes_are_damaged_is_shown_as_such_and_can_be_deleted(cluster: MakeCluster) -> None:
    here = cluster(Parcels)
    await here.start_worker()
    client = here.client()
    await client.start(Parcels, 5, run_id="run", attributes={"tenant": "acme"})
    await client.wait("run")
    damaged = Batch(slot=slot_of(RunId("run")), writes=(Put(keys.attributes(RunId("run")), b"\xc1"),))
    await here.store.commit([damaged])
    page = await client.list_runs(attributes={"tenant": "acme"})
    assert (page.runs, [each.run_id for each in page.unreadable]) == ([], ["run"])
    with pytest.raises(FloxideError):
        await client.run_info("run")
    assert await client.delete("run") is True
    after = await client.list_runs(attributes={"tenant": "acme"})
    assert (after.runs, after.unreadable) == ([], [])


async def test_a_damaged_record_of_attributes_fails_the_run_of_a_node_that_sets_some(cluster: MakeCluster) -> None:
    here = cluster(Parcels)
    client = here.client()
    await client.start(Parcels, 5, run_id="run", attributes={"tenant": "acme"})
    damaged = Batch(slot=slot_of(RunId("run")), writes=(Put(keys.attributes(RunId("run")), b"\xc1"),))
    await here.store.commit([damaged])
    await here.start_worker()
    assert await client.wait("run", 120) is RunStatus.FAILED
    state = (await client.services.runs.load(RunId("run"))).state
    assert state.failure is not None
    assert "run/attributes" in state.failure.error.message


async def test_an_exported_run_is_found_where_it_is_imported(cluster: MakeCluster, tmp_path: Path) -> None:
    here, there = cluster(Parcels), cluster(Parcels)
    client = here.client()
    await client.start(Parcels, 5, run_id="run", attributes={"tenant": "acme", "cost": 2.5})
    await client.pause("run")
    await client.export_run("run", tmp_path / "run")
    there.store.__class__ = MemoryKeyValueStore  # type: ignore[assignment]
    await there.client().import_run(tmp_path / "run")
    there.store.__class__ = GuardedStore
    assert await found(there.client(), attributes={"tenant": "acme", "cost": 2.5}) == {"run"}
    assert (await there.client().run_info("run")).attributes == {"tenant": "acme", "cost": 2.5}


def test_a_node_under_test_shows_what_it_set() -> None:
    ctx = WorkflowCtx.for_test()
    ctx.set_attribute("stage", "packed")
    ctx.set_attribute("number", None)
    assert ctx.attributes_set == {"stage": "packed", "number": None}
    with pytest.raises(InvalidAttributeError):
        ctx.set_attribute("stage", object())  # type: ignore[arg-type]
