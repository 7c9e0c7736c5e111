"""Workers: what they know of their own steps, and what one broken thing may not break for the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

import pytest

from floxide_amqp import Context, Hold, NextAll, RunStatus, Sum, Workflow, WorkflowCtx, WorkItemStatus, gather, node
from floxide_amqp.core import publish_moves
from floxide_amqp.core.decisions import Outgoing
from floxide_amqp.core.ids import RunId, WorkItemId, slot_of
from floxide_amqp.core.place_changes import SetTimer
from floxide_amqp.core.timers import Timer, TimerKind
from floxide_amqp.ports.key_value import Batch, Cell
from floxide_amqp.ports.work_queue import PublishOutcome
from floxide_amqp.runtime import parked
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.runtime.start import Start
from floxide_amqp.stores import keys
from floxide_amqp.stores.writes import BatchWriter
from floxide_amqp.testing.faults import StoreFaults
from floxide_amqp.testing.queue_faults import QueueFaults
from tests.unit.runtime.cluster import QUICK, Cluster
from tests.unit.runtime.waiting_steps import two_steps

MakeCluster = Callable[..., Cluster]


class Notes(Context):
    total: Annotated[int, Sum()] = 0


def counting(**options: Any) -> Any:
    @node(**options)
    async def counts(ctx: WorkflowCtx[Notes], x: int) -> int:
        await asyncio.sleep(0.1)
        ctx.state.total += x
        return x

    class Counting(Workflow[int, int, Notes]):
        start = counts
        edges = ()

    return Counting


async def test_a_worker_that_remembers_few_runs_still_gives_each_step_its_context(cluster: MakeCluster) -> None:
    workflow = counting(at_most_once=True)
    here = cluster(workflow, limits=Limits(concurrency=50, cached_runs=1))
    member = await here.start_worker()
    member.store.faults = StoreFaults(delayed=1.0)
    client = here.client()
    handles = await client.start_many(workflow, [Start(n, run_id=f"run-{n}") for n in range(30)])
    assert [await handle.wait(30) for handle in handles] == [RunStatus.COMPLETED] * 30
    assert (await client.context(workflow, "run-7")).total == 7


async def test_two_copies_of_a_message_in_one_worker_are_counted_and_cancelled_both(cluster: MakeCluster) -> None:
    begun: list[int] = []
    cancelled: list[int] = []

    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll([1, 2, 3])

    @node(queue="parts")
    async def part(x: int) -> int:
        begun.append(x)
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(x)
            raise
        return x

    @node
    async def joined(xs: list[int]) -> int:
        return sum(xs)

    class Waiting(Workflow[int, int]):
        start = split
        edges = (split >> part >> gather(joined),)

    here = cluster(Waiting)
    splitting = await here.start_worker(queues=["default"])
    splitting.queue.faults = QueueFaults(duplicated=1.0)
    member = await here.start_worker(queues=["parts"])
    member.store.faults = StoreFaults(delayed=1.0)
    handle = await here.client().start(Waiting, 1, run_id="run")
    await asyncio.sleep(1)
    assert len(begun) > 3
    assert len(member.services.inflight) == len(begun)
    await handle.cancel()
    await asyncio.sleep(1)
    assert len(cancelled) == len(begun)
    assert len(member.services.inflight) == 0
    assert member.worker.health().in_flight == 0


async def test_one_record_nobody_can_read_does_not_keep_maintenance_from_the_rest(cluster: MakeCluster) -> None:
    @node
    async def naps(ctx: WorkflowCtx[Notes], x: int) -> int | Hold:
        if ctx.attempt == 1 and not seen:
            seen.append(x)
            return Hold(for_=timedelta(seconds=30))
        return x

    class Napping(Workflow[int, int, Notes]):
        start = naps
        edges = ()

    seen: list[int] = []
    here = cluster(Napping)
    client = here.client()
    for run_id in ("broken", "fine"):
        await client.start(Napping, 1, run_id=run_id)
        if run_id == "broken":
            session = client.services.session
            broken = WorkItemId("broken-item")
            writer = BatchWriter(RunId(run_id), 0)
            timer = Timer(due_ms=session.now_ms(), run_id=RunId(run_id), item_id=broken, kind=TimerKind.RETRY, turn=1)
            await session.commit(writer.batch((), (SetTimer(timer),)))
            here.store._slots[slot_of(RunId(run_id))].cells[keys.item(RunId(run_id), broken)] = Cell(1, b"\xc1")
    queue = here.queue._queues["default"]
    queue.clear()  # both messages are lost, and only maintenance finds that out
    await here.start_worker()
    assert await client.wait("fine", 100) is RunStatus.COMPLETED
    assert await client.wait("broken", 100) is RunStatus.FAILED  # it names the record; the rest goes on


async def test_an_item_whose_context_nobody_can_merge_is_set_aside_instead_of_trying_for_ever(
    cluster: MakeCluster,
) -> None:
    class Picky:
        def diff(self, before: int, after: int) -> int | None:
            return after - before or None

        def merge(self, base: int, delta: int) -> int:
            if delta == 13:
                raise ZeroDivisionError("unlucky")
            return base + delta

    class Unlucky(Context):
        total: Annotated[int, Picky()] = 0

    @node
    async def adds(ctx: WorkflowCtx[Unlucky], x: int) -> int:
        ctx.state.total += x
        return x

    @node
    async def more(ctx: WorkflowCtx[Unlucky], x: int) -> int:
        return x + ctx.state.total

    class Adding(Workflow[int, int, Unlucky]):
        start = adds
        edges = (adds >> more,)

    here = cluster(Adding)
    member = await here.start_worker()
    client = here.client()
    assert await (await client.start(Adding, 1, run_id="lucky")).result(10) == 2
    handle = await client.start(Adding, 13, run_id="run")
    await asyncio.sleep(60)
    (item,) = await client.set_aside.list()
    assert "ZeroDivisionError: unlucky" in item.reason
    assert await handle.status() is RunStatus.WAITING
    assert member.worker.health().error_count < 5


async def test_a_broker_that_confirms_nothing_for_an_hour_leaves_one_entry_and_few_messages_per_item(
    cluster: MakeCluster,
) -> None:
    workflow = counting()
    here = cluster(workflow)
    member = await here.start_worker()
    client = here.client()
    lost: Any = client.services.queue
    lost.faults = QueueFaults(dropped=1.0)
    handle = await client.start(workflow, 1, run_id="run")

    async def nothing_is_confirmed(messages: Sequence[Any]) -> list[Any]:
        return [PublishOutcome.UNKNOWN for _ in messages]

    publish = member.queue.publish
    member.queue.publish = nothing_is_confirmed  # type: ignore[method-assign]
    services = client.services
    run = await services.runs.load(RunId("run"))
    found = (await services.items.find(RunId("run"), (run.header.start_item,)))[0]
    assert found is not None
    due = services.now_ms() + 1000
    (entry,) = here.store.leftovers("messages:")["messages:default"]
    out = Outgoing(found.item, found.turn, entry)
    await services.commit(run.writer, publish_moves.repeat_publish(out, due, run.header, services.name))
    await asyncio.sleep(3600)
    assert len(here.store.leftovers("messages:")["messages:default"]) == 1
    member.queue.publish = publish  # type: ignore[method-assign]
    before = len(member.queue.published)
    assert await handle.result(60) == 1
    assert len([m for m in member.queue.published[before:] if m.correlation_id]) <= 3
    await here.check_completed("run")


async def test_an_owner_entry_for_a_worker_that_says_goodbye_just_then_is_found(cluster: MakeCluster) -> None:
    """A worker about to leave is named as owner by another that still holds it for alive."""
    workflow, second = two_steps()
    here = cluster(workflow, timeouts=replace(QUICK, drain=1.0))
    leaving = await here.start_worker()
    handle = await here.client().start(workflow, 3, run_id="run")
    await second.begun.wait()
    staying = await here.start_worker()
    await asyncio.sleep(0.5)
    hesitated = asyncio.Event()
    may_anchor = asyncio.Event()

    async def hesitate(batches: Sequence[Batch]) -> None:
        if any(keys.owned(leaving.name) in str(batch.writes) for batch in batches) and not may_anchor.is_set():
            hesitated.set()
            await may_anchor.wait()

    staying.store.before_commit = hesitate
    await leaving.stop()
    assert hesitated.is_set()
    may_anchor.set()
    second.go.set()
    assert await handle.result(60) == 3
    await here.check_completed("run")


async def test_what_was_at_work_beside_a_poisonous_item_is_not_taken_for_poison(cluster: MakeCluster) -> None:
    began: asyncio.Queue[str] = asyncio.Queue()
    go = asyncio.Event()

    @node
    async def works(ctx: WorkflowCtx[Notes], x: int) -> int:
        if x == 0:
            await asyncio.sleep(0.5)
            began.put_nowait(ctx.worker_id)
        await go.wait()
        return x

    class Working(Workflow[int, int, Notes]):
        start = works
        edges = ()

    here = cluster(Working)
    member = await here.start_worker()
    client = here.client()
    handles = await client.start_many(Working, [Start(n, run_id=f"run-{n}") for n in range(6)])
    poison, *others = handles
    while await poison.status() is not RunStatus.FAILED:
        try:
            await asyncio.wait_for(began.get(), 5)
        except TimeoutError:
            continue
        await member.kill()
        member = await here.start_worker()
    assert (await client.errors("run-0"))[0].error_type == "PoisonError"
    go.set()
    assert [await handle.wait(120) for handle in others] == [RunStatus.COMPLETED] * 5


@pytest.mark.parametrize("seconds", [0.0, QUICK.early_acknowledge + 1])
async def test_the_deaths_of_processes_that_bear_one_name_are_counted(cluster: MakeCluster, seconds: float) -> None:
    """A container that is restarted keeps its name, and what it died on last time is still its own."""
    began = asyncio.Event()

    @node
    async def kills(x: int) -> int:
        began.set()
        await asyncio.sleep(1000)
        return x

    class Killing(Workflow[int, int]):
        start = kills
        edges = ()

    here = cluster(Killing)
    handle = await here.client().start(Killing, 1, run_id="run")
    for _ in range(8):
        here._count = 100  # the name of the next worker follows from it
        began.clear()
        member = await here.start_worker()
        await asyncio.wait({asyncio.ensure_future(began.wait())}, timeout=30)
        if await handle.status() is RunStatus.FAILED:
            break
        await asyncio.sleep(seconds)
        await member.kill()
    here._count = 200
    assert await handle.wait(5) is RunStatus.FAILED
    assert (await here.client().errors("run"))[0].error_type == "PoisonError"


async def test_parked_items_that_nobody_has_the_node_of_do_not_hide_those_behind_them(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    @node
    async def old(x: int) -> int:
        return x

    @node
    async def new(x: int) -> int:
        return x

    class Before(Workflow[int, int], name="Same"):
        start = old
        edges = ()

    class After(Workflow[int, int], name="Same"):
        start = new
        edges = ()

    class Other(Workflow[int, int], name="Other"):
        start = old
        edges = ()

    monkeypatch.setattr(parked, "KINDS_PER_ROUND", 1)
    here = cluster(After)
    client = here.client()
    await client.start_many(Before, [Start(n, run_id=f"before-{n}") for n in range(10)])
    handles = await client.start_many(After, [Start(n, run_id=f"after-{n}") for n in range(10)])
    parking = await here.start_worker(workflows=[Other], queues=["default"])
    await asyncio.sleep(10)
    await parking.stop()
    await here.start_worker()
    assert [await handle.wait(60) for handle in handles] == [RunStatus.COMPLETED] * 10
    assert {item.status for item in await client.pending_work("before-0")} == {WorkItemStatus.PARKED}
