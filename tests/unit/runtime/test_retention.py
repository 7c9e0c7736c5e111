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
from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.retry import RetryPolicy
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.ports.key_value import Batch, Enter, IndexRange, Key
from floxide_amqp.runtime import retention as retention_rounds
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.retention import Pruning
from floxide_amqp.runtime.runs_set_aside import FIRST_PAUSE_MS
from floxide_amqp.stores import keys, run_list_keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.session import WAITED_FOR
from floxide_amqp.testing.faults import FaultyKeyValueStore, StoreFaults
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


@node
async def echo(n: int) -> int:
    return n


class Echo(Workflow[int, int]):
    start = echo


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


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("retention", "left"),
    [
        (Retention(per_workflow={"Squares": HOUR}), ["cancelled", "failed"]),
        (Retention(per_workflow={"Branches": 3600}), ["completed"]),
        (Retention(failed=0, cancelled=0, per_workflow={"Branches": 2 * DAY}), ["cancelled", "completed", "failed"]),
        (Retention(completed=0, cancelled=0, per_workflow={"Branches": None}), ["cancelled", "failed"]),
        (Retention(completed=2 * DAY, per_workflow={"Branches": Retention(failed=HOUR)}), ["cancelled", "completed"]),
        (Retention(completed=0, per_workflow={"Squares": Retention()}), ["cancelled", "completed", "failed"]),
    ],
)
async def test_a_workflow_may_have_times_of_its_own(
    cluster: MakeCluster, retention: Retention, left: list[str]
) -> None:
    here = cluster(Squares, Branches)
    await here.start_worker()
    for how in HOWS:
        await ended(here, how.value, how)
    await after(here, DAY, retention).prune()
    assert sorted(run.run_id for run in (await here.client().list_runs()).runs) == left


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"completed": -1}, "Retention(completed=…) must not be negative, and is -1 seconds."),
        (
            {"per_workflow": {"W": timedelta(days=-1)}},
            "Retention(per_workflow={'W': …}) must not be negative, and is -86400 seconds.",
        ),
        (
            {"per_workflow": {"W": Retention(per_workflow={"V": 1})}},
            (
                "Retention(per_workflow={'W': …}) names workflows itself; give it times for completed, failed and "
                "cancelled only."
            ),
        ),
    ],
)
def test_a_time_that_makes_no_sense_is_refused_with_its_place(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Retention(**given)
    assert str(caught.value) == sentence


async def test_runs_of_a_workflow_that_stay_do_not_keep_those_behind_them_and_are_read_once(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_rounds, "ENTRIES_PER_ROUND", 5)
    monkeypatch.setattr(retention_rounds, "RUNS_PER_ROUND", 2)
    here = cluster(Squares, Echo)
    await here.start_worker()
    client = here.client()
    for number in range(20):
        await (await client.start(Squares, 0, run_id=f"stays-{number}")).wait(30)
    for number in range(5):
        await (await client.start(Echo, 1, run_id=f"goes-{number}")).wait(30)
    pruning = after(here, DAY, Retention(per_workflow={"Echo": timedelta(hours=1)}))
    services: Any = pruning._services
    read: list[str] = []
    find = services.runs.find

    def noted(run_id: str) -> Any:
        read.append(run_id)
        return find(run_id)

    services.runs.find = noted
    rounds = 0
    while len((await client.list_runs()).runs) > 20:
        await pruning.prune()
        rounds += 1
        assert rounds <= 10
    assert rounds == 7  # four over those that stay, three for five runs, two at a time
    assert sorted(read) == [f"goes-{number}" for number in range(5)]


async def test_runs_noted_without_their_workflow_are_told_apart_by_what_they_are(cluster: MakeCluster) -> None:
    here = cluster(Squares, Echo)
    await here.start_worker()
    client = here.client()
    await (await client.start(Squares, 0, run_id="stays")).wait(30)
    await (await client.start(Echo, 1, run_id="goes")).wait(30)
    index = run_list_keys.ended_runs(RunStatus.COMPLETED)
    for entry in await here.store.scan(IndexRange(index)):
        assert entry.value in {b"Squares", b"Echo"}
        await here.store.commit([Batch(slot=entry.slot, writes=(Enter(index, entry.entry, b""),))])
    await after(here, DAY, Retention(completed=2 * DAY, per_workflow={"Echo": timedelta(hours=1)})).prune()
    assert [run.run_id for run in (await client.list_runs()).runs] == ["stays"]


async def test_what_could_not_be_condemned_is_tried_again_later(cluster: MakeCluster) -> None:
    here = cluster(Echo)
    await here.start_worker()
    client = here.client()
    await (await client.start(Echo, 1, run_id="run")).wait(30)
    pruning = after(here, DAY, Retention(per_workflow={"Echo": timedelta(hours=1)}))
    services: Any = pruning._services
    condemn, failures = services.removal.condemn, 1

    async def fails_once(run: Any, now_ms: int) -> bool:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise RuntimeError("not now")
        return bool(await condemn(run, now_ms))

    services.removal.condemn = fails_once
    await pruning.prune()
    await pruning.prune()
    assert await client.status("run") is RunStatus.COMPLETED
    then = services.now_ms() + retention_rounds.ANEW_AFTER_MS
    services.now_ms = lambda: then
    await pruning.prune()
    await pruning.prune()
    with pytest.raises(RunDeletedError):
        await client.status("run")


@pytest.mark.parametrize("keeps", [True, False])
async def test_completed_items_keep_their_input_or_drop_it(cluster: MakeCluster, keeps: bool) -> None:
    here = cluster(Squares, Branches, retention=Retention(keep_inputs=keeps))
    await here.start_worker()
    await ended(here, "run", RunStatus.COMPLETED)
    await ended(here, "failed", RunStatus.FAILED)
    inputs = {run_id: await payloads_of(here, run_id) for run_id in ("run", "failed")}
    assert {bool(payload) for status, payload in inputs["run"] if status is WorkItemStatus.COMPLETED} == (
        {True, False} if keeps else {False}  # a join has none of its own
    )
    assert all(payload for status, payload in inputs["failed"] if status is not WorkItemStatus.COMPLETED)
    assert len(inputs["failed"]) == 4


async def payloads_of(here: Cluster, run_id: str) -> list[tuple[WorkItemStatus, bytes]]:
    cells = here.store._slots[slot_of(RunId(run_id))].cells
    items = [
        codec.decode_item(cell.value)
        for key, cell in cells.items()
        if key.partition == run_id and key.name.startswith("i:")
    ]
    return [(item.status, item.input.payload) for item in items]


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


async def test_full_rounds_of_pruning_follow_each_other_quickly(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_rounds, "RUNS_PER_ROUND", 2)
    here = cluster(Echo, retention=Retention(completed=60, tombstone=600))
    await here.start_worker()
    client = here.client()
    for number in range(40):
        await (await client.start(Echo, 1, run_id=f"run-{number}")).wait(30)
    left = len((await client.list_runs()).runs)
    await asyncio.sleep(60)
    loop = asyncio.get_running_loop()
    while not left or len((await client.list_runs()).runs) == left:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.05)
    began = loop.time()
    while (await client.list_runs()).runs:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(0.05)
    assert loop.time() - began < 10  # 20 rounds, and one a second would take 20 s


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


