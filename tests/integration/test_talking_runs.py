"""Signals and children with worker processes on a real RabbitMQ and real stores, one of them killed on the way."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from floxide_amqp import Floxide, Orchestrator, RunNotFoundError, RunStatus, Start
from tests.integration.talking_app import CHILDREN, GO, Calling, Listening, Telling, application

ROOT = Path(__file__).parents[2]
PATIENCE = 120
WORKERS = 3


class Place:
    """Where one test's processes meet."""

    def __init__(self, broker: str, store: str, namespace: str) -> None:
        self._place = (broker, store, namespace)
        self.workers: list[asyncio.subprocess.Process] = []

    def app(self) -> Floxide:
        return application(*self._place)

    async def start_worker(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.talking_app", *self._place, cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self.workers.append(process)
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"ready\n"


@pytest.fixture(params=["postgresql_url", "redis_url"])
def place(request: pytest.FixtureRequest, rabbitmq_url: str, namespace: str) -> Place:
    return Place(rabbitmq_url, str(request.getfixturevalue(request.param)), namespace)


@asynccontextmanager
async def at_work(place: Place) -> AsyncGenerator[Orchestrator]:
    """Let workers run and a client be open; kill what is left of them in the end."""
    try:
        await asyncio.gather(*(place.start_worker() for _ in range(WORKERS)))
        async with place.app().orchestrator() as client:
            yield client
    finally:
        for process in place.workers:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def until_waiting(client: Orchestrator, workflow: str, runs: int) -> None:
    """Return once so many runs wait."""
    async with asyncio.timeout(PATIENCE):
        while True:
            count, cursor = 0, ""
            while True:
                page = await client.list_runs(status=RunStatus.WAITING, workflow=workflow, limit=500, cursor=cursor)
                count, cursor = count + len(page.runs), page.next_cursor
                if not cursor:
                    break
            if count == runs:
                return
            await asyncio.sleep(0.1)


async def until_there(client: Orchestrator, run_id: str) -> None:
    """Return once a child that was called has been started."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(RunNotFoundError):
                await client.status(run_id)
                return
            await asyncio.sleep(0.1)


@pytest.mark.timeout(300)
async def test_a_thousand_held_runs_get_their_signals_though_a_worker_is_killed_meanwhile(place: Place) -> None:
    runs = 1_000
    async with at_work(place) as client:
        handles = await client.start_many(Listening, [Start(number) for number in range(runs)])
        await until_waiting(client, "Listening", runs)
        ended = asyncio.gather(*(handle.result(2 * PATIENCE) for handle in handles))
        sent = asyncio.create_task(client.signal_many(GO, {handle.run_id: n for n, handle in enumerate(handles)}))
        await asyncio.wait({asyncio.create_task(handles[0].wait(PATIENCE))})
        place.workers[0].kill()
        report = await sent
        assert (report.accepted, dict(report.failures)) == (runs, {})
        assert await ended == list(range(runs))


@pytest.mark.timeout(300)
async def test_children_are_started_signalled_and_cancelled_though_a_worker_is_killed_meanwhile(place: Place) -> None:
    parents = 10
    async with at_work(place) as client:
        telling = await client.start_many(Telling, [Start(number) for number in range(parents)])
        calling = await client.start_many(Calling, [Start(number) for number in range(parents)])
        assert len(await telling[0].result(PATIENCE)) == CHILDREN
        place.workers[0].kill()
        for parent in telling:  # each of its steps told a child which it had only just called
            for child in await parent.result(PATIENCE):
                await until_there(client, child)  # the worker that was to start it may be the one that was killed
                assert await client.handle(Listening, child).result(PATIENCE) == 7
        await until_waiting(client, "Listening", parents * CHILDREN)
        *answered, given_up = calling
        called = {run.run_id: [kin.run_id for kin in (await client.children(run.run_id)).children] for run in calling}
        values = {child: 1 for run in answered for child in called[run.run_id]}
        report = await client.signal_many(GO, values)
        assert (report.accepted, dict(report.failures)) == (len(values), {})
        assert [await run.result(PATIENCE) for run in answered] == [CHILDREN] * len(answered)
        await given_up.terminate("enough")
        for child in called[given_up.run_id]:
            assert await client.wait(child, PATIENCE) is RunStatus.CANCELLED
