"""Faults of a whole deployment: leaders that die or are two, workers too slow, people who look all the time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import pytest

from floxide_amqp import Context, NextAll, RunStatus, Sum, Workflow, WorkflowCtx, gather, node
from floxide_amqp.exceptions import RunNotFoundError, StoreUnavailableError
from floxide_amqp.ports.key_value import Batch, Enter
from floxide_amqp.runtime.lease import Lease
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.runtime.start import Start
from floxide_amqp.testing.queue_faults import QueueFaults
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]
SIZE = 6


class Notes(Context):
    worked: Annotated[int, Sum()] = 0


class AtWork:
    """How many bodies are at work at once."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.bodies = 0

    @contextlib.contextmanager
    def one_more(self) -> Any:
        self.now, self.bodies = self.now + 1, self.bodies + 1
        self.most = max(self.most, self.now)
        yield
        self.now -= 1


def squares(at_work: AtWork, seconds: float = 0.1, size: int = SIZE) -> Any:
    @node
    async def split(x: int) -> NextAll[int]:
        return NextAll(range(size))

    @node
    async def work(ctx: WorkflowCtx[Notes], x: int) -> int:
        with at_work.one_more():
            await asyncio.sleep(seconds)
        ctx.state.worked += 1
        return x * x

    @node
    async def add(xs: list[int]) -> int:
        return sum(xs)

    class Squares(Workflow[int, int, Notes]):
        start = split
        edges = (split >> work >> gather(add),)

    return Squares


@pytest.mark.fault(5)
@pytest.mark.parametrize("is_before_commit", [True, False])
async def test_a_leader_that_dies_while_it_republishes_is_followed_by_one_that_does(
    cluster: MakeCluster, is_before_commit: bool
) -> None:
    workflow = squares(AtWork())
    here = cluster(workflow)
    leader = await here.start_worker(queues=["elsewhere"])  # it leads, and has no work of its own
    await asyncio.sleep(3)
    assert leader.worker.maintenance.is_leader
    died = asyncio.Event()

    async def die(batches: Sequence[Batch]) -> None:
        writes = [write for batch in batches for write in batch.writes]
        if any(isinstance(write, Enter) and write.index.startswith("messages:") for write in writes):
            await leader.kill()
            died.set()
            if is_before_commit:
                raise StoreUnavailableError(store="faulty", reason="its process is dead")

    if is_before_commit:
        leader.store.before_commit = die
    else:
        leader.store.after_commit = die
    client = here.client()
    queue: Any = client.services.queue
    queue.faults = QueueFaults(dropped=1.0)
    handles = await client.start_many(workflow, [Start(1, run_id=f"run-{n}") for n in range(5)])
    worker = await here.start_worker(queues=["default"])
    worker.store.before_commit = leader.store.before_commit  # whoever republishes first dies of it
    worker.store.after_commit = leader.store.after_commit
    await asyncio.wait_for(died.wait(), 60)
    worker.store.before_commit = worker.store.after_commit = _pass
    await here.start_worker()
    assert [await handle.result(120) for handle in handles] == [55] * 5
    for handle in handles:
        await here.check_completed(handle.run_id)


@pytest.mark.fault(52)
async def test_any_number_of_leaders_do_no_harm(cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease saves work and nothing else: here everybody has it."""

    async def always(self: Lease) -> bool:
        return True

    monkeypatch.setattr(Lease, "take", always)
    at_work = AtWork()
    workflow = squares(at_work)
    here = cluster(workflow, queue_faults=QueueFaults(dropped=0.3, duplicated=0.2))
    members = [await here.start_worker() for _ in range(3)]
    client = here.client()
    handles = await client.start_many(workflow, [Start(1, run_id=f"run-{n}") for n in range(10)])
    await asyncio.sleep(0.15)
    await members[0].kill()
    await here.start_worker()
    await asyncio.sleep(30)
    here.end_faults()
    assert [await handle.result(200) for handle in handles] == [55] * 10
    for handle in handles:
        await here.check_completed(handle.run_id)
        assert (await client.context(workflow, handle.run_id)).worked == SIZE


@pytest.mark.fault(58)
async def test_what_piles_up_waits_in_the_queue_and_nothing_of_it_is_published_twice(cluster: MakeCluster) -> None:
    at_work = AtWork()
    workflow = squares(at_work, seconds=4.0, size=20)
    here = cluster(workflow, limits=Limits(concurrency=2))
    member = await here.start_worker()
    handles = await here.client().start_many(workflow, [Start(1, run_id=f"run-{n}") for n in range(10)])
    assert {await handle.wait(10_000) for handle in handles} == {RunStatus.COMPLETED}
    assert at_work.most == 2
    assert at_work.bodies == 10 * 20
    assert member.services.figures.republished == 0


@pytest.mark.fault(60)
async def test_people_who_look_all_the_time_see_what_is_so_and_hold_nobody_up(cluster: MakeCluster) -> None:
    at_work = AtWork()
    workflow = squares(at_work)
    here = cluster(workflow, queue_faults=QueueFaults(dropped=0.05, duplicated=0.2))
    members = [await here.start_worker() for _ in range(2)]
    client = here.client()
    looks = 0

    async def look(orchestrator: Orchestrator) -> None:
        nonlocal looks
        before: dict[str, int] = {}
        while True:
            for run in (await orchestrator.list_runs()).runs:
                with contextlib.suppress(RunNotFoundError):
                    worked = (await orchestrator.context(workflow, run.run_id)).worked
                    assert before.get(run.run_id, 0) <= worked <= SIZE
                    before[run.run_id] = worked
                    metrics = await orchestrator.metrics(run.run_id)
                    ended = len(await orchestrator.work_items(run.run_id, limit=1_000))
                    assert ended <= SIZE + 2
                    assert metrics.live_items >= 0
                    await orchestrator.pending_work(run.run_id)
                    await orchestrator.errors(run.run_id)
            await orchestrator.workers()
            await orchestrator.quarantine()
            looks += 1
            await asyncio.sleep(0.2)

    people = [asyncio.create_task(look(here.client())) for _ in range(2)]
    handles = await client.start_many(workflow, [Start(1, run_id=f"run-{n}") for n in range(10)])
    await asyncio.sleep(0.15)
    await members[0].kill()
    await here.start_worker()
    assert [await handle.result(200) for handle in handles] == [55] * 10
    assert [person.exception() for person in people if person.done()] == []
    assert looks > 20
    for person in people:
        person.cancel()


async def _pass(batches: Sequence[Batch]) -> None:
    """Do nothing in between."""
