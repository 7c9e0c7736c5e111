"""The entry of a parked item is not dropped by somebody whose look at the item is old by now."""

from __future__ import annotations

import asyncio
from typing import Any

from floxide_amqp import Limits, RunStatus, Workflow, WorkItemStatus, node
from floxide_amqp.runtime.parked import ParkedItems
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.test_undecodable_items import BROKEN, OLD, LongerOrder, NeedyOrder, Order, begun


@node
async def first(x: int) -> int:
    return x


class Shop(Workflow[int, int]):
    start = first


class Other(Workflow[int, int]):
    start = first.named("other")


async def test_two_workers_that_take_a_parked_item_beside_one_that_lacks_it_do_not_lose_it() -> None:
    here = Cluster(Shop, Other, limits=Limits(chain_steps=1))
    client = here.client()
    await client.start(Shop, 1, run_id="run")
    lacking, *_ = here.worker_of(workflows=[Other], queues=["default"])
    assert await lacking.run_once()
    (item,) = await client.pending_work("run")
    assert item.status is WorkItemStatus.PARKED
    slow, quick = (here.worker_of(workflows=[Shop], queues=["default"])[1] for _ in range(2))
    find, commit = slow.runs.find_with_item, slow.session.commit

    async def find_late(*args: Any, **more: Any) -> Any:
        await ParkedItems(quick, ("default",)).take()  # the item is pending, and its message out
        return await find(*args, **more)

    async def commit_late(batch: Any) -> Any:
        assert await lacking.run_once()  # its message comes to who lacks it: parked again
        return await commit(batch)

    slow.runs.find_with_item, slow.session.commit = find_late, commit_late  # type: ignore[method-assign]
    await ParkedItems(slow, ("default",)).take()
    slow.runs.find_with_item, slow.session.commit = find, commit  # type: ignore[method-assign]
    await here.start_worker(workflows=[Shop], queues=["default"])
    assert await client.handle(Shop, "run").result(600) == 1
    await here.close()


async def test_looking_at_what_is_set_aside_does_not_lose_what_is_set_aside_again_meanwhile() -> None:
    here = Cluster(OLD, limits=Limits(concurrency=8, chain_steps=1))
    await begun(here, OLD)
    broken, *_ = here.worker_of(workflows=[BROKEN], queues=["default"])
    assert await broken.run_once()
    client, looker = here.client(), here.client()
    services = looker.services
    find, commit = services.runs.find_with_item, services.session.commit

    async def find_late(*args: Any, **more: Any) -> Any:
        await client.set_aside.requeue()
        return await find(*args, **more)

    async def commit_late(batch: Any) -> Any:
        assert await broken.run_once()  # set aside once more
        return await commit(batch)

    services.runs.find_with_item, services.session.commit = find_late, commit_late  # type: ignore[method-assign]
    await looker.set_aside.list()
    services.runs.find_with_item, services.session.commit = find, commit  # type: ignore[method-assign]
    assert len(await client.set_aside.list()) == 1
    await here.close()


def shop(order: Any, queue: str, *, made: Any = None) -> Any:
    @node
    async def make(x: int) -> order:
        return made

    @node(queue=queue)
    async def use(given: order) -> str:
        return type(given).__name__

    class Bought(Workflow[int, str]):
        start = make
        edges = (make >> use,)

    return Bought


async def test_what_was_set_aside_in_a_queue_that_the_cure_does_not_use_is_found_and_requeued() -> None:
    old, broken, cured = shop(Order, "old", made=Order(7)), shop(NeedyOrder, "old"), shop(LongerOrder, "new")
    here = Cluster(old, limits=Limits(concurrency=8, chain_steps=1))
    await here.client().start(old, 1, run_id="run")
    worker, *_ = here.worker_of(workflows=[old])
    assert await worker.run_once()
    member = await here.start_worker(workflows=[broken])
    while not any(each.status is WorkItemStatus.PARKED for each in await here.client().pending_work("run")):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    await member.stop()
    await here.start_worker(workflows=[cured])
    here.workflows = (cured,)
    client = here.client()
    assert [(each.version, each.set_aside) for each in await client.versions()] == [("1", 1)]
    assert len(await client.set_aside.list()) == 1
    assert (await client.set_aside.requeue()).items == 1
    assert await client.handle(cured, "run").result(100) == "LongerOrder"
    await here.close()


def branches(order: Any, *, made: Any = None, fails: bool = False) -> Any:
    @node
    async def begin(x: int) -> int:
        return x

    @node
    async def make(x: int) -> order:
        return made

    @node
    async def use(given: order) -> str:
        return "used"

    @node
    async def other(x: int) -> str:
        if fails:
            raise ValueError("no")
        return "other"

    class Branching(Workflow[int, list[str]]):
        start = begin
        edges = (begin >> (make >> use, begin.named("a") >> begin.named("b") >> other),)

    return Branching


async def failed_beside_one_set_aside() -> Cluster:
    """A run that has failed, of which an item was set aside before; the cluster then has code that reads it."""
    old, broken = branches(Order, made=Order(7)), branches(NeedyOrder, fails=True)
    here = Cluster(old, limits=Limits(concurrency=1, chain_steps=1))
    await here.client().start(old, 1, run_id="run")
    worker, *_ = here.worker_of(workflows=[old])
    while "make" not in [each.node for each in await here.history("run")]:
        assert await worker.run_once()
    broken_worker, *_ = here.worker_of(workflows=[broken])
    while await here.client().status("run") is not RunStatus.FAILED:
        assert await broken_worker.run_once()
    statuses = {each.node: each.status for each in await here.client().pending_work("run")}
    assert statuses["use"] is WorkItemStatus.PARKED
    here.workflows = (branches(LongerOrder, made=LongerOrder(7)),)
    return here


async def test_an_item_that_was_set_aside_leaves_the_list_when_its_failed_run_is_resumed() -> None:
    here = await failed_beside_one_set_aside()
    client = here.client()
    assert here.store.leftovers("parked:")
    await client.resume("run")

    assert here.store.leftovers("parked:") == {}
    await here.start_worker()
    assert await client.wait("run", 100) is RunStatus.COMPLETED
    await here.close()


async def test_an_item_that_was_set_aside_leaves_the_list_when_it_is_completed_by_hand() -> None:
    here = await failed_beside_one_set_aside()
    client = here.client()
    (item,) = [each for each in await client.pending_work("run") if each.node == "use"]
    await client.complete_item("run", item.item_id, "given")

    assert here.store.leftovers("parked:") == {}
    await here.close()


async def test_what_is_parked_of_a_run_that_is_over_is_not_counted() -> None:
    here = Cluster(OLD, limits=Limits(concurrency=8, chain_steps=1))
    await begun(here, OLD)
    broken, *_ = here.worker_of(workflows=[BROKEN], queues=["default"])
    assert await broken.run_once()
    client = here.client()
    assert [each.set_aside for each in await client.versions()] == [1]
    await client.terminate("run")

    assert [each.set_aside for each in await client.versions()] == [0]
    await client.delete("run")
    await here.start_worker(workflows=[OLD])
    while here.store.leftovers("parked:"):  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)
    await here.close()