@pytest.mark.parametrize("lost", [1, 2])
async def test_a_run_whose_deletion_lost_its_reply_was_there_and_counts_once(cluster: MakeCluster, lost: int) -> None:
    here = cluster(Squares)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Squares, 3, run_id="run")
    await handle.result(timeout=60)
    deleting = here.client()
    store = deleting.services.session._store
    assert isinstance(store, FaultyKeyValueStore)
    store.lose_next_replies(lost)
    assert await deleting.delete("run") is True
    assert await deleting.delete("run") is False
    assert deleting.services.figures.runs_deleted == 1
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
    with pytest.raises(WAITED_FOR):
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


def break_record(here: Cluster, run_id: str, name: str) -> Callable[[], None]:
    """Damage a record of a run; return what repairs it."""
    cells = here.store._slots[slot_of(RunId(run_id))].cells
    key = Key(run_id, name)
    whole = cells[key]
    cells[key] = whole._replace(value=b"\xc1")

    def repair() -> None:
        cells[key] = whole

    return repair


async def test_runs_that_cannot_be_deleted_are_set_aside_and_keep_no_other_from_its_turn(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retention_rounds, "RUNS_PER_ROUND", 3)
    here = cluster(Squares)
    await here.start_worker()
    client = here.client()
    for number in range(7):
        await (await client.start(Squares, 0, run_id=f"run-{number}")).wait(30)
    repairs = [break_record(here, f"run-{number}", "state") for number in range(6)]
    pruning = after(here, DAY)
    for _ in range(3):
        await pruning.prune()
    assert await client.services.runs.find(RunId("run-6")) is None
    shown = (await client.list_runs()).unreadable
    assert sorted(run.run_id for run in shown) == [f"run-{number}" for number in range(6)]
    assert caplog.text.count("run.deletion_failed") == 6  # and not in every round again
    assert "run-3" in caplog.text

    repairs[0]()
    later = services_after(here.client(), DAY + timedelta(milliseconds=FIRST_PAUSE_MS + 60_000))
    for _ in range(3):
        await Pruning(later).prune()
    shown = (await client.list_runs()).unreadable
    assert sorted(run.run_id for run in shown) == [f"run-{number}" for number in range(1, 6)]
    await Pruning(services_after(here.client(), 3 * DAY)).prune()
    assert remains(here.store, "run-0") == []


