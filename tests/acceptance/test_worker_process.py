"""`floxide worker` as a process: blocked by its nodes, told to stop under load, stopped half-way, killed."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from floxide_amqp import RunStatus

ROOT = Path(__file__).parents[2]

MILL = r"""
import asyncio
import os
import time
from pathlib import Path

from floxide_amqp import Floxide, Timeouts, Workflow, WorkflowCtx, node

FOLDER = Path(__file__).parent
QUICK = Timeouts(
    early_acknowledge=0.5, heartbeat=0.3, dead_after=float(os.environ.get("MILL_DEAD_AFTER", "2.5")), maintenance=0.3,
    probe=1.0, publish_retry=0.5, drain=float(os.environ.get("MILL_DRAIN", "2.0")), cancel_grace=0.5,
    result_backstop=0.2, loop_blocked=1.0, loop_hung=float(os.environ.get("MILL_LOOP_HUNG", "4.0")),
)


def note(ctx: WorkflowCtx, what: str) -> None:
    with (FOLDER / "bodies").open("a") as file:
        file.write(f"{what} {ctx.run_id} {ctx.worker_id}\n")


@node
async def grind(ctx: WorkflowCtx, x: int) -> int:
    note(ctx, "grind")
    await asyncio.sleep(0.05)
    return x + 1


@node
async def sift(ctx: WorkflowCtx, x: int) -> int:
    note(ctx, "sift")
    await asyncio.sleep(0.05)
    return x + 1


@node
async def pack(ctx: WorkflowCtx, x: int) -> int:
    note(ctx, "pack")
    return x + 1


class Milling(Workflow[int, int]):
    start = grind
    edges = (grind >> sift >> pack,)


@node
async def blocks(ctx: WorkflowCtx, seconds: float) -> int:
    note(ctx, "blocks")
    await asyncio.sleep(1.0 if seconds > 0 else 0.0)  # with and without an owner entry
    if not (FOLDER / "blocked").exists():
        (FOLDER / "blocked").touch()
        time.sleep(abs(seconds))
    return 1


class Blocking(Workflow[float, int]):
    start = blocks
    edges = (blocks >> pack,)


@node
async def stays(ctx: WorkflowCtx, x: int) -> int:
    note(ctx, "stays")
    while not (FOLDER / "go").exists():
        await asyncio.sleep(0.02)
    return x


class Staying(Workflow[int, int]):
    start = grind
    edges = (grind >> stays >> pack,)


@node(timeout=1.0)
async def swallows(ctx: WorkflowCtx, x: int) -> int:
    note(ctx, "swallows")
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            note(ctx, "swallowed")


class Swallowing(Workflow[int, int]):
    start = swallows
    edges = (swallows >> pack,)


