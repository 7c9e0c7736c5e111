"""RabbitMQ, PostgreSQL and two worker processes: a fan-out that ends once, whoever dies on the way."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.postgresql.support import connected
from tests.integration.worker_app import ITEMS, Folder, Squares, application

ROOT = Path(__file__).parents[3]
SUM = sum(n * n for n in range(ITEMS))
PATIENCE = 120

Place = tuple[str, str, str, str]


@pytest.fixture
def place(rabbitmq_url: str, postgresql_url: str, namespace: str, tmp_path: Path) -> Place:
    return (rabbitmq_url, postgresql_url, namespace, str(tmp_path))


@pytest_asyncio.fixture
async def workers(place: Place) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.worker_app", *place, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(2)
    ]
    for worker in started:
        assert worker.stdout is not None
        assert await asyncio.wait_for(worker.stdout.readline(), PATIENCE) == b"ready\n"
    yield started
    for worker in started:
        if worker.returncode is None:
            worker.kill()
        await worker.wait()


async def test_runs_end_once_although_a_worker_is_killed_and_the_connections_are_cut(
    place: Place, workers: list[asyncio.subprocess.Process]
) -> None:
    folder = Folder(place[3])
    async with application(*place).orchestrator() as orchestrator:
        runs = [await orchestrator.start(Squares, 1, run_id=f"run-{n}") for n in range(4)]
        async with asyncio.timeout(PATIENCE):
            while len(folder.notes()) < 4:  # noqa: ASYNC110 - other processes make it so
                await asyncio.sleep(0.01)
        workers[0].kill()
        async with connected(place[1]) as admin:
            cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'floxide_amqp'"
            await admin.fetch(f"{cut} AND datname = current_database()")
        for run in runs:
            assert await run.result(PATIENCE) == SUM
            history = [entry.item_id for entry in await orchestrator.work_items(run.run_id, limit=1_000)]
            assert len(history) == len(set(history)) == ITEMS + 2
            assert (await orchestrator.context(Squares, run.run_id)).worked == ITEMS