async def test_a_run_that_one_leader_sets_aside_while_another_clears_it_is_not_listed_for_ever(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = cluster(Echo)
    await here.start_worker()
    await (await here.client().start(Echo, 1, run_id="run")).wait(30)
    monkeypatch.setattr(retention_rounds, "PAGES_PER_ROUND", 0)
    await after(here, DAY).prune()
    assert here.store.leftovers(keys.CONDEMNED)
    monkeypatch.undo()
    one, other = after(here, DAY), after(here, DAY)
    services: Any = one._services

    async def too_late(*given: Any, **options: Any) -> bool:
        await other.prune()
        raise RuntimeError("injected")

    services.removal.clear = too_late
    await one.prune()
    assert not here.store.leftovers(keys.CONDEMNED)
    assert here.store.leftovers(keys.RUNS_ASIDE)
    for minutes in (2, 4, 6):
        await after(here, DAY + timedelta(minutes=minutes)).prune()
    assert not here.store.leftovers(keys.CONDEMNED, keys.RUNS_ASIDE)


@pytest.mark.parametrize("is_cleared", [False, True])
async def test_a_damaged_tombstone_keeps_no_other_run_from_being_cleared_or_forgotten(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch, is_cleared: bool
) -> None:
    monkeypatch.setattr(retention_rounds, "RUNS_PER_ROUND", 2)
    monkeypatch.setattr(retention_rounds, "PAGES_PER_ROUND", 3 if is_cleared else 0)
    here = cluster(Squares)
    await here.start_worker()
    client = here.client()
    for number in range(5):
        await (await client.start(Squares, 0, run_id=f"run-{number}")).wait(30)
    for _ in range(4):
        await after(here, DAY).prune()
    repairs = [break_record(here, f"run-{number}", "tombstone") for number in range(4)]
    monkeypatch.setattr(retention_rounds, "PAGES_PER_ROUND", 3)
    pruning = after(here, 3 * DAY)
    for _ in range(6):
        await pruning.prune()
    assert remains(here.store, "run-4") == []
    repairs[3]()
    later = after(here, 4 * DAY)
    for _ in range(6):
        await later.prune()
    assert remains(here.store, "run-3") == []
