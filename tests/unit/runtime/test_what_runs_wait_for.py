"""What is shown of a run that waits: its status, for what, since when, until when; and what resuming it says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from floxide_amqp import Floxide, Hold, Next, RetryPolicy, RunStatus, Start, Workflow, WorkItemStatus, node
from floxide_amqp.exceptions import InvalidRunStateError
from floxide_amqp.runtime.views import RunInfo, WaitInfo
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.counting_store import CountingStore

MakeCluster = Callable[..., Cluster]


@node
async def work(x: int) -> int:
    return x


@node
async def hold_on(x: int) -> Next[int] | Hold:
    return Hold(for_=timedelta(seconds=600))


@node(retry=RetryPolicy(max_attempts=9, initial_backoff=600, jitter=0))
async def fail(x: int) -> int:
    raise ValueError("not today")


class Wanted(Workflow[int, int], version="2"):
    start = work.named("wanted")


class Other(Workflow[int, int]):
    start = work.named("other")


class Holding(Workflow[int, int]):
    start = hold_on


class Failing(Workflow[int, int]):
    start = fail


def of(info: RunInfo) -> WaitInfo:
    (found,) = info.waits
    return found


async def test_a_run_that_nobody_can_begin_is_waiting_for_a_worker_with_its_node_since_it_was_parked(
    cluster: MakeCluster,
) -> None:
    here = cluster(Wanted, Other)
    await here.start_worker(workflows=[Other], queues=["default"])
    client = here.client()
    began = datetime.fromtimestamp(client.services.now_ms() / 1000, tz=UTC)
    await client.start(Wanted, 1, run_id="run")
    await asyncio.sleep(60)
    info = await client.run_info("run")
    wait = of(info)
    assert (info.status, await client.status("run")) == (RunStatus.WAITING, RunStatus.WAITING)
    assert (wait.status, wait.node, wait.items) == (WorkItemStatus.PARKED, "wanted", 1)
    assert wait.what == "a worker that has node 'wanted' of workflow 'Wanted' version '2'"
    assert wait.since is not None
    assert began <= wait.since < began + timedelta(seconds=30)
    assert wait.until is None
    (item,) = await client.pending_work("run")
    assert item.note == f"waits for {wait.what}"
    await here.start_worker(workflows=[Wanted])
    assert await client.wait("run", 30) is RunStatus.COMPLETED
    assert (await client.run_info("run")).waits == ()


async def test_a_run_of_which_nothing_but_the_first_item_is_parked_is_listed_as_waiting_and_not_as_pending(
    cluster: MakeCluster,
) -> None:
    here = cluster(Wanted, Other, Holding)
    await here.start_worker(workflows=[Other, Holding], queues=["default"])
    client = here.client()
    for n in range(3):
        await client.start(Wanted, n, run_id=f"parked-{n}")
        await client.start(Holding, n, run_id=f"held-{n}")
        await asyncio.sleep(5)
    both = {f"{kind}-{n}" for n in range(3) for kind in ("parked", "held")}
    assert {run.run_id for run in (await client.list_runs(status=RunStatus.WAITING, limit=100)).runs} == both
    assert (await client.list_runs(status=RunStatus.PENDING)).runs == []
    seen: list[str] = []
    cursor = ""
    while True:
        page = await client.list_runs(status=RunStatus.WAITING, limit=2, cursor=cursor)
        seen += [run.run_id for run in page.runs]
        assert all(run.waits for run in page.runs)
        cursor = page.next_cursor
        if not cursor:
            break
    assert len(seen) == 6
    assert set(seen) == both


async def test_a_hold_and_a_retry_say_when_they_go_on(cluster: MakeCluster) -> None:
    here = cluster(Holding, Failing)
    await here.start_worker()
    client = here.client()
    await client.start(Holding, 1, run_id="held")
    await client.start(Failing, 1, run_id="failing")
    await asyncio.sleep(5)
    held, failing = of(await client.run_info("held")), of(await client.run_info("failing"))
    assert (held.status, held.what) == (WorkItemStatus.HELD, "the end of the hold of node 'hold_on'")
    assert (failing.status, failing.what) == (WorkItemStatus.WAITING_RETRY, "the next try of node 'fail'")
    now = datetime.fromtimestamp(client.services.now_ms() / 1000, tz=UTC)
    for each in (held, failing):
        assert each.until is not None
        assert now < each.until <= now + timedelta(seconds=600)
        assert each.since is None


async def test_resuming_says_whether_there_was_anything_to_resume(cluster: MakeCluster) -> None:
    here = cluster(Holding)
    await here.start_worker()
    client = here.client()
    handle = await client.start(Holding, 1, run_id="run")
    await asyncio.sleep(5)
    assert await client.resume("run") is False
    await client.pause("run")
    assert await handle.resume() is True


async def test_what_a_run_is_told_to_be_when_it_cannot_be_deleted_is_what_its_status_says(cluster: MakeCluster) -> None:
    here = cluster(Holding)
    await here.start_worker()
    client = here.client()
    await client.start(Holding, 1, run_id="run")
    await asyncio.sleep(5)
    with pytest.raises(InvalidRunStateError, match="Cannot delete run 'run': it is waiting") as caught:
        await client.delete("run")
    assert caught.value.status == await client.status("run") == "waiting"
    assert "Cancel it first" in str(caught.value)
    await client.cancel("run")
    assert await client.delete("run") is True
    assert await client.delete("run") is False


async def test_what_many_runs_wait_for_is_read_in_few_round_trips() -> None:
    store = CountingStore()
    app = Floxide(store=store, workflows=[Holding])
    async with app.orchestrator() as client:
        await client.start_many(Holding, [Start(number) for number in range(100)])
        await asyncio.sleep(10)
        before = store.trips
        page = await client.list_runs(status=RunStatus.WAITING, limit=100)
        assert store.trips - before < 20
    assert [of(info).what for info in page.runs] == ["the end of the hold of node 'hold_on'"] * 100
