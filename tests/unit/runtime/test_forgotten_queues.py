"""Names of task queues that nobody needs any more are forgotten, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from floxide_amqp import Hold, Next, RunStatus, Schedule, Workflow, WorkflowCtx, node
from floxide_amqp.runtime import unserved
from floxide_amqp.stores import task_queues
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]

RENEWED, PRUNED = 20.0, 30.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are renewed and forgotten within minutes."""
    monkeypatch.setattr(task_queues, "RENEWED_AFTER_SECONDS", RENEWED)
    monkeypatch.setattr(unserved, "PRUNE_EVERY_SECONDS", PRUNED)


LONG_ENOUGH = task_queues.SPARED * RENEWED + 3 * PRUNED


def waiting(queue: str, seconds: float = 0) -> Any:
    """Releases of one workflow whose node is in different queues, and may wait for a while."""

    @node(queue=queue)
    async def work(ctx: WorkflowCtx, x: int) -> Next[int] | Hold:
        return Next(x) if ctx.timed_out or not seconds else Hold(for_=timedelta(seconds=seconds))

    class Waiting(Workflow[int, int]):
        start = work

    return Waiting


async def test_a_queue_that_nobody_uses_and_no_item_has_is_forgotten(
    cluster: MakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    before, after = waiting("old"), waiting("new")
    here = cluster(before)
    old = await here.start_worker()
    client = here.client()
    assert await (await client.start(before, 1)).result(60) == 1
    await old.stop()
    assert await client.services.task_queues.known() == ["old"]
    await here.start_worker(workflows=[after])
    while await client.services.task_queues.known() != ["new"]:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(5)

    await asyncio.sleep(LONG_ENOUGH)
    assert "task_queue.forgotten queue=old" in caplog.text
    assert caplog.text.count("task_queue.forgotten") == 1


async def test_a_queue_stays_as_long_as_a_worker_uses_or_serves_it(cluster: MakeCluster) -> None:
    here = cluster(waiting("used"))
    await here.start_worker(queues=["served"])
    await asyncio.sleep(LONG_ENOUGH)

    assert await here.client().services.task_queues.known() == ["served", "used"]


async def test_a_queue_stays_while_a_run_may_go_on_that_was_started_before_it_was_used_last(
    cluster: MakeCluster,
) -> None:
    before, after = waiting("old", seconds=250), waiting("new")
    here = cluster(before)
    old = await here.start_worker()
    client = here.client()
    run = await client.start(before, 1)
    while await run.status() is not RunStatus.WAITING:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    await old.stop()
    await here.start_worker(workflows=[after])
    await asyncio.sleep(LONG_ENOUGH)
    assert await client.services.task_queues.known() == ["new", "old"]

    assert await run.result(2_000) == 1, "its step woke up in the old queue, and was found there"
    while await client.services.task_queues.known() != ["new"]:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(5)


async def test_a_name_that_was_forgotten_while_a_worker_began_to_use_it_comes_back(cluster: MakeCluster) -> None:
    here = cluster(waiting("new"))
    await here.start_worker()
    store = here.client().services.task_queues
    while await store.known() != ["new"]:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    await store.forget("new")
    while await store.known() != ["new"]:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)


async def test_a_forgotten_queue_is_known_again_once_a_schedule_starts_a_run_in_it(cluster: MakeCluster) -> None:
    before, after = waiting("old"), waiting("new")
    here = cluster(before)
    old = await here.start_worker()
    client = here.client()
    await client.schedules.put(Schedule("rare", before, 1, every=timedelta(days=1)))
    await old.stop()

    class Other(Workflow[int, int]):
        start = waiting("others").start

    await here.start_worker(workflows=[Other])
    while "old" in await client.services.task_queues.known():  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(5)
    run_id = await client.schedules.trigger("rare")
    await here.start_worker(workflows=[after])

    assert await client.handle(before, run_id).result(600) == 1


async def test_what_was_noted_lately_is_not_written_again(cluster: MakeCluster) -> None:
    store = cluster(waiting("new")).client().services.task_queues
    await store.note(["a", "b"])
    commits = 0
    commit = store._session.commit

    async def count(batch: Any) -> Any:
        nonlocal commits
        commits += 1
        return await commit(batch)

    store._session.commit = count  # type: ignore[method-assign]
    await store.note(["a", "b"])
    assert commits == 0
    await asyncio.sleep(RENEWED)
    await store.note(["a"])
    assert commits == 1
    assert await store.known() == ["a", "b"]
