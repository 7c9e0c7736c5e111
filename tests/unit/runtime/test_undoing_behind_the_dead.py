"""A run that failed as it is, by a damaged record, and whose worker died meanwhile is undone once it is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from floxide_amqp import RunStatus
from floxide_amqp.core.failure import describe_error
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.records import RunFailure
from floxide_amqp.runtime import control_actions
from tests.unit.runtime.cluster import Cluster
from tests.unit.runtime.test_compensation import Shop, shopping

RUN = RunId("run")


@pytest.mark.parametrize("how", ["held by its message", "held by an owner entry"])
async def test_what_a_worker_had_begun_that_died_while_the_run_had_failed_is_undone(how: str) -> None:
    shop = Shop()
    shop.wait_in("ship")
    here = Cluster(shopping(shop))
    victim = await here.start_worker()
    client = here.client()
    handle = await client.start(here.workflows[0], 1, run_id="run")
    await shop.begun["ship"].wait()
    if how == "held by an owner entry":
        await asyncio.sleep(30)
    damage = RunFailure(
        node="", item_id=WorkItemId("x"), error=describe_error(ValueError("a damaged record")), attempts=0
    )
    await victim.kill()
    assert await control_actions.fail_run(client.services, RUN, lambda run: damage, undoes=False)
    shop.gates = {}
    await here.start_worker()
    await asyncio.sleep(120)
    assert await handle.status() is RunStatus.FAILED
    await handle.cancel("enough")
    status = await handle.wait(3600)
    assert status is RunStatus.CANCELLED
    assert [step for step, _, _ in shop.undone] == ["ship", "pack", "charge"]
    await here.close()
