"""What the simulation found, told again as one short story each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from floxide_amqp import BatchNode, GraphBuilder, RetryPolicy, node
from floxide_amqp.core.decisions import Outgoing
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.place_changes import LeaveMessage
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.publishing import message_of
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.stores.writes import BatchWriter
from floxide_amqp.testing.queue_faults import QueueFaults
from floxide_amqp.testing.simulation.cluster import Settings, Simulation
from tests.unit.runtime.cluster import QUICK, Cluster, Member


@node
async def double(x: int) -> int:
    return 2 * x


Doubling = GraphBuilder(double, output=int, name="Doubling").add(double).build()


@pytest.mark.fault(15, 50)
def test_a_start_repeated_while_its_message_waits_for_a_queue_sends_none_that_nothing_leads_to() -> None:
    world = Simulation([Doubling], 1, is_shuffled=False)

    async def play() -> None:
        async with world.client("first") as first, world.client("second") as second:
            await first.start(Doubling, 21, run_id="run")  # no queue is there: a timer publishes it again
            world.start_worker()
            while not world.broker.queues:  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(0.01)
            handle = await second.start(Doubling, 21, run_id="run")
            assert await handle.result(timeout=60) == 42
            assert await world.settle() == {}
        assert await world.stop_all() == []

    world.play(play)
    assert world.story.faults["unroutable"] == 1
    assert world.story.violations == []


@node
async def listed(x: int) -> list[int]:
    return [x + n for n in range(6)]


@node
async def folded(xs: list[int]) -> int:
    return sum(xs)


Batching = (
    GraphBuilder(listed, output=int, name="Batching")
    .add(listed >> BatchNode(double, max_in_flight=1, name="batch") >> folded)
    .build()
)


@pytest.mark.fault(17, 47)
@pytest.mark.parametrize("seed", range(12))
def test_a_page_that_another_copy_of_the_message_has_expanded_is_no_damage(seed: int) -> None:
    world = Simulation([Batching], seed, settings=Settings(limits=Limits(chain_steps=1)))
    world.broker.weather.duplicated, world.broker.weather.copies = 1.0, 3

    async def play() -> None:
        for _ in range(3):
            world.start_worker()
        async with world.client("client") as client:
            handle = await client.start(Batching, 1, run_id="run")
            assert await handle.result(timeout=60) == 2 * sum(range(1, 7))
            assert await world.settle() == {}
        assert await world.stop_all() == []

    world.play(play)
    assert world.story.violations == []


# --- copies of messages, and what leads to the items that they run


MakeCluster = Callable[..., Cluster]


async def copy_arrives(here: Cluster, entry: str) -> None:
    """Another copy of the first item's message comes out of the queue: with an entry, or, sent again, with none."""
    services = here.client().services
    run = await services.runs.load(RunId("run"))
    (first,) = await services.items.find(run.header.run_id, (run.header.start_item,))
    assert first is not None
    await here.queue.publish([message_of(services, run.header, Outgoing(first.item, 1, entry), None)])


def leading(here: Cluster) -> list[str]:
    """The entries of messages in the store."""
    return here.store.leftovers("messages:").get("messages:default", [])


async def die_and_lose_every_message(here: Cluster, member: Member) -> None:
    """A worker is gone, and the broker has lost what it held: only what the store knows leads to anything."""
    await member.kill()
    for waiting in here.queue._queues.values():
        waiting.clear()


def meanwhile(client: Orchestrator, what: Callable[[], Awaitable[None]], *, before_page: bool) -> None:
    """Let something happen when a resumed run's live items are about to be listed, or right after they were."""
    items: Any = client.services.items
    live_ids = items.live_ids

    async def listed(*args: Any, **options: Any) -> Any:
        if before_page:
            await what()
        page = await live_ids(*args, **options)
        if not before_page:
            await what()
        return page

    items.live_ids = listed


