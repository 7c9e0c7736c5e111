"""Worker processes on a real RabbitMQ and one SQLite file: killed, drained, cancelled, cut off."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from floxide_amqp import Floxide, Orchestrator, RunCancelledError, RunStatus, WorkItemInfo, WorkItemStatus
from floxide_amqp.core.ids import RunId
from floxide_amqp.drivers.amqp.settings import AmqpSettings
from floxide_amqp.ports.work_queue import Message
from floxide_amqp.testing.rabbitmq_servers import RabbitMQ
from tests.integration.worker_app import ITEMS, QUICK, Elsewhere, Folder, Squares, Waiting, application

ROOT = Path(__file__).parents[2]
SUM = sum(n * n for n in range(ITEMS))
PATIENCE = 120


class Bench:
    """One test's place: a broker, a store, a namespace, a folder, and the worker processes it started."""

    def __init__(self, broker: str, namespace: str, folder: Path) -> None:
        self.place = (broker, f"sqlite:///{folder}/runs.db", namespace, str(folder))
        self.folder = Folder(str(folder))
        self.processes: list[asyncio.subprocess.Process] = []

    def app(self) -> Floxide:
        return application(*self.place)

    async def start_worker(self, gap: str = "") -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.worker_app", *self.place, gap, cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self.processes.append(process)
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"ready\n"
        return process

    async def until(self, holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110 - other processes make it so
                await asyncio.sleep(0.02)

    async def noted(self, word: str, count: int = 1) -> None:
        await self.until(lambda: sum(line.startswith(word) for line in self.folder.notes()) >= count)

    async def close(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest_asyncio.fixture
async def bench(rabbitmq_url: str, namespace: str, tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(rabbitmq_url, namespace, tmp_path)
    yield made
    await made.close()


async def check_squares(orchestrator: Orchestrator, run_id: str) -> None:
    history = [entry.item_id for entry in await orchestrator.work_items(run_id, limit=1_000)]
    assert len(history) == len(set(history)) == ITEMS + 2
    assert (await orchestrator.context(Squares, run_id)).worked == ITEMS
    metrics = await orchestrator.metrics(run_id)
    assert (metrics.live_items, metrics.waiting_items) == (0, 0)


@pytest.mark.fault(1, 2, 3, 4)
@pytest.mark.parametrize("gap", ["before the node", "after the node", "after the commit", "after the publish"])
async def test_a_worker_killed_in_a_gap_of_a_step_costs_time_only(bench: Bench, gap: str) -> None:
    victim = await bench.start_worker(gap)
    async with bench.app().orchestrator() as orchestrator:
        run = await orchestrator.start(Squares, 1, run_id="run")
        assert await asyncio.wait_for(victim.wait(), PATIENCE) == -signal.SIGKILL
        await bench.start_worker()
        assert await run.result(PATIENCE) == SUM
        await check_squares(orchestrator, "run")
    bodies = [line.rsplit(" ", 1)[0] for line in bench.folder.notes()]
    assert set(bodies) == {"split", "add", *(f"work {n}" for n in range(ITEMS))}


@pytest.mark.fault(2)
async def test_a_killed_worker_with_a_long_step_is_missed_and_its_step_run_elsewhere(bench: Bench) -> None:
    victim = await bench.start_worker()
    async with bench.app().orchestrator() as orchestrator:
        run = await orchestrator.start(Waiting, 1, run_id="run")
        await bench.noted("wait")
        await shown(orchestrator, lambda item: item.status is WorkItemStatus.IN_PROGRESS)
        victim.kill()
        await bench.start_worker()
        await bench.noted("wait", 2)
        bench.folder.set("go")
        assert await run.result(PATIENCE) == 2
        assert (await orchestrator.context(Waiting, "run")).worked == 1


async def test_a_worker_told_to_stop_ends_its_step_and_exits_with_success(bench: Bench) -> None:
    process = await bench.start_worker()
    async with bench.app().orchestrator() as orchestrator:
        run = await orchestrator.start(Waiting, 1, run_id="run")
        await bench.noted("wait")
        process.terminate()
        await asyncio.sleep(0.3)
        bench.folder.set("go")
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
        assert next(entry.node for entry in await orchestrator.work_items("run")) == "wait"
        assert await orchestrator.workers() == []
        await bench.start_worker()
        assert await run.result(PATIENCE) == 2
    assert len(bench.folder.notes()) == 1


async def test_cancel_reaches_a_node_in_flight_in_another_process(bench: Bench) -> None:
    await bench.start_worker()
    async with bench.app().orchestrator() as orchestrator:
        run = await orchestrator.start(Waiting, 1, run_id="run")
        await bench.noted("wait")
        assert await run.cancel("enough")
        await bench.noted("interrupted")
        with pytest.raises(RunCancelledError, match="enough"):
            await run.result(PATIENCE)
        assert (await orchestrator.context(Waiting, "run")).worked == 0


async def test_a_paused_run_stands_still_until_it_is_resumed(bench: Bench) -> None:
    await bench.start_worker()
    async with bench.app().orchestrator() as orchestrator:
        run = await orchestrator.start(Waiting, 1, run_id="run")
        await bench.noted("wait")
        await run.pause()
        bench.folder.set("go")
        await shown(orchestrator, lambda item: item.node == "after")
        await asyncio.sleep(3 * QUICK.maintenance)
        assert await run.status() is RunStatus.PAUSED
        assert [item.node for item in await orchestrator.pending_work("run")] == ["after"]
        await run.resume()
        assert await run.result(PATIENCE) == 2
    assert len(bench.folder.notes()) == 1


@pytest.mark.fault(35)
async def test_garbage_is_quarantined_and_the_worker_goes_on(bench: Bench) -> None:
    await bench.start_worker()
    async with bench.app().orchestrator() as orchestrator:
        await orchestrator.services.queue.publish([Message(queue="default", body=b"\xc1 not a message")])
        run = await orchestrator.start(Squares, 1, run_id="run")
        assert await run.result(PATIENCE) == SUM
        assert [each.body for each in await orchestrator.quarantine()] == [b"\xc1 not a message"]


@pytest.mark.fault(38)
async def test_a_workflow_nobody_knows_is_parked_and_taken_by_a_worker_that_has_it(bench: Bench) -> None:
    stranger = await bench.start_worker()
    broker, store, namespace, _ = bench.place
    knowing = Floxide(broker, store=store, namespace=namespace, workflows=[Elsewhere], timeouts=QUICK)
    async with knowing.orchestrator() as orchestrator:
        run = await orchestrator.start(Elsewhere, 1, run_id="run")
        await shown(orchestrator, lambda item: item.status is WorkItemStatus.PARKED)
        assert await run.status() in (RunStatus.PENDING, RunStatus.WAITING)
        stranger.terminate()
        await stranger.wait()
        async with served(knowing, "default", "unserved"):
            assert await run.result(PATIENCE) == 12


@pytest.mark.fault(15)
async def test_a_message_that_finds_no_queue_waits_visibly_until_there_is_one(bench: Bench) -> None:
    broker, store, namespace, _ = bench.place
    settings = AmqpSettings(declares_missing_queues=False)
    app = Floxide(
        broker, store=store, namespace=namespace, workflows=[Elsewhere], timeouts=QUICK, broker_settings=settings
    )
    async with app.orchestrator() as orchestrator, served(app, "default"):
        run = await orchestrator.start(Elsewhere, 1, run_id="run")
        await shown(orchestrator, lambda item: "no queue" in item.note)
        async with served(app, "unserved"):
            assert await run.result(PATIENCE) == 12


async def shown(orchestrator: Orchestrator, holds: Callable[[WorkItemInfo], bool]) -> None:
    """Wait until one of the run's pending items is shown so."""
    async with asyncio.timeout(PATIENCE):
        while not any(holds(item) for item in await orchestrator.pending_work("run")):  # noqa: ASYNC110 - elsewhere
            await asyncio.sleep(0.05)


@asynccontextmanager
async def served(app: Floxide, *queues: str) -> AsyncGenerator[None]:
    """A worker of this process that serves some queues while the block lasts."""
    async with app.worker(queues=queues) as worker:
        task = asyncio.create_task(worker.run_forever())
        try:
            yield
        finally:
            worker.stop()
            await task


@pytest.mark.fault(7, 8)
@pytest.mark.xdist_group("own_rabbitmq")
@pytest.mark.parametrize("how", ["kill", "wipe"])
async def test_runs_outlive_a_broker_that_is_killed_or_loses_everything(
    own_rabbitmq: RabbitMQ, namespace: str, tmp_path: Path, how: str
) -> None:
    bench = Bench(own_rabbitmq.url, namespace, tmp_path)
    try:
        await bench.start_worker()
        await bench.start_worker()
        async with bench.app().orchestrator() as orchestrator:
            runs = [await orchestrator.start(Waiting, n, run_id=f"run-{n}") for n in range(12)]
            await bench.noted("wait", 8)
            await asyncio.to_thread(own_rabbitmq.kill)
            if how == "wipe":
                await asyncio.to_thread(own_rabbitmq.wipe)
            await asyncio.to_thread(own_rabbitmq.start)
            bench.folder.set("go")
            assert [await run.result(PATIENCE) for run in runs] == [n + 1 for n in range(12)]
            for run in runs:
                assert (await orchestrator.context(Waiting, run.run_id)).worked == 1
                assert (await orchestrator.services.runs.load(RunId(run.run_id))).counts.live == 0
    finally:
        await bench.close()
