"""Runs that ended stay for as long as the application says, and go with everything that is known of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Annotated, Any

import pytest

from floxide_amqp import (
    ConfigurationError,
    Context,
    Hold,
    InvalidRunStateError,
    Next,
    NextAll,
    Retention,
    RunConflictError,
    RunDeletedError,
    RunNotFoundError,
    RunStatus,
    Sum,
    Workflow,
    WorkflowCtx,
    gather,
    node,
)
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.exceptions import StoreUnavailableError
from floxide_amqp.ports.key_value import Batch
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.retention import Pruning
from floxide_amqp.testing.faults import StoreFaults
from tests.unit.runtime.cluster import Cluster, GuardedStore

MakeCluster = Callable[..., Cluster]

DAY = timedelta(days=1)
ALL = Retention(completed=DAY, failed=DAY, cancelled=DAY, tombstone=DAY)


class Sums(Context):
    total: Annotated[int, Sum()] = 0


@node
async def spread(n: int) -> NextAll[int]:
    return NextAll(range(n))


@node(retry=RetryPolicy(max_attempts=3, initial_backoff=timedelta(seconds=0)))
async def square(ctx: WorkflowCtx[Sums], n: int) -> int:
    ctx.state.total += n
    if n == 1 and ctx.attempt == 1:
        raise RuntimeError("once")
    return n * n


@node
async def add(squares: list[int]) -> int:
    return sum(squares)


class Squares(Workflow[int, int, Sums]):
    start = spread
    edges = (spread >> square >> gather(add),)


@node
async def open_branches(n: int) -> NextAll[int]:
    return NextAll(range(n))


@node
async def branch(n: int) -> Next[int] | Hold:
    if n == 0:
        await asyncio.sleep(5)
        raise RuntimeError("for good")
    return Hold(for_=3600.0)


class Branches(Workflow[int, int]):
    start = open_branches
    edges = (open_branches >> branch,)


def remains(store: GuardedStore, run_id: str) -> list[str]:
    """Everything in the store that belongs to a run or names it."""
    found: list[str] = []
    for slot in store._slots.values():
        for things in (slot.cells, slot.counters, slot.logs):
            found += (f"{key.partition}/{key.name}" for key in things if key.partition == run_id)
    for name, entries in store._indexes.items():
        for entry, _, _ in entries.between("", None, reverse=False):
            if run_id in name or run_id in entry:
                found.append(f"{name}: {entry}")
    return found


def after(here: Cluster, time: timedelta, retention: Retention = ALL) -> Pruning:
    """The pruning of a leader so much later."""
    return Pruning(services_after(here.client(), time, retention))


def services_after(orchestrator: Orchestrator, time: timedelta, retention: Retention = ALL) -> Any:
    services = orchestrator.services
    then = services.now_ms() + round(time.total_seconds() * 1000)
    services.retention = retention
    services.now_ms = lambda: then  # type: ignore[method-assign]
    return services


async def ended(here: Cluster, run_id: str, how: RunStatus, *, width: int = 3) -> None:
    """Let a run end in a certain way."""
    client = here.client()
    if how is RunStatus.COMPLETED:
        handle: Any = await client.start(Squares, width, run_id=run_id)
    else:
        handle = await client.start(Branches, width, run_id=run_id)
        if how is RunStatus.CANCELLED:
            await asyncio.sleep(2)
            await handle.cancel()
    assert await handle.wait(60) is how
    await asyncio.sleep(30)


HOWS = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)


@pytest.mark.parametrize("how", HOWS)
async def test_an_ended_run_goes_with_everything_once_its_time_is_over_and_not_before(
    cluster: MakeCluster, how: RunStatus
) -> None:
    here = cluster(Squares, Branches, retention=ALL)
    await here.start_worker()
    await ended(here, "run-17", how)
    await after(here, DAY - timedelta(minutes=2)).prune()
    assert await here.client().status("run-17") is how
    for _ in range(3):
        await after(here, DAY).prune()
    left = remains(here.store, "run-17")
    assert [entry for entry in left if "tombstone" not in entry] == []
    assert len(left) == 2  # the tombstone, and its entry among those to be forgotten
    await after(here, 2 * DAY + timedelta(minutes=1)).prune()
    assert remains(here.store, "run-17") == []
    assert here.store.violations == []


@pytest.mark.parametrize("how", HOWS)
async def test_by_default_nothing_is_ever_deleted(cluster: MakeCluster, how: RunStatus) -> None:
    here = cluster(Squares, Branches)
    await here.start_worker()
    await ended(here, "run", how)
    await after(here, timedelta(days=10_000), Retention()).prune()
    assert await here.client().status("run") is how


async def test_each_kind_of_end_has_its_own_time(cluster: MakeCluster) -> None:
    here = cluster(Squares, Branches)
    await here.start_worker()
    for how in HOWS:
        await ended(here, how.value, how)
    for _ in range(2):
        await after(here, DAY, Retention(completed=timedelta(hours=1), failed=2 * DAY)).prune()
    page = await here.client().list_runs()
    assert sorted(run.run_id for run in page.runs) == ["cancelled", "failed"]


async def test_runs_that_have_not_ended_stay(cluster: MakeCluster) -> None:
    here = cluster(Branches)
    await here.start_worker()
    client = here.client()
    await client.start(Branches, 3, run_id="paused")
    await client.start(Branches, 3, run_id="running")
    await asyncio.sleep(1)
    await client.pause("paused")
    await after(here, timedelta(days=10_000)).prune()
    assert await client.status("paused") is RunStatus.PAUSED
    assert await client.status("running") is RunStatus.RUNNING


async def test_the_leader_prunes_by_itself(cluster: MakeCluster) -> None:
    here = cluster(Squares, retention=Retention(completed=60, tombstone=600))
    await here.start_worker()
    handle = await here.client().start(Squares, 3, run_id="run-17")
    assert await handle.result(30) == 5
    await asyncio.sleep(70)
    with pytest.raises(RunDeletedError):
        await handle.status()
    await asyncio.sleep(610)
    assert remains(here.store, "run-17") == []


async def test_a_start_within_the_window_says_what_happened_to_the_run(cluster: MakeCluster) -> None:
    here = cluster(Squares)
    member = await here.start_worker()
    await ended(here, "run", RunStatus.COMPLETED)
    client = here.client()
    ended_at = (await client.run_info("run")).finished_at
    assert ended_at is not None
    await client.delete("run")
    with pytest.raises(RunDeletedError, match=r"completed at .* and was deleted at") as caught:
        await client.start(Squares, 3, run_id="run")
    with pytest.raises(RunDeletedError):
        await client.handle(Squares, "run").result(10)
    assert (caught.value.run_id, caught.value.status) == ("run", "completed")
    assert caught.value.ended_at.replace(microsecond=0, tzinfo=UTC) == ended_at.replace(microsecond=0)
    with pytest.raises(RunConflictError, match="was deleted not long ago and was started with another input"):
        await client.start(Squares, 4, run_id="run")
    with pytest.raises(RunConflictError, match="another workflow or version"):
        await client.start(Branches, 3, run_id="run")
    await asyncio.sleep(30)
    assert member.worker.health().items_done <= 10
    assert (await client.list_runs()).runs == []


async def test_after_the_window_the_id_is_free_and_nobody_remembers_the_run_before(cluster: MakeCluster) -> None:
    here = cluster(Squares, Branches, retention=Retention(completed=60, tombstone=600))
    await here.start_worker()
    client = here.client()
    assert await (await client.start(Squares, 3, run_id="run")).result(30) == 5
    await asyncio.sleep(700)
    assert await (await client.start(Squares, 4, run_id="run")).result(30) == 14
    assert (await client.context(Squares, "run")).total == 6
    await asyncio.sleep(10)
    assert here.store.violations == []


async def test_only_ended_runs_can_be_deleted_by_hand_and_twice_is_fine(cluster: MakeCluster) -> None:
    here = cluster(Squares, Branches)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Branches, 3, run_id="run")
    await asyncio.sleep(1)
    with pytest.raises(InvalidRunStateError, match="Cannot delete run 'run'"):
        await handle.delete()
    with pytest.raises(RunNotFoundError):
        await client.delete("unknown")
    await handle.cancel()
    await handle.delete()
    await handle.delete()
    for act in (handle.status, handle.cancel, handle.pause, handle.resume):
        with pytest.raises(RunDeletedError):
            await act()
    assert [entry for entry in remains(here.store, "run") if "tombstone" not in entry] == []


# --- races


@pytest.mark.parametrize("first", ["resume", "prune"])
async def test_a_failed_run_is_either_resumed_or_deleted_whoever_commits_first(
    cluster: MakeCluster, first: str
) -> None:
    here = cluster(Branches)
    member = await here.start_worker()
    await ended(here, "run", RunStatus.FAILED)
    client = here.client()
    store: Any = client.services.session._store

    async def meanwhile(batches: Sequence[Batch]) -> None:
        del batches
        store.before_commit = nothing
        if first == "prune":
            await after(here, 2 * DAY).prune()
        else:
            await here.client().resume("run")

    store.before_commit = meanwhile
    if first == "prune":
        with pytest.raises(RunDeletedError):
            await client.resume("run")
        assert [entry for entry in remains(here.store, "run") if "tombstone" not in entry] == []
    else:
        await Pruning(services_after(client, 2 * DAY)).prune()
        assert await here.client().status("run") in (RunStatus.RUNNING, RunStatus.WAITING)
        await asyncio.sleep(60)
        await after(here, timedelta(hours=1)).prune()
        assert await here.client().status("run") is RunStatus.FAILED
    assert member.task.done() is False


async def nothing(batches: Sequence[Batch]) -> None:
    del batches


@pytest.mark.parametrize("seed", range(8))
async def test_resume_and_prune_at_once_leave_a_whole_run_or_none(cluster: MakeCluster, seed: int) -> None:
    here = cluster(Branches, seed=seed)
    await here.start_worker()
    await ended(here, "run", RunStatus.FAILED, width=20)
    chance = random.Random(seed)
    clients = [here.client() for _ in range(3)]
    for client in clients:
        store: Any = client.services.session._store
        store.faults = StoreFaults(delayed=0.5, longest_delay=0.02, lost_reply=0.1)
    prunings = [Pruning(services_after(client, 2 * DAY)) for client in clients[:2]]

    async def resume() -> bool:
        await asyncio.sleep(chance.uniform(0, 0.1))
        try:
            await clients[2].resume("run")
        except RunNotFoundError:
            return False
        return True

    was_resumed, *_ = await asyncio.gather(resume(), *(pruning.prune() for pruning in prunings))
    if was_resumed:
        assert await here.client().status("run") is not RunStatus.COMPLETED
        await asyncio.sleep(30)
        assert await here.client().status("run") is RunStatus.FAILED  # it was tried again, whole
    else:
        await after(here, 2 * DAY).prune()
        assert [entry for entry in remains(here.store, "run") if "tombstone" not in entry] == []


@pytest.mark.parametrize("commits", [1, 2, 3, 4, 5, 6, 8, 10])
async def test_pruning_goes_on_where_a_leader_died(cluster: MakeCluster, commits: int) -> None:
    here = cluster(Squares)
    await here.start_worker()
    await ended(here, "run-17", RunStatus.COMPLETED, width=1_200)
    client = here.client()
    store: Any = client.services.session._store
    left = commits

    async def count_down(batches: Sequence[Batch]) -> None:
        nonlocal left
        left -= len(batches)
        if left <= 0:
            store.cut()

    store.after_commit = count_down
    client.services.session._patience = 0.0
    with pytest.raises(StoreUnavailableError):
        await Pruning(services_after(client, DAY)).prune()
    with pytest.raises(RunDeletedError):
        await here.client().status("run-17")
    await after(here, DAY).prune()
    assert [entry for entry in remains(here.store, "run-17") if "tombstone" not in entry] == []


@pytest.mark.fault(52)
async def test_two_leaders_prune_at_once_and_a_slow_one_harms_no_later_run_of_the_same_id(
    cluster: MakeCluster,
) -> None:
    here = cluster(Squares, retention=ALL)
    await here.start_worker()
    await ended(here, "run", RunStatus.COMPLETED, width=1_200)
    slow = here.client()
    store: Any = slow.services.session._store
    may_go_on = asyncio.Event()

    async def fall_asleep(batches: Sequence[Batch]) -> None:
        if any("run" in repr(batch) and batch.checks for batch in batches) and len(store.commits) > 3:
            await may_go_on.wait()

    store.before_commit = fall_asleep
    sleeping = asyncio.create_task(Pruning(services_after(slow, DAY)).prune())
    await asyncio.sleep(1)
    await after(here, DAY).prune()
    await after(here, 3 * DAY).prune()
    assert remains(here.store, "run") == []
    await asyncio.sleep(700)  # the workers' memory of runs is shorter than any tombstone
    handle = await here.client().start(Squares, 4, run_id="run")
    assert await handle.result(30) == 14
    before = remains(here.store, "run")
    may_go_on.set()
    await sleeping
    assert remains(here.store, "run") == before
    assert await handle.result(30) == 14


@pytest.mark.fault(19)
async def test_a_late_message_of_a_deleted_run_is_acknowledged_and_leaves_nothing(cluster: MakeCluster) -> None:
    here = cluster(Squares)
    member = await here.start_worker()
    await ended(here, "run", RunStatus.COMPLETED)
    late = [message for message in member.queue.published if message.correlation_id]
    assert late
    await here.client().delete("run")
    before = remains(here.store, "run")
    done = member.worker.health().items_done
    await here.queue.publish(late)
    await asyncio.sleep(5)
    assert member.worker.health().items_done == done + len(late)
    assert member.worker.health().error_count == 0
    assert await here.queue.depth("default") == 0
    assert remains(here.store, "run") == before


async def test_deleting_spares_runs_whose_ids_begin_alike(cluster: MakeCluster) -> None:
    here = cluster(Squares)
    await here.start_worker()
    for run_id in ("run", "run-1", "run-1:2", "run:"):
        await ended(here, run_id, RunStatus.COMPLETED)
    client = here.client()
    await client.delete("run-1")
    for run_id in ("run", "run-1:2", "run:"):
        assert await client.handle(Squares, run_id).result(1) == 5
        assert len(await client.work_items(run_id)) == 5


def test_times_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="completed"):
        Retention(completed=-1)
    with pytest.raises(ConfigurationError, match="tombstone"):
        Retention(tombstone=10)
    assert replace(ALL, tombstone=600).tombstone_ms == 600_000