app = Floxide(
    os.environ.get("MILL_BROKER"), store=f"sqlite:///{FOLDER}/runs.db", namespace=os.environ.get("MILL_NAMESPACE", "x"),
    workflows=[Milling, Blocking, Staying, Swallowing], timeouts=QUICK,
)
"""


@dataclass
class Worker:
    process: subprocess.Popen[bytes]
    log: Path

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = (line for line in self.log.read_text().splitlines() if line.startswith("{") and line.endswith("}"))
        return [found for line in lines if (found := json.loads(line))["event"] == event]

    async def until_logged(self, event: str, seconds: float = 90.0) -> dict[str, Any]:
        await until(lambda: bool(self.logged(event)), seconds, lambda: self.log.read_text()[-3_000:])
        return self.logged(event)[0]

    async def end(self, seconds: float = 90.0) -> int:
        return await asyncio.to_thread(self.process.wait, seconds)


@dataclass
class Mill:
    """A folder with the application and the workers started there."""

    folder: Path
    environment: dict[str, str]
    module: Any
    workers: list[Worker] = field(default_factory=list)

    async def start_worker(self, name: str) -> Worker:
        log = self.folder / f"log-{len(self.workers)}"
        command = ["worker", "mill:app", "--concurrency", "8", "--name", name, "--log-format", "json"]
        with log.open("wb") as file:
            process = subprocess.Popen(  # noqa: ASYNC220 - begun, not waited for
                [sys.executable, "-m", "floxide_amqp.apps.cli", *command], cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip
        self.workers.append(Worker(process, log))
        return self.workers[-1]

    async def worker_at_work(self, name: str) -> Worker:
        worker = await self.start_worker(name)
        await worker.until_logged("worker.started")
        return worker

    async def stop_outside_of_a_write(self, worker: Worker) -> None:
        """Stop a worker that does not hold the lock of the store's file: nobody else could write until it goes on."""
        while True:
            worker.process.send_signal(signal.SIGSTOP)
            await asyncio.to_thread(os.waitpid, worker.process.pid, os.WUNTRACED)
            try:
                with closing(sqlite3.connect(self.folder / "runs.db", timeout=0.0, isolation_level=None)) as other:
                    other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                worker.process.send_signal(signal.SIGCONT)
                await asyncio.sleep(0.01)
            else:
                return

    def bodies(self) -> Counter[tuple[str, str]]:
        """How often which node of which run has begun."""
        path = self.folder / "bodies"
        lines = path.read_text().splitlines() if path.exists() else []
        return Counter((line.split()[0], line.split()[1]) for line in lines)

    def close(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.wait()


async def until(holds: Callable[[], bool], seconds: float = 90.0, why: Callable[[], str] = str) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110 - other processes make it so
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(why()) from None


@pytest_asyncio.fixture
async def mill(
    rabbitmq_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Mill]:
    (tmp_path / "mill.py").write_text(MILL)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLOXIDE_", "MILL_"))}
    place = {"MILL_BROKER": rabbitmq_url, "MILL_NAMESPACE": namespace, "PYTHONPATH": str(ROOT)}
    monkeypatch.setenv("MILL_BROKER", rabbitmq_url)
    monkeypatch.setenv("MILL_NAMESPACE", namespace)
    spec = importlib.util.spec_from_file_location("mill", tmp_path / "mill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mill", module)
    spec.loader.exec_module(module)
    made = Mill(tmp_path, kept | place, module)
    yield made
    made.close()


@pytest.mark.fault(39)
@pytest.mark.parametrize("seconds", [120.0, -120.0], ids=["noted in the store", "held by its message"])
async def test_a_worker_whose_loop_a_node_blocks_says_which_and_ends_and_another_goes_on(
    mill: Mill, seconds: float
) -> None:
    blocked = await mill.worker_at_work("blocked")
    async with mill.module.app.orchestrator() as orchestrator:
        run = await orchestrator.start(mill.module.Blocking, seconds, run_id="run")
        found = await blocked.until_logged("loop.blocked")
        assert (found["node"], found["run_id"]) == ("blocks", "run")
        assert "time.sleep(abs(seconds))" in found["stack"]
        assert await blocked.end() == 75
        assert blocked.logged("loop.hung")[0]["ends_process"] is True
        await mill.worker_at_work("other")
        assert await run.result(90) == 2
    assert mill.bodies() == {("blocks", "run"): 2, ("pack", "run"): 1}


@pytest.mark.fault(39)
def test_a_process_that_only_runs_a_workflow_is_never_ended_for_a_loop_that_is_blocked(mill: Mill) -> None:
    command = ["run", "mill:app", "Blocking", "--input", "-6.0", "--store", f"sqlite:///{mill.folder}/own.db"]
    done = subprocess.run(
        [sys.executable, "-m", "floxide_amqp.apps.cli", *command], cwd=mill.folder, env=mill.environment, text=True,
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


@pytest.mark.fault(44)
async def test_a_worker_told_to_stop_under_load_loses_and_repeats_nothing(mill: Mill) -> None:
    mill.environment |= {"MILL_DRAIN": "60", "MILL_DEAD_AFTER": "60"}  # nobody is to run out of time here
    stopped = await mill.worker_at_work("stopped")
    await mill.worker_at_work("other")
    async with mill.module.app.orchestrator() as orchestrator:
        runs = [await orchestrator.start(mill.module.Milling, n, run_id=f"run-{n}") for n in range(60)]
        await until(lambda: len(mill.bodies()) >= 30)
        stopped.process.send_signal(signal.SIGTERM)
        assert await stopped.end() == 0
        assert stopped.logged("worker.drain_timed_out") == []
        assert [await run.result(90) for run in runs] == [n + 3 for n in range(60)]
    expected = {(name, f"run-{n}") for n in range(60) for name in ("grind", "sift", "pack")}
    assert mill.bodies() == dict.fromkeys(expected, 1), "every body ran once"


@pytest.mark.fault(44)
async def test_a_step_that_outlasts_the_drain_is_given_back_and_what_was_committed_is_not_repeated(mill: Mill) -> None:
    stopped = await mill.worker_at_work("stopped")
    async with mill.module.app.orchestrator() as orchestrator:
        run = await orchestrator.start(mill.module.Staying, 1, run_id="run")
        await until(lambda: ("stays", "run") in mill.bodies())
        stopped.process.send_signal(signal.SIGTERM)
        assert await stopped.end() == 0
        assert stopped.logged("worker.drain_timed_out")
        await mill.worker_at_work("other")
        await until(lambda: mill.bodies()["stays", "run"] == 2)
        (mill.folder / "go").touch()
        assert await run.result(90) == 3
        assert await orchestrator.errors("run") == []
    assert mill.bodies() == {("grind", "run"): 1, ("stays", "run"): 2, ("pack", "run"): 1}


@pytest.mark.fault(42, 44)
async def test_a_node_that_swallows_its_cancellation_does_not_keep_a_worker_that_is_told_to_stop(mill: Mill) -> None:
    worker = await mill.worker_at_work("stubborn")
    async with mill.module.app.orchestrator() as orchestrator:
        left = await orchestrator.start(mill.module.Swallowing, 1, run_id="left")
        assert await left.wait(90) is RunStatus.FAILED  # by its timeout, and its body goes on
        at_work = await orchestrator.start(mill.module.Swallowing, 1, run_id="at-work")
        await until(lambda: ("swallows", "at-work") in mill.bodies())
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.end() == 0
        assert "The body of node swallows does not heed its cancellation" in worker.log.read_text()
        assert await at_work.status() in (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.FAILED)


@pytest.mark.fault(44)
async def test_a_worker_killed_at_the_end_of_its_grace_is_recovered_from(mill: Mill) -> None:
    mill.environment["MILL_LOOP_HUNG"] = "600"  # it does not end by itself
    killed = await mill.worker_at_work("killed")
    async with mill.module.app.orchestrator() as orchestrator:
        run = await orchestrator.start(mill.module.Blocking, 120.0, run_id="run")
        await until((mill.folder / "blocked").exists)
        killed.process.send_signal(signal.SIGTERM)  # which the blocked loop does not even hear
        await asyncio.sleep(0.5)
        killed.process.kill()
        assert await killed.end() == -signal.SIGKILL
        await mill.worker_at_work("other")
        assert await run.result(90) == 2
    assert mill.bodies()["pack", "run"] == 1


@pytest.mark.fault(44)
async def test_a_second_signal_ends_a_worker_at_once_even_while_a_node_blocks_its_loop(mill: Mill) -> None:
    mill.environment["MILL_LOOP_HUNG"] = "600"
    blocked = await mill.worker_at_work("blocked")
    async with mill.module.app.orchestrator() as orchestrator:
        await orchestrator.start(mill.module.Blocking, 600.0, run_id="run")
        await until((mill.folder / "blocked").exists)
        for _ in range(200):  # two that come too close together are one to the process
            blocked.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            if blocked.process.poll() is not None:
                break
        assert blocked.process.poll() == 143


async def test_a_second_worker_of_a_name_is_refused_with_what_to_do_and_a_dead_ones_name_is_free(mill: Mill) -> None:
    mill.environment["MILL_DEAD_AFTER"] = "30"  # the first must not seem dead
    first = await mill.worker_at_work("same")
    second = await mill.start_worker("same")
    assert await second.end() == 3
    words = " ".join(second.log.read_text().split())
    assert f"as process {first.process.pid}: its heartbeat goes on" in words
    assert "start this one with another name" in words
    first.process.kill()
    await first.end()
    third = await mill.worker_at_work("same")
    assert third.logged("worker.name_watched") == [], "the process of this machine is provably gone"
    async with mill.module.app.orchestrator() as orchestrator:
        run = await orchestrator.start(mill.module.Milling, 1, run_id="run")
        assert await run.wait(90) is RunStatus.COMPLETED


@pytest.mark.fault(6)
async def test_a_worker_that_was_stopped_while_another_took_its_name_ends_when_it_goes_on(mill: Mill) -> None:
    zombie = await mill.worker_at_work("same")
    await mill.stop_outside_of_a_write(zombie)
    heir = await mill.worker_at_work("same")
    assert heir.logged("worker.name_watched")
    assert heir.logged("worker.name_taken_over")
    zombie.process.send_signal(signal.SIGCONT)
    assert await zombie.end() == 3
    assert "has taken over the name 'same'" in " ".join(zombie.log.read_text().split())
    async with mill.module.app.orchestrator() as orchestrator:
        assert [worker.pid for worker in await orchestrator.workers()] == [heir.process.pid]
        run = await orchestrator.start(mill.module.Milling, 1, run_id="run")
        assert await run.wait(90) is RunStatus.COMPLETED
