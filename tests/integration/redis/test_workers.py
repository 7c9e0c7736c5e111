"""Worker processes on a real RabbitMQ and a real Redis: a fan-out, with the store killed in the middle of it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from floxide_amqp.testing.redis_servers import Redis
from tests.integration.test_workers import PATIENCE, SUM, Bench, check_squares
from tests.integration.worker_app import ITEMS, Squares

pytestmark = [pytest.mark.xdist_group("own_redis"), pytest.mark.rabbitmq]


@pytest_asyncio.fixture
async def bench(rabbitmq_url: str, own_redis: Redis, namespace: str, tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(rabbitmq_url, namespace, tmp_path)
    store = f"{own_redis.url}?prefix=test-{secrets.token_hex(6)}"
    made.place = (rabbitmq_url, store, namespace, str(tmp_path))
    yield made
    await made.close()


async def test_two_workers_share_a_fan_out_over_a_store_in_redis(bench: Bench) -> None:
    workers = [await bench.start_worker() for _ in range(2)]
    async with bench.app().orchestrator() as orchestrator:
        runs = [await orchestrator.start(Squares, 1, run_id=f"run-{n}") for n in range(5)]
        assert [await run.result(PATIENCE) for run in runs] == [SUM] * 5
        for run in runs:
            await check_squares(orchestrator, run.run_id)
    bodies = [line.split(" ")[0] for line in bench.folder.notes()]
    assert (bodies.count("split"), bodies.count("work"), bodies.count("add")) == (5, 5 * ITEMS, 5)
    assert {line.rsplit(" ", 1)[1] for line in bench.folder.notes()} == {str(worker.pid) for worker in workers}


@pytest.mark.fault(25)
async def test_runs_outlive_a_store_in_redis_that_is_killed_and_started_again(bench: Bench, own_redis: Redis) -> None:
    for _ in range(2):
        await bench.start_worker()
    async with bench.app().orchestrator() as orchestrator:
        runs = [await orchestrator.start(Squares, 1, run_id=f"run-{n}") for n in range(5)]
        await bench.noted("work", ITEMS)
        await asyncio.to_thread(own_redis.kill)
        await asyncio.sleep(0.5)  # while it is dead
        await asyncio.to_thread(own_redis.start)
        assert [await run.result(PATIENCE) for run in runs] == [SUM] * 5
        for run in runs:
            await check_squares(orchestrator, run.run_id)


@pytest.mark.fault(31)
async def test_workers_end_when_their_store_is_emptied_and_new_ones_work(bench: Bench, own_redis: Redis) -> None:
    workers = [await bench.start_worker() for _ in range(2)]
    own_redis.command("FLUSHALL")
    assert [await asyncio.wait_for(worker.wait(), PATIENCE) for worker in workers] == [1, 1]
    await bench.start_worker()
    async with bench.app().orchestrator() as orchestrator:
        run = await orchestrator.start(Squares, 1, run_id="run")
        assert await run.result(PATIENCE) == SUM
