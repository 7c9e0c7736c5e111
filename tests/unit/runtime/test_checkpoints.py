"""A run that stops anywhere and goes on from what is stored, on workers that know nothing, ends as if it never had."""

from __future__ import annotations

import asyncio
import random

import pytest

from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.testing.simulation.random_workflows import Tally, random_workflow
from floxide_amqp.testing.virtual_time import run
from tests.unit.runtime.cluster import Cluster

STOPS = 3


@pytest.mark.parametrize("seed", range(8))
def test_a_run_resumed_from_its_checkpoints_ends_as_one_without_interruption(seed: int) -> None:
    run(_play(seed))


async def _play(seed: int) -> None:
    chance = random.Random(seed)
    workflow, tell = random_workflow(seed)
    told = tell(7)
    assert await _straight(workflow, seed) == (told.value, told.steps)
    cluster = Cluster(workflow, seed=seed, limits=Limits(concurrency=4, chain_steps=chance.choice([1, 3, 1_000])))
    client = cluster.client()
    handle = await client.start(workflow, 7, run_id="run")
    for _ in range(STOPS):
        members = [await cluster.start_worker(), await cluster.start_worker(queues=["other"])]
        await asyncio.sleep(chance.choice([0.01, 0.05, 0.3, 1.5]))
        if (await handle.status()).is_terminal:
            break
        await handle.pause("for a while")
        await asyncio.sleep(chance.choice([0.0, 0.5, 10.0]))
        for member in members:
            await member.kill()
        saved = await client.checkpoint(workflow, "run")
        if saved.run.state.status is not RunStatus.PAUSED:
            break
        assert isinstance(saved.context, Tally)
        assert saved.context.steps <= told.steps
        held_in_scopes = saved.run.counts.live + saved.run.counts.held
        assert len(saved.pending) == held_in_scopes
        await handle.resume()
    try:
        await cluster.start_worker()
        await cluster.start_worker(queues=["other"])
        assert await handle.result(timeout=600) == told.value
        context = await client.context(workflow, "run")
        assert isinstance(context, Tally)
        assert context.steps == told.steps
        await cluster.check_completed("run")
    finally:
        await cluster.close()


async def _straight(workflow: type, seed: int) -> tuple[object, int]:
    """Run it without interruption."""
    cluster = Cluster(workflow, seed=seed)
    await cluster.start_worker()
    await cluster.start_worker(queues=["other"])
    client = cluster.client()
    handle = await client.start(workflow, 7, run_id="run")
    value = await handle.result(timeout=600)
    context = await client.context(workflow, "run")
    assert isinstance(context, Tally)
    await cluster.close()
    return value, context.steps
