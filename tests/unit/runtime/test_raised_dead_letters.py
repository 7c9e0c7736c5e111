"""A run that is raised to another version while one of its dead letters waits for somebody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from floxide_amqp import Limits, VersionPolicy, Workflow, WorkItemStatus, node
from floxide_amqp.core import dead_letter_moves
from floxide_amqp.core.decisions import MessageAnchor
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.message_records import DeadLetter
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]


def version_of(version: str, queue: str, **more: Any) -> Any:
    @node
    async def begin(x: int) -> int:
        return x

    @node(queue=queue)
    async def given_up(x: int) -> int:
        return x

    @node
    async def other(x: int) -> int:
        return x + 1

    class Branching(Workflow[int, list[int]], name="Branching", version=version, **more):
        start = begin
        edges = (begin >> (given_up, other),)

    return Branching


async def keep_letter(here: Cluster, name: str) -> None:
    """Let the broker have given up on a step's messages too often."""
    client = here.client()
    services, run_id = client.services, RunId("run")
    (item_id,) = [each.item_id for each in await client.pending_work("run") if each.node == name]
    run, found = await services.runs.find_with_item(run_id, WorkItemId(item_id))
    assert run is not None
    assert found is not None
    letter = DeadLetter(
        letter_id="1", run_id=run_id, item_id=found.item.item_id, node=name, queue=found.item.queue, reason="", count=9,
        turn=found.turn, first_at_ms=1, last_at_ms=1,
    )  # fmt: skip
    note = "its messages were given up"
    decision = dead_letter_moves.keep(found.item, found.turn, run.epoch, letter, MessageAnchor("", ""), note)
    await services.commit(run.writer, decision)


@pytest.mark.parametrize("queue", ["default", "elsewhere"])
async def test_a_kept_dead_letter_still_waits_for_somebody_when_its_run_was_raised(
    cluster: MakeCluster, queue: str
) -> None:
    one, two = version_of("1", "default"), version_of("2", queue, versions=VersionPolicy.AUTO_UPGRADE)
    here = cluster(one, limits=Limits(concurrency=8, chain_steps=1))
    client = here.client()
    handle = await client.start(one, 1, run_id="run")
    worker, *_ = here.worker_of(workflows=[one])
    assert await worker.run_once()
    await keep_letter(here, "given_up")
    await here.start_worker(workflows=[two])
    while "other" not in {each.node for each in await here.history("run")}:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)

    assert (await client.run_info("run")).version == "2"
    (item,) = await client.pending_work("run")
    assert (item.node, item.status, item.queue) == ("given_up", WorkItemStatus.PARKED, queue)
    (letter,) = await client.dead_letters()
    await client.requeue_dead_letter(letter.letter_id)
    assert sorted(await handle.result(60)) == [1, 2]
    assert await client.dead_letters() == []