@pytest.mark.fault(17, 48)
async def test_a_copy_without_entry_that_is_claimed_while_its_run_is_resumed_enters_one(cluster: MakeCluster) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    @node
    async def only(x: int) -> int:
        begun.set()
        await go.wait()
        return x + 1

    here = cluster(GraphBuilder(only, output=int, name="Only").add(only).build())
    client = here.client()
    handle = await client.start(here.workflows[0], 1, run_id="run")
    await handle.pause()
    member = await here.start_worker()
    await asyncio.sleep(1)
    assert leading(here) == []  # resuming publishes it
    entered: list[str] = []

    async def claimed() -> None:
        await copy_arrives(here, "")
        await begun.wait()
        entered.extend(leading(here))

    meanwhile(client, claimed, before_page=True)
    await client.resume("run")
    assert len(entered) == 1
    await die_and_lose_every_message(here, member)
    go.set()
    await here.start_worker()
    assert await handle.result(120) == 2
    await here.check_completed("run")


@pytest.mark.fault(17, 48)
@pytest.mark.parametrize("before_page", [True, False], ids=["before they are listed", "after they were listed"])
async def test_a_resume_sees_that_something_leads_to_what_a_copy_has_begun_meanwhile(
    cluster: MakeCluster, before_page: bool
) -> None:
    begun = [asyncio.Event(), asyncio.Event()]
    go = [asyncio.Event(), asyncio.Event()]

    @node
    async def first(x: int) -> int:
        begun[0].set()
        await go[0].wait()
        return x + 1

    @node
    async def second(x: int) -> int:
        begun[1].set()
        await go[1].wait()
        return 10 * x

    here = cluster(GraphBuilder(first, output=int, name="Two").add(first >> second).build())
    client = here.client()
    handle = await client.start(here.workflows[0], 1, run_id="run")
    (entry,) = leading(here)
    member = await here.start_worker()
    await begun[0].wait()
    await handle.pause()
    await copy_arrives(here, entry)
    await asyncio.sleep(1)
    assert leading(here) == []  # the copy found the run paused, while the other copy runs on

    async def first_ends() -> None:
        go[0].set()
        await begun[1].wait()

    meanwhile(client, first_ends, before_page=before_page)
    await client.resume("run")
    await die_and_lose_every_message(here, member)
    go[1].set()
    await here.start_worker()
    assert await handle.result(120) == 20
    await here.check_completed("run")


@pytest.mark.fault(15, 17)
@pytest.mark.parametrize("has_entry", [True, False], ids=["its entry gone already", "without entry"])
async def test_a_copy_that_claims_what_only_a_timer_leads_to_enters_an_entry(
    cluster: MakeCluster, has_entry: bool
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    members: list[Member] = []

    @node
    async def first(x: int) -> int:
        return x + 1

    @node(retry=RetryPolicy(max_attempts=2, initial_backoff=0.1))
    async def second(x: int) -> int:
        if not go.is_set() and members[0].queue.faults == QueueFaults():
            members[0].queue.faults = QueueFaults(returned=1.0)  # from here on no queue takes what it publishes
            raise ConnectionError
        begun.set()
        await go.wait()
        return 10 * x

    here = cluster(
        GraphBuilder(first, output=int, name="Two").add(first >> second).build(),
        timeouts=replace(QUICK, publish_retry=20.0),
    )
    handle = await here.client().start(here.workflows[0], 1, run_id="run")
    (entry,) = leading(here)
    members.append(await here.start_worker())
    await asyncio.sleep(3)
    (kept,) = leading(here)  # by that, until the timer is due, an item is found for which the broker has no queue
    leave = BatchWriter(RunId("run"), 0).batch((), (LeaveMessage("default", kept),))
    await members[0].services.session.commit(leave)  # as a step has none that is put off, or that was dead-lettered
    assert not begun.is_set()
    await copy_arrives(here, entry if has_entry else "")  # it walks from the first item to the second
    await begun.wait()
    await die_and_lose_every_message(here, members[0])
    go.set()
    await here.start_worker()
    assert await handle.result(120) == 20
    await here.check_completed("run")
