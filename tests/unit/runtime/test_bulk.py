"""One action on many runs: which ones, how fast, and what becomes of those for which it cannot be done."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from floxide_amqp import ConfigurationError, RunFilter, RunStatus, Start, Workflow, node
from floxide_amqp.exceptions import InvalidRunStateError, StoreUnavailableError
from floxide_amqp.runtime import bulk
from floxide_amqp.runtime.bulk import BulkReport
from floxide_amqp.runtime.orchestrator import Orchestrator
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]


@node
async def pass_on(x: int) -> int:
    if x < 0:
        raise ValueError("negative")
    return x


class Passing(Workflow[int, int]):
    start = pass_on


class Other(Workflow[int, int]):
    start = pass_on


async def statuses(client: Orchestrator, workflow: str | None = "Passing") -> Counter[RunStatus]:
    return Counter(run.status for run in (await client.list_runs(workflow=workflow, limit=1_000)).runs)


async def started(client: Orchestrator, count: int, workflow: Any = Passing) -> None:
    name = workflow.__name__.lower()
    await client.start_many(workflow, [Start(n, run_id=f"{name}-{n}") for n in range(count)])


async def test_all_runs_that_are_meant_are_cancelled_and_no_others(cluster: MakeCluster) -> None:
    here = cluster(Passing, Other)
    client = here.client()
    await started(client, 60)
    await started(client, 3, Other)
    report = await client.cancel_many(RunFilter(workflow="Passing"), rate=10_000, by="ann", reason="wrong prices")
    assert (report.matched, report.done, report.unchanged, report.failed) == (60, 60, 0, 0)
    assert await statuses(client) == {RunStatus.CANCELLED: 60}
    assert await statuses(client, "Other") == {RunStatus.PENDING: 3}
    (noted,) = await client.audit_log("passing-7")
    assert (noted.action, noted.by, noted.reason) == ("cancel", "ann", "wrong prices")


async def test_repeating_it_goes_on_where_it_broke_off(cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    here = cluster(Passing)
    client = here.client()
    await started(client, 20)
    cancel = bulk._ACTIONS[bulk.BulkAction.CANCEL]
    calls = 0

    async def breaks_off(*args: Any) -> bool:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise RuntimeError("the power is off")
        return await cancel(*args)

    monkeypatch.setitem(bulk._ACTIONS, bulk.BulkAction.CANCEL, breaks_off)
    with pytest.raises(RuntimeError, match="the power is off"):
        await client.cancel_many(RunFilter(), rate=1_000)
    monkeypatch.undo()
    report = await client.cancel_many(RunFilter(), rate=1_000)
    assert (report.done, report.unchanged) == (15, 5)


async def test_the_rate_is_kept_and_progress_is_told(cluster: MakeCluster) -> None:
    here = cluster(Passing)
    client = here.client()
    await started(client, 30)
    loop, seen = asyncio.get_running_loop(), list[tuple[float, int]]()
    began = loop.time()
    report = await client.pause_many(
        RunFilter(status=RunStatus.PENDING), rate=2, on_progress=lambda so_far: seen.append((loop.time(), so_far.done))
    )
    assert report.done == 30
    assert loop.time() - began >= 29 / 2
    assert [done for _, done in seen] == list(range(1, 31))
    for at in range(1, 15):
        assert sum(1 for when, _ in seen if at <= when - began < at + 1) <= 2


async def test_runs_for_which_it_cannot_be_done_are_reported_and_keep_no_other_from_its_turn(
    cluster: MakeCluster,
) -> None:
    here = cluster(Passing)
    client = here.client()
    await started(client, 6)
    for number in (1, 4):
        await client.cancel(f"passing-{number}")
    report = await client.resume_many(RunFilter(workflow="Passing"))
    assert (report.matched, report.done, report.unchanged, report.failed) == (6, 0, 4, 2)
    assert {failure.run_id for failure in report.failures} == {"passing-1", "passing-4"}
    assert all(isinstance(failure.error, InvalidRunStateError) for failure in report.failures)


async def test_a_store_that_fails_one_run_is_a_failure_of_that_run(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = cluster(Passing)
    client = here.client()
    await started(client, 3)
    cancel = bulk._ACTIONS[bulk.BulkAction.CANCEL]

    async def fails_one(services: Any, run_id: str, request: Any) -> bool:
        if run_id == "passing-1":
            raise StoreUnavailableError(store="memory", reason="a test")
        return await cancel(services, run_id, request)  # type: ignore[arg-type]

    monkeypatch.setitem(bulk._ACTIONS, bulk.BulkAction.CANCEL, fails_one)
    report = await client.cancel_many(RunFilter())
    assert (report.done, [failure.run_id for failure in report.failures]) == (2, ["passing-1"])


async def test_a_store_that_cannot_list_the_runs_is_its_own_error(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = cluster(Passing).client()

    async def fails(*_: Any) -> AsyncGenerator[Any]:
        for error in (StoreUnavailableError(store="memory", reason="a test"),):
            raise error
        yield

    monkeypatch.setattr(bulk, "all_runs", fails)
    with pytest.raises(StoreUnavailableError):
        await client.cancel_many(RunFilter())


async def test_failed_runs_are_retried_ended_ones_deleted_and_the_rest_terminated(cluster: MakeCluster) -> None:
    here = cluster(Passing)
    await here.start_worker()
    client = here.client()
    for number in range(3):
        handle = await client.start(Passing, -1, run_id=f"failing-{number}")
        assert await handle.wait(60) is RunStatus.FAILED
    assert (await client.retry_many(RunFilter(status=RunStatus.FAILED))).done == 3
    for number in range(3):
        assert await client.wait(f"failing-{number}", 60) is RunStatus.FAILED
    assert (await client.delete_many(RunFilter(status=RunStatus.FAILED))).done == 3
    assert await statuses(client) == {}
    for member in here.members:
        await member.stop()
    await started(client, 2)
    assert (await client.terminate_many(RunFilter())).done == 2


async def test_a_rehearsal_only_counts(cluster: MakeCluster) -> None:
    here = cluster(Passing)
    client = here.client()
    await started(client, 4)
    assert await client.cancel_many(RunFilter(), is_rehearsal=True) == BulkReport(matched=4)
    assert await statuses(client) == {RunStatus.PENDING: 4}


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
async def test_a_rate_that_is_none_is_refused(cluster: MakeCluster, rate: float) -> None:
    with pytest.raises(ConfigurationError, match="runs per second"):
        await cluster(Passing).client().cancel_many(RunFilter(), rate=rate)
