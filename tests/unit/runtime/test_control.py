"""Cancel, pause, resume and start, with steps in flight and with processes that die in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import pytest

from floxide_amqp import (
    Context,
    Hold,
    NextAll,
    RetryPolicy,
    RunCancelledError,
    RunConflictError,
    RunFailedError,
    RunStatus,
    Sum,
    Workflow,
    WorkflowCtx,
    WorkItemStatus,
    gather,
    node,
)
from floxide_amqp.exceptions import CommitOutcomeUnknownError, InvalidRunStateError
from floxide_amqp.runtime.messages import ControlKind
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]


class Notes(Context):
    total: Annotated[int, Sum()] = 0


class Probe:
    """What the steps of a test share with it."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.bodies = 0
        self.cancelled = 0


def gated(probe: Probe, **options: Any) -> Any:
    """A workflow of two steps; the first waits until it is let go."""

    @node
    async def first(ctx: WorkflowCtx[Notes], x: int) -> int:
        probe.bodies += 1
        ctx.state.total += 1
        probe.begun.set()
        try:
            await probe.go.wait()
        except asyncio.CancelledError:
            probe.cancelled += 1
            raise
        return x + 1

    @node
    async def second(ctx: WorkflowCtx[Notes], x: int) -> int:
        ctx.state.total += 1
        return x + 1

    class Gated(Workflow[int, int, Notes], **options):
        start = first
        edges = (first >> second,)

    return Gated


async def begun(cluster: Cluster, workflow: Any, probe: Probe) -> Any:
    await cluster.start_worker()
    handle = await cluster.client().start(workflow, 1, run_id="run")
    await probe.begun.wait()
    return handle


async def test_cancel_reaches_a_step_in_flight_and_refuses_what_comes_late(cluster: MakeCluster) -> None:
    probe = Probe()
    here = cluster(gated(probe))
    handle = await begun(here, here.workflows[0], probe)
    assert await handle.cancel("enough")
    await asyncio.sleep(1)
    assert probe.cancelled == 1
    with pytest.raises(RunCancelledError, match="enough"):
        await handle.result(1)
    assert await here.history("run") == []
    assert (await here.client().context(here.workflows[0], "run")).total == 0
    assert here.store.leftovers("messages:", "owned:") == {}
    assert await handle.cancel() is False


async def test_a_cancel_whose_hint_is_lost_refuses_the_commit_all_the_same(cluster: MakeCluster) -> None:
    probe = Probe()
    here = cluster(gated(probe))
    handle = await begun(here, here.workflows[0], probe)
    listeners, here.bus._listeners = here.bus._listeners, set()
    await handle.cancel()
    here.bus._listeners = listeners
    probe.go.set()
    await asyncio.sleep(1)
    assert await here.history("run") == []
    assert await handle.status() is RunStatus.CANCELLED


async def test_a_cancel_whose_hint_is_lost_is_learnt_at_the_next_heartbeat(cluster: MakeCluster) -> None:
    probe = Probe()
    here = cluster(gated(probe))
    handle = await begun(here, here.workflows[0], probe)
    listeners, here.bus._listeners = here.bus._listeners, set()
    await handle.cancel()
    here.bus._listeners = listeners
    await asyncio.sleep(3 * here.timeouts.heartbeat)
    assert probe.cancelled == 1


async def test_a_cancel_whose_reply_was_lost_still_says_so_and_reaches_the_workers(cluster: MakeCluster) -> None:
    probe = Probe()
    here = cluster(gated(probe))
    handle = await begun(here, here.workflows[0], probe)
    client = here.client()
    store: Any = client.services.session._store
    store.lose_next_replies()
    assert await client.cancel("run") is True
    await asyncio.sleep(0.5)
    assert probe.cancelled == 1
    assert await handle.status() is RunStatus.CANCELLED


async def test_a_node_cancels_its_own_run_and_may_clean_up(cluster: MakeCluster) -> None:
    cleaned: list[bool] = []

    @node
    async def gives_up(ctx: WorkflowCtx[Notes], x: int) -> int:
        await ctx.cancel()
        await asyncio.sleep(1)
        cleaned.append(ctx.is_cancelled)
        return x

    class Own(Workflow[int, int, Notes]):
        start = gives_up
        edges = ()

    here = cluster(Own)
    await here.start_worker()
    handle = await here.client().start(Own, 1, run_id="run")
    with pytest.raises(RunCancelledError):
        await handle.result(10)
    await asyncio.sleep(2)
    assert cleaned == [True]


