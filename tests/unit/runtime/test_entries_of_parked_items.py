"""The entry of a parked item is not dropped by somebody whose look at the item is old by now."""

from __future__ import annotations

from typing import Any

from floxide_amqp import Limits, Workflow, WorkItemStatus, node
from floxide_amqp.runtime.parked import ParkedItems
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.test_undecodable_items import BROKEN, OLD, begun


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
