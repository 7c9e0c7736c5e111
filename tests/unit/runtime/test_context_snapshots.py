"""What a worker remembers of a context while snapshots are left and the log behind them is trimmed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import pytest

from floxide_amqp import Context, EventLog, Sum, Workflow, WorkflowCtx, node, repeat
from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.ports.key_value import LogRange, Read
from floxide_amqp.runtime.cache import CachedRun
from floxide_amqp.runtime.settings import Limits
from floxide_amqp.stores import keys
from floxide_amqp.testing.faults import StoreFaults
from tests.unit.runtime.cluster import Cluster

MakeCluster = Callable[..., Cluster]
ROUNDS = 60


class Told(Context):
    steps: Annotated[int, Sum()] = 0
    log: EventLog[int] = EventLog()


@node
async def step(ctx: WorkflowCtx[Told], n: int) -> int:
    await asyncio.sleep(0.1)
    ctx.state.steps += 1
    if n % 10 == 0:
        ctx.state.log.append(n)
    assert ctx.state.steps == n + 1
    return n + 1


@node
async def finish(n: int) -> int:
    return n


class Counts(Workflow[int, int, Told]):
    start = step
    edges = (step.when(lambda n: n < ROUNDS) >> repeat(step, max_iterations=ROUNDS), step.otherwise >> finish)


async def log_of(here: Cluster) -> tuple[int, int]:
    """Where the log of deltas begins and ends."""
    wanted = Read(slot=slot_of(RunId("run")), logs=(LogRange(keys.context_log(RunId("run")), 0, 0),))
    page = (await here.store.read([wanted])).snapshots[0].logs[0]
    return page.first, page.length


async def remembered(here: Cluster) -> tuple[CachedRun, Any]:
    services = here.client().services
    run = await services.runs.load(RunId("run"))
    graph = services.registry.find("Counts", "1")
    assert graph is not None
    cached = CachedRun(run.header, graph)
    await cached.refresh(services.contexts)
    return cached, services.contexts


def told(cached: CachedRun) -> tuple[int, int]:
    context, position = cached.view("test")
    assert isinstance(context, Told)
    return context.steps, position


async def test_a_worker_that_slept_while_the_log_was_trimmed_reads_the_snapshot(cluster: MakeCluster) -> None:
    here = cluster(Counts, limits=Limits(concurrency=2, context_snapshot=5))
    await here.start_worker()
    handle = await here.client().start(Counts, 0, run_id="run")
    await asyncio.sleep(1)
    cached, contexts = await remembered(here)
    steps, position = told(cached)
    assert 0 < steps == position < 15
    assert await handle.result(60) == ROUNDS
    first, length = await log_of(here)
    assert position < first < length == ROUNDS
    await cached.refresh(contexts)
    assert told(cached) == (ROUNDS, ROUNDS)


async def test_the_log_of_a_counter_does_not_grow_with_the_steps(cluster: MakeCluster) -> None:
    here = cluster(Counts, limits=Limits(concurrency=2, context_snapshot=5))
    await here.start_worker()
    handle = await here.client().start(Counts, 0, run_id="run")
    longest = 0
    while not (await handle.status()).is_terminal:
        first, length = await log_of(here)
        longest = max(longest, length - first)
        await asyncio.sleep(0.05)
    assert 5 <= longest <= 2 * 5 + 5


@pytest.mark.parametrize("seed", range(4))
async def test_steps_see_the_whole_context_while_snapshots_fail_and_replies_are_lost(
    cluster: MakeCluster, seed: int
) -> None:
    faults = StoreFaults(unavailable=0.1, lost_reply=0.2, delayed=0.2)
    here = cluster(
        Counts, seed=seed, limits=Limits(concurrency=2, context_snapshot=2, cached_runs=1), store_faults=faults
    )
    await here.start_worker()
    await here.start_worker()
    handle = await here.client().start(Counts, 0, run_id="run")
    assert await handle.result(600) == ROUNDS
    context = await here.client().context(Counts, "run")
    assert (context.steps, list(context.log)) == (ROUNDS, list(range(0, ROUNDS, 10)))
    assert (await log_of(here))[0] > 0


async def test_a_context_that_has_merged_more_than_the_store_knows_is_read_anew(cluster: MakeCluster) -> None:
    here = cluster(Counts, limits=Limits(concurrency=2))
    await here.start_worker()
    handle = await here.client().start(Counts, 0, run_id="run")
    await asyncio.sleep(1)
    await handle.pause()
    await asyncio.sleep(1)
    cached, contexts = await remembered(here)
    steps, _ = told(cached)
    entries = here.store._slots[slot_of(RunId("run"))].logs[keys.context_log(RunId("run"))].entries
    del entries[-2:]  # the store had not synced them
    await cached.refresh(contexts)
    assert told(cached) == (steps - 2, steps - 2)


def test_an_interval_below_one_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"Limits\(context_snapshot=0\): give a number, at least 1"):
        Limits(context_snapshot=0)