async def test_pause_commits_what_is_in_flight_and_publishes_nothing_until_resume(cluster: MakeCluster) -> None:
    probe = Probe()
    here = cluster(gated(probe))
    handle = await begun(here, here.workflows[0], probe)
    await handle.pause("lunch")
    probe.go.set()
    await asyncio.sleep(30)
    assert [entry.node for entry in await here.history("run")] == ["first"]
    assert [item.status for item in await here.client().pending_work("run")] == [WorkItemStatus.PENDING]
    assert here.store.leftovers("messages:", "owned:", "timers") == {}
    assert await handle.status() is RunStatus.PAUSED
    await handle.resume()
    assert await handle.result(30) == 3
    assert probe.bodies == 1
    await here.check_completed("run")


async def test_a_step_that_outlasts_pause_and_resume_is_committed(cluster: MakeCluster) -> None:
    probe = Probe()
    here = cluster(gated(probe))
    handle = await begun(here, here.workflows[0], probe)
    await handle.pause()
    await handle.resume()
    await asyncio.sleep(1)
    probe.go.set()
    assert await handle.result(30) == 3
    assert probe.bodies == 1
    await here.check_completed("run")


async def test_what_a_worker_held_when_it_died_during_a_pause_goes_on_after_resume(cluster: MakeCluster) -> None:
    probe = Probe()

    @node
    async def quick(x: int) -> int:
        return x

    @node
    async def held(x: int) -> int:
        probe.bodies += 1
        probe.begun.set()
        await probe.go.wait()
        return x

    class Kept(Workflow[int, int]):
        start = quick
        edges = (quick >> held,)

    here = cluster(Kept)
    victim = await here.start_worker()
    handle = await here.client().start(Kept, 1, run_id="run")
    await probe.begun.wait()
    await handle.pause()
    await victim.kill()
    await here.start_worker()
    await asyncio.sleep(60)
    probe.go.set()
    await handle.resume()
    assert await handle.result(60) == 1
    await here.check_completed("run")


async def test_a_run_goes_on_although_who_resumed_it_died_right_after_the_first_commit(cluster: MakeCluster) -> None:
    probe = Probe()
    here = cluster(gated(probe))
    handle = await begun(here, here.workflows[0], probe)
    await handle.pause()
    probe.go.set()
    await asyncio.sleep(20)
    dying = here.client()
    store: Any = dying.services.session._store

    async def cut(batches: Any) -> None:
        store.cut()

    store.after_commit = cut
    dying.services.session._patience = 0.0
    with pytest.raises(CommitOutcomeUnknownError):
        await dying.resume("run")
    assert await handle.status() is RunStatus.RUNNING
    assert await handle.result(120) == 3
    await here.check_completed("run")


async def test_resuming_a_failed_run_tries_the_failed_item_again_from_its_first_attempt(cluster: MakeCluster) -> None:
    works, attempts = asyncio.Event(), []

    @node(retry=RetryPolicy(max_attempts=2, initial_backoff=0.1))
    async def depends(ctx: WorkflowCtx[Notes], x: int) -> int:
        attempts.append(ctx.attempt)
        ctx.state.total += 1
        if not works.is_set():
            raise ConnectionError("down")
        return x

    class Depends(Workflow[int, int, Notes]):
        start = depends
        edges = ()

    here = cluster(Depends)
    await here.start_worker()
    handle = await here.client().start(Depends, 7, run_id="run")
    with pytest.raises(RunFailedError, match="down"):
        await handle.result(30)
    works.set()
    await handle.resume()
    assert await handle.result(30) == 7
    assert attempts == [1, 2, 1]
    assert (await here.client().context(Depends, "run")).total == 1
    await here.check_completed("run")


