"""A run that undoes what it did moves to other servers, wherever it stands, and goes on with that there."""

from __future__ import annotations

import pytest

from floxide_amqp import RunStatus, WorkItemStatus
from floxide_amqp.core.ids import RunId
from tests.unit.runtime.cluster import GuardedStore
from tests.unit.runtime.test_compensation import LATER, Shop, shopping, waits_for_its_next_try
from tests.unit.runtime.test_resharding import MovingCluster, identity, move


@pytest.mark.parametrize("stands", ["at work", "waits for its next try", "body of the step at work"])
async def test_a_run_that_undoes_what_it_did_goes_on_with_that_on_other_servers(stands: str) -> None:
    shop = Shop(broken={"ship": 1})
    if stands == "at work":
        shop.wait_in("unship")
    elif stands == "waits for its next try":
        shop.broken["unship"] = 1
    else:
        shop.broken = {}
        shop.stubborn.add("ship")
        shop.wait_in("ship")
    workflow = shopping(shop, retry=LATER)
    here = MovingCluster(workflow)
    await identity(here.disks)
    member = await here.start_worker()
    client = here.client()
    handle = await client.start(workflow, 1, run_id="run")
    if stands == "waits for its next try":
        await waits_for_its_next_try(client, "ship#unship")
    else:
        name = "unship" if stands == "at work" else "ship"
        await shop.begun[name].wait()
        if name == "ship":
            await handle.cancel("enough")
    assert await handle.status() is RunStatus.COMPENSATING
    await here.kill(member)
    there = {"a": GuardedStore(), "b": GuardedStore()}
    old, here.disks = here.disks, there
    await move(old, there)
    gates, shop.gates = shop.gates, {}
    await here.start_worker()
    client = here.client()
    moved = client.handle(workflow, "run")
    how = RunStatus.CANCELLED if stands == "body of the step at work" else RunStatus.FAILED
    assert await moved.wait(600) is how
    assert [step for step, _, _ in shop.undone] == ["ship", "pack", "charge"]
    run = await client.services.runs.load(RunId("run"))
    assert (run.counts.to_undo, run.counts.undone) == (0, 3)
    ended = [item for item in await client.work_items("run") if "#" in item.node]
    assert {item.status for item in ended} == {WorkItemStatus.COMPLETED}
    assert await here.settle() == {}
    for gate in gates.values():
        gate.set()
    await here.close()
