"""Labels: who runs what, that nothing on the way loses them, and what is said of work that nobody may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from floxide_amqp import (
    Hold,
    Next,
    NextAll,
    RetryPolicy,
    RunStatus,
    Workflow,
    WorkflowCtx,
    WorkItemStatus,
    gather,
    node,
)
from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.ports.work_queue import Message
from tests.unit.runtime.cluster import Cluster, Member

MakeCluster = Callable[..., Cluster]

RAN: dict[str, list[str]] = {}
"""Which worker ran which node, by run."""


def note(ctx: WorkflowCtx) -> None:
    RAN.setdefault(ctx.run_id, []).append(f"{ctx.node}@{ctx.worker_id}")


@node
async def load(ctx: WorkflowCtx, x: int) -> int:
    note(ctx)
    return x


@node(labels={"gpu"})
async def draw(ctx: WorkflowCtx, x: int) -> int:
    note(ctx)
    return x + 1


@node
async def store(ctx: WorkflowCtx, x: int) -> int:
    note(ctx)
    return x


@node(labels={"gpu"}, retry=RetryPolicy(max_attempts=3, initial_backoff=30, jitter=0))
async def draw_later(ctx: WorkflowCtx, x: int) -> int:
    note(ctx)
    if ctx.attempt < 3:
        raise ValueError("not yet")
    return x


@node(labels={"gpu"})
async def draw_after_a_hold(ctx: WorkflowCtx, x: int) -> Next[int] | Hold:
    note(ctx)
    return Next(x) if ctx.timed_out or len(RAN[ctx.run_id]) > 1 else Hold(for_=timedelta(seconds=50))


@node
async def split(x: int) -> NextAll[int]:
    return NextAll(range(x))


@node
async def add(xs: list[int]) -> int:
    return sum(xs)


class Picture(Workflow[int, int]):
    start = load
    edges = (load >> draw >> store,)


class Drawn(Workflow[int, int]):
    start = draw


class Retried(Workflow[int, int]):
    start = draw_later


class Held(Workflow[int, int]):
    start = draw_after_a_hold


class Many(Workflow[int, int]):
    start = split
    edges = (split >> draw >> gather(add),)


def moved(*, labels: set[str] | None, queue: str = "") -> Any:
    """Releases of one workflow that differ in where its node runs."""

    @node(labels=labels, queue=queue)
    async def work(ctx: WorkflowCtx, x: int) -> int:
        note(ctx)
        return x

    class Moved(Workflow[int, int]):
        start = work

    return Moved


def moved_hold(*, labels: set[str] | None) -> Any:
    @node(labels=labels)
    async def work(ctx: WorkflowCtx, x: int) -> Next[int] | Hold:
        note(ctx)
        return Next(x) if len(RAN[ctx.run_id]) > 1 else Hold(for_=timedelta(seconds=50))

    class MovedHold(Workflow[int, int]):
        start = work

    return MovedHold


async def unserved(member: Member) -> dict[str, int]:
    """Wait until a worker has found a task queue that nobody serves."""
    while not (found := member.worker.maintenance.unserved_since_ms):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    return found


async def test_each_step_runs_where_its_labels_are_and_the_run_goes_on_elsewhere(cluster: MakeCluster) -> None:
    here = cluster(Picture)
    await here.start_worker(labels=frozenset())
    gpu = await here.start_worker(labels={"gpu"}, only_labelled=True)
    client = here.client()
    run = await client.start(Picture, 1)

    assert await run.result(60) == 2
    assert RAN[run.run_id] == ["load@worker-1", f"draw@{gpu.name}", "store@worker-1"]


async def test_a_worker_that_serves_both_keeps_the_whole_chain(cluster: MakeCluster) -> None:
    here = cluster(Picture)
    await here.start_worker(labels={"gpu", "eu"})
    run = await here.client().start(Picture, 1)

    assert await run.result(60) == 2
    assert here.members[0].services.figures.publishes["confirmed"] == 0, "only the client published"


async def test_a_fan_out_of_labelled_steps_is_joined_elsewhere(cluster: MakeCluster) -> None:
    here = cluster(Many)
    await here.start_worker(labels=frozenset())
    await here.start_worker(labels={"gpu"}, only_labelled=True)
    run = await here.client().start(Many, 20)

    assert await run.result(60) == sum(range(20)) + 20
    assert {each.partition("@")[2] for each in RAN[run.run_id]} == {"worker-2"}


async def test_work_that_nobody_may_take_is_shown_with_its_labels_since_when_and_goes_on_with_such_a_worker(
    cluster: MakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    here = cluster(Drawn)
    plain = await here.start_worker(labels=frozenset())
    client = here.client()
    run = await client.start(Drawn, 1)
    begun_ms = client.services.now_ms()
    found = await unserved(plain)
    info = await client.run_info(run.run_id)

    (wait,) = info.waits
    assert wait.status is WorkItemStatus.PENDING
    assert wait.what == "a worker that serves task queue 'default' with label gpu to run node 'draw'"
    assert wait.since == datetime.fromtimestamp(begun_ms / 1000, UTC)
    assert found == {"default/gpu": begun_ms}
    assert "task_queue.unserved queue=default/gpu labels=gpu" in caplog.text

    await here.start_worker(labels={"gpu"})

    assert await run.result(60) == 2
    while plain.worker.maintenance.unserved_since_ms:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    assert caplog.text.count("task_queue.unserved") == 1


async def test_a_run_whose_steps_somebody_can_take_waits_for_nobody(cluster: MakeCluster) -> None:
    here = cluster(Drawn)
    member = await here.start_worker(labels={"gpu"})
    here.queue._queues.clear()
    run = await here.client().start(Drawn, 1)
    info = await here.client().run_info(run.run_id)

    assert info.waits == ()
    assert member.worker.maintenance.unserved_since_ms == {}


@pytest.mark.parametrize("is_durable", [True, False])
async def test_a_lost_message_comes_back_through_the_queue_of_its_labels(
    cluster: MakeCluster, is_durable: bool
) -> None:
    here = cluster(Drawn, is_durable=is_durable)
    await here.start_worker(labels=frozenset())
    run = await here.client().start(Drawn, 1)
    here.queue._queues["default/gpu"].clear()
    gpu = await here.start_worker(labels={"gpu"}, only_labelled=True)

    assert await run.result(120) == 2
    assert RAN[run.run_id] == [f"draw@{gpu.name}"]


@pytest.mark.parametrize("workflow", [Retried, Held])
async def test_timers_bring_a_step_back_to_its_labels(cluster: MakeCluster, workflow: Any) -> None:
    here = cluster(workflow)
    await here.start_worker(labels=frozenset())
    await here.start_worker(labels={"gpu"}, only_labelled=True)
    run = await here.client().start(workflow, 1)

    assert await run.result(600) == 1
    assert {each.partition("@")[2] for each in RAN[run.run_id]} == {"worker-2"}


async def test_a_dead_workers_step_goes_to_another_with_its_labels(cluster: MakeCluster) -> None:
    begun = asyncio.Event()

    @node(labels={"gpu"})
    async def hang_once(ctx: WorkflowCtx, x: int) -> int:
        note(ctx)
        if not begun.is_set():
            begun.set()
            await asyncio.sleep(10_000)
        return x

    class Hanging(Workflow[int, int]):
        start = hang_once

    here = cluster(Hanging)
    await here.start_worker(labels=frozenset())
    doomed = await here.start_worker(labels={"gpu"})
    run = await here.client().start(Hanging, 1)
    await begun.wait()
    await asyncio.sleep(30)  # virtual: the step is long, its message acknowledged
    await doomed.kill()
    other = await here.start_worker(labels={"gpu"}, only_labelled=True)

    assert await run.result(600) == 1
    assert RAN[run.run_id] == [f"hang_once@{doomed.name}", f"hang_once@{other.name}"]


async def test_a_second_copy_of_a_chains_message_does_not_take_a_step_to_where_its_labels_are_not(
    cluster: MakeCluster,
) -> None:
    begun = asyncio.Event()

    @node(labels={"gpu"})
    async def hang_once(ctx: WorkflowCtx, x: int) -> int:
        note(ctx)
        if not begun.is_set():
            begun.set()
            await asyncio.sleep(10_000)
        return x

    class Chained(Workflow[int, int]):
        start = load
        edges = (load >> hang_once,)

    here = cluster(Chained)
    doomed = await here.start_worker(labels={"gpu"})
    sent: list[Message] = []
    publish = here.queue.publish

    async def publish_and_keep(messages: Sequence[Message]) -> Any:
        sent.extend(messages)
        return await publish(messages)

    here.queue.publish = publish_and_keep  # type: ignore[method-assign]
    client = here.client()
    run = await client.start(Chained, 1)
    await begun.wait()
    await doomed.kill()
    plain = await here.start_worker(labels=frozenset())
    while [item.status for item in await client.pending_work(run.run_id)] != [WorkItemStatus.PENDING]:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    await publish(sent[:1])
    await asyncio.sleep(30)
    assert [each.partition("@")[2] for each in RAN[run.run_id]] == [doomed.name] * 2, f"not on {plain.name}"
    gpu = await here.start_worker(labels={"gpu"}, only_labelled=True)

    assert await run.result(60) == 1
    assert RAN[run.run_id][2:] == [f"hang_once@{gpu.name}"]


async def test_a_paused_run_comes_back_to_its_labels_when_it_is_resumed(cluster: MakeCluster) -> None:
    here = cluster(Drawn)
    await here.start_worker(labels=frozenset())
    client = here.client()
    run = await client.start(Drawn, 1)
    await client.pause(run.run_id)
    await here.start_worker(labels={"gpu"}, only_labelled=True)
    await asyncio.sleep(60)
    assert await run.status() is RunStatus.PAUSED
    await client.resume(run.run_id)

    assert await run.result(60) == 2


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (moved(labels={"gpu"}), moved(labels=None)),
        (moved(labels=None), moved(labels={"gpu"})),
        (moved(labels={"gpu"}), moved(labels={"ssd"}, queue="fast")),
        (moved(labels=None, queue="old"), moved(labels=None, queue="new")),
    ],
)
async def test_what_was_published_before_a_deploy_moved_its_node_goes_to_where_the_node_is_now(
    cluster: MakeCluster, before: Any, after: Any
) -> None:
    here = cluster(before)
    old = await here.start_worker(labels={"none"}, queues=["other"])  # it knows of the queue, and serves another
    run = await here.client().start(before, 1)
    while not old.worker.maintenance.unserved_since_ms:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    await old.stop()
    new = await here.start_worker(workflows=[after])

    assert await run.result(60) == 1
    assert RAN[run.run_id] == [f"work@{new.name}"]
    assert not here.store.leftovers("messages", "m:")


async def test_what_is_held_while_a_deploy_moves_its_node_goes_to_where_the_node_is_when_it_wakes(
    cluster: MakeCluster,
) -> None:
    before, after = moved_hold(labels={"gpu"}), moved_hold(labels=None)
    here = cluster(before)
    old = await here.start_worker()
    run = await here.client().start(before, 1)
    while await run.status() is not RunStatus.WAITING:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    await old.stop()
    new = await here.start_worker(workflows=[after])

    assert await run.result(600) == 1
    assert RAN[run.run_id] == [f"work@{old.name}", f"work@{new.name}"]


async def test_what_was_published_goes_on_in_the_old_queue_as_long_as_a_worker_serves_it(cluster: MakeCluster) -> None:
    before, after = moved(labels={"gpu"}), moved(labels=None)
    here = cluster(before)
    run = await here.client().start(before, 1)
    new = await here.start_worker(workflows=[after])
    old = await here.start_worker(workflows=[before])

    assert await run.result(60) == 1
    assert RAN[run.run_id] == [f"work@{old.name}"]
    assert new.worker.maintenance.unserved_since_ms == {}


async def test_an_item_is_not_moved_into_a_queue_that_nobody_serves_either(cluster: MakeCluster) -> None:
    before, after = moved(labels={"gpu"}), moved(labels={"ssd"})
    here = cluster(before)
    run = await here.client().start(before, 1)
    first = await here.start_worker(labels={"none"})
    second = await here.start_worker(workflows=[after], labels={"none"})
    await unserved(second)
    (item,) = await here.client().pending_work(run.run_id)

    assert item.queue == "default/gpu"
    assert "default/gpu" in first.worker.maintenance.unserved_since_ms


async def test_items_parked_in_a_queue_that_nobody_serves_any_more_are_taken_up_where_their_node_is_now(
    cluster: MakeCluster,
) -> None:
    before, after = moved(labels={"gpu"}), moved(labels=None)
    here = cluster(before, Drawn)
    lacking = await here.start_worker(workflows=[Drawn], labels={"gpu"})  # serves the queue, lacks the workflow
    run = await here.client().start(before, 1)
    while await run.status() is not RunStatus.WAITING:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    await lacking.stop()
    new = await here.start_worker(workflows=[after])

    assert await run.result(60) == 1
    assert RAN[run.run_id] == [f"work@{new.name}"]


async def test_a_worker_for_labelled_work_alone_that_would_serve_nothing_says_so(cluster: MakeCluster) -> None:
    here = cluster(Drawn)

    with pytest.raises(ConfigurationError, match=r"no task queue.*its labels are ssd.*default/gpu"):
        here.worker_of(labels={"ssd"}, only_labelled=True)


async def test_a_workers_record_tells_its_labels_and_queues(cluster: MakeCluster) -> None:
    here = cluster(Picture)
    await here.start_worker(labels={"gpu", "eu"})
    client = here.client()
    while not (found := await client.workers()):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    (info,) = found

    assert info.labels == ("eu", "gpu")
    assert info.queues == ("default", "default/gpu")