async def test_resuming_a_failed_run_takes_along_what_waited_held_was_parked_or_in_hand(cluster: MakeCluster) -> None:
    works = asyncio.Event()

    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll(range(5))

    @node(retry=RetryPolicy(max_attempts=9, initial_backoff=1000.0, max_backoff=1000.0))
    async def vary(ctx: WorkflowCtx[Notes], x: int) -> int | Hold:
        if works.is_set():
            return x
        await ctx.sleep(x * 0.1)
        if x == 0:
            raise ConnectionError("waits for its retry")
        if x == 1:
            return Hold(for_=1000.0)
        if x == 2:
            await asyncio.sleep(500)
        if x == 3:
            await asyncio.sleep(0)
        return x

    @node(queue="breaking")
    async def breaks(x: int) -> int:
        if not works.is_set():
            raise ValueError("fails the run")
        return x

    @node
    async def sum_up(xs: list[int]) -> int:
        return sum(xs)

    class Mixed(Workflow[int, int, Notes]):
        start = split
        edges = (split >> vary >> breaks >> gather(sum_up),)

    here = cluster(Mixed)
    await here.start_worker()
    handle = await here.client().start(Mixed, 1, run_id="run")
    with pytest.raises(RunFailedError, match="fails the run"):
        await handle.result(30)
    await asyncio.sleep(5)
    works.set()
    await handle.resume()
    assert await handle.result(100) == 10
    await here.check_completed("run")


async def test_an_item_parked_when_its_run_failed_is_taken_after_resume(cluster: MakeCluster) -> None:
    works = asyncio.Event()

    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll([0, 1])

    @node
    async def one(x: int) -> int:
        await asyncio.sleep(10)
        if not works.is_set():
            raise ValueError("broken")
        return x

    @node(queue="strange")
    async def two(x: int) -> int:
        return x

    @node
    async def sum_up(xs: list[int]) -> int:
        return sum(xs)

    class Parking(Workflow[int, int]):
        start = split
        edges = (
            split.when(lambda x: x == 0) >> one >> gather(sum_up),
            split.otherwise >> two >> gather(sum_up),
        )

    here = cluster(Parking)
    await here.start_worker(queues=["default"])
    stranger = await here.start_worker(workflows=[gated(Probe())], queues=["strange"])
    handle = await here.client().start(Parking, 1, run_id="run")
    await asyncio.sleep(2)
    assert WorkItemStatus.PARKED in {item.status for item in await here.client().pending_work("run")}
    with pytest.raises(RunFailedError):
        await handle.result(30)
    await stranger.stop()
    await here.start_worker(queues=["strange"])
    await asyncio.sleep(10)
    works.set()
    await handle.resume()
    assert await handle.result(60) == 1
    await here.check_completed("run")


async def test_a_completed_run_can_be_neither_paused_nor_resumed(cluster: MakeCluster) -> None:
    probe = Probe()
    probe.go.set()
    here = cluster(gated(probe))
    handle = await begun(here, here.workflows[0], probe)
    await handle.result(10)
    with pytest.raises(InvalidRunStateError, match="pause"):
        await handle.pause()
    with pytest.raises(InvalidRunStateError, match="resume"):
        await handle.resume()


async def test_starting_again_returns_the_same_run_and_with_other_input_it_is_a_conflict(cluster: MakeCluster) -> None:
    probe = Probe()
    probe.go.set()
    here = cluster(gated(probe))
    handle = await begun(here, here.workflows[0], probe)
    client = here.client()
    again = await client.start(here.workflows[0], 1, run_id="run")
    assert await again.result(10) == await handle.result(10) == 3
    assert probe.bodies == 1
    with pytest.raises(RunConflictError, match="input"):
        await client.start(here.workflows[0], 2, run_id="run")


async def test_a_start_whose_reply_was_lost_sends_its_message(cluster: MakeCluster) -> None:
    probe = Probe()
    probe.go.set()
    here = cluster(gated(probe))
    await here.start_worker()
    client = here.client()
    store: Any = client.services.session._store
    store.lose_next_replies()
    handle = await client.start(here.workflows[0], 1, run_id="run")
    assert await handle.result(2) == 3


async def test_starting_again_sends_the_message_that_the_first_start_never_sent(cluster: MakeCluster) -> None:
    probe = Probe()
    probe.go.set()
    here = cluster(gated(probe), is_durable=False)
    await here.start_worker()
    dying = here.client()
    queue: Any = dying.services.queue
    await queue.cut()
    await dying.start(here.workflows[0], 1, run_id="run")
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    assert await handle.result(1) == 3
    await here.check_completed("run")


async def test_a_hint_from_before_a_resume_disturbs_no_step(cluster: MakeCluster) -> None:
    probe = Probe()
    here = cluster(gated(probe))
    handle = await begun(here, here.workflows[0], probe)
    await here.client().services.broadcast(ControlKind.STOP, handle.run_id)
    await asyncio.sleep(0.5)
    probe.go.set()
    assert await handle.result(30) == 3
    assert (probe.cancelled, probe.bodies) == (0, 1)
    await here.check_completed("run")
