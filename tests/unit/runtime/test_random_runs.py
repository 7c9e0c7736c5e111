"""Random workflows under random faults: whatever happens, each run ends as if nothing had."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from dataclasses import replace

import pytest

from floxide_amqp.exceptions import InvalidRunStateError
from floxide_amqp.runtime.settings import Limits, Retention
from floxide_amqp.testing.faults import StoreFaults
from floxide_amqp.testing.queue_faults import QueueFaults
from floxide_amqp.testing.simulation.random_workflows import Tally, random_workflow
from floxide_amqp.testing.virtual_time import run
from tests.unit.runtime.cluster import QUICK, Cluster

SEEDS = range(int(os.environ.get("FLOXIDE_SEEDS_FROM", "0")), int(os.environ.get("FLOXIDE_SEEDS_TO", "16")))
"""Each seed is one story. More of them: ``FLOXIDE_SEEDS_TO=1000 pytest tests/unit/runtime/test_random_runs.py``."""

RUNS = 2


@pytest.mark.parametrize("seed", range(6))
def test_a_random_workflow_without_faults_returns_what_it_should(seed: int) -> None:
    run(_play(seed, store=StoreFaults(), queue=QueueFaults(), deaths=0))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_workflow_under_faults_returns_what_it_should(seed: int) -> None:
    chance = random.Random(seed)
    store = StoreFaults(
        unavailable=chance.choice([0, 0.02]),
        lost_reply=chance.choice([0, 0.05]),
        delayed=chance.choice([0, 0.3]),
        touched=chance.choice([0, 0.1]),
        may_touch=lambda key: key.name == "state",
    )
    queue = QueueFaults(
        dropped=chance.choice([0, 0.05]),
        duplicated=chance.choice([0, 0.3]),
        unconfirmed=chance.choice([0, 0.05]),
        returned=chance.choice([0, 0.05]),
        delayed=chance.choice([0, 0.3]),
        redelivered=chance.choice([0, 0.2]),
    )
    run(_play(seed, store=store, queue=queue, deaths=chance.choice([0, 1, 3]), pauses=chance.choice([0, 0, 3])))


async def _play(seed: int, *, store: StoreFaults, queue: QueueFaults, deaths: int, pauses: int = 0) -> None:
    chance = random.Random(seed)
    workflow, tell = random_workflow(seed)
    limits = Limits(concurrency=chance.choice([1, 2, 8]), chain_steps=chance.choice([1, 2, 1_000]))
    limits = replace(limits, context_snapshot=(2, 1_000, 5)[seed % 3])
    timeouts = replace(QUICK, early_acknowledge=chance.choice([0.01, 5.0]), chain=chance.choice([0.01, 30.0]))
    cluster = Cluster(
        workflow, seed=seed, store_faults=store, queue_faults=queue, limits=limits, timeouts=timeouts,
        retention=Retention(keep_inputs=seed % 2 == 0),
    )  # fmt: skip
    members = [await cluster.start_worker() for _ in range(chance.randint(1, 3))]
    members.append(await cluster.start_worker(queues=["other"]))
    await asyncio.sleep(chance.uniform(0, 1))
    client = cluster.client()
    inputs = [chance.randint(0, 1000) for _ in range(RUNS)]
    handles = [await client.start(workflow, x, run_id=f"run-{n}") for n, x in enumerate(inputs)]
    for _ in range(deaths):
        await asyncio.sleep(chance.choice([0.0, 0.05, 0.3, 2.0]))
        victim = chance.choice(members)
        members.remove(victim)
        if chance.random() < 0.7:
            await victim.kill()
        else:
            victim.worker.stop()
        members.append(await cluster.start_worker())
    for _ in range(pauses):
        handle = chance.choice(handles)
        with contextlib.suppress(InvalidRunStateError):
            await handle.pause()
            await asyncio.sleep(chance.choice([0.0, 0.01, 0.5, 12.0]))
            await handle.resume()
        await asyncio.sleep(chance.choice([0.0, 0.01, 0.5]))
    try:
        for number, (handle, x) in enumerate(zip(handles, inputs, strict=True)):
            if number == 0:
                await asyncio.sleep(20)
                cluster.end_faults()
            told = tell(x)
            assert await handle.result(timeout=300) == told.value
            context = await client.context(workflow, handle.run_id)
            assert isinstance(context, Tally)
            assert context.steps == told.steps
        for handle in handles:
            await cluster.check_completed(handle.run_id)
    finally:
        await cluster.close()
