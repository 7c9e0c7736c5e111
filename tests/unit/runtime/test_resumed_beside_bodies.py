"""A run that failed as it is, by a damaged record, is resumed while a body that can be undone is still at work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from floxide_amqp import RunStatus
from floxide_amqp.core.failure import describe_error
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.records import RunFailure
from floxide_amqp.exceptions import InvalidRunStateError
from floxide_amqp.runtime import control_actions
from floxide_amqp.runtime.settings import Limits
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.test_compensation import Shop, shopping

RUN = RunId("run")


async def failed_at_work(make: Callable[..., Cluster], shop: Shop) -> tuple[Cluster, Any]:
    """A cluster whose only worker is full with the body of `ship`, which heeds no cancellation; its run has failed."""
    shop.stubborn.add("ship")
    shop.wait_in("ship")
    here = make(shopping(shop), limits=Limits(concurrency=1))
    await here.start_worker()
    client = here.client()
    handle = await client.start(here.workflows[0], 1, run_id="run")
    await shop.begun["ship"].wait()
    damage = RunFailure(
        node="", item_id=WorkItemId("x"), error=describe_error(ValueError("a damaged record")), attempts=0
    )
    assert await control_actions.fail_run(client.services, RUN, lambda run: damage, undoes=False)
    return here, handle


async def test_nothing_is_undone_while_a_body_is_at_work_though_the_run_had_failed_and_was_resumed(
    cluster: Callable[..., Cluster],
) -> None:
    shop = Shop()
    here, handle = await failed_at_work(cluster, shop)
    await handle.resume()
    await handle.cancel("enough")
    await here.start_worker()
    await asyncio.sleep(0.5)
    early = [step for step, _, _ in shop.undone]
    shop.gates["ship"].set()
    assert await handle.wait(600) is RunStatus.CANCELLED
    assert "ship" not in early, "undone while its body was at work"
    assert [step for step, _, _ in shop.undone] == ["ship", "pack", "charge"]


async def test_a_body_at_work_does_not_begin_a_second_time_before_it_has_ended_though_its_run_is_resumed(
    cluster: Callable[..., Cluster],
) -> None:
    shop = Shop()
    here, handle = await failed_at_work(cluster, shop)
    shop.begun["ship"].clear()
    await handle.resume()
    await here.start_worker()
    await asyncio.sleep(0.5)
    assert not shop.begun["ship"].is_set(), "begun beside itself"
    shop.gates["ship"].set()
    assert await handle.wait(600) is RunStatus.COMPLETED
    assert shop.undone == []


async def test_an_item_whose_body_is_at_work_is_not_given_its_output_by_hand_though_its_run_has_failed(
    cluster: Callable[..., Cluster],
) -> None:
    shop = Shop()
    here, handle = await failed_at_work(cluster, shop)
    (item,) = [each for each in await here.client().work_items("run") if each.node == "ship"]
    with pytest.raises(InvalidRunStateError, match="Wait until its worker has ended it"):
        await here.client().complete_item("run", item.item_id, 7)
    shop.gates["ship"].set()
    await asyncio.sleep(60)
    await here.client().complete_item("run", item.item_id, 7)
    assert await handle.resume()
    assert await handle.result(60) == 7
