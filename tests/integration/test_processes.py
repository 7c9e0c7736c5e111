"""Nodes in processes of their own: real processes, started, used again, killed, and dying."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from floxide_amqp import Floxide, Limits, RunStatus, Workflow, node
from floxide_amqp.exceptions import ConfigurationError, RunFailedError
from floxide_amqp.runtime.orchestrator import Orchestrator
from tests.integration.process_app import (
    Describe,
    DyingOnce,
    Hanging,
    HangingOn,
    Order,
    Outer,
    Paced,
    Sum,
    Transitions,
    Which,
    Wrong,
)

ALL = [Describe, DyingOnce, Hanging, HangingOn, Outer, Sum, Transitions, Which, Wrong]


@asynccontextmanager
async def opened(**limits: int) -> AsyncIterator[Orchestrator]:
    app = Floxide(workflows=ALL, limits=Limits(processes=2, **limits))
    async with app.orchestrator() as orchestrator:
        yield orchestrator


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def ended(*pids: int) -> None:
    while any(is_running(pid) for pid in pids):  # noqa: ASYNC110 - another process makes it so
        await asyncio.sleep(0.02)


def is_there(path: Path) -> bool:
    return path.exists()


def text_in(path: Path) -> str:
    return path.read_text()


async def text_of(path: Path) -> str:
    while not is_there(path):  # noqa: ASYNC110 - another process makes it so
        await asyncio.sleep(0.02)
    return text_in(path)


async def test_a_body_in_a_process_has_its_input_its_facts_and_its_log_and_its_process_is_used_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with opened() as orchestrator:
        handle = await orchestrator.start(Describe, Order("lamp", (1, 2)), run_id="lamp")
        said = await handle.result(60)
        again = await (await orchestrator.start(Describe, Order("table"))).result(60)
        info = await orchestrator.run_info("lamp")

    assert (said["name"], said["parts"], said["run"], said["attempt"]) == ("lamp", "3", "lamp", "1")
    assert said["key"].startswith("lamp:")
    assert said["left"] == "True"
    assert int(said["pid"]) != os.getpid()
    assert again["pid"] == said["pid"]
    assert info.attributes == {"named": "lamp"}
    assert "order.described run_id=lamp" in caplog.text
    assert "plain words about table" in caplog.text
    assert not is_running(int(said["pid"])), "closed with its worker"


async def test_fan_outs_gathers_node_classes_and_composites_run_in_processes() -> None:
    async with opened() as orchestrator:
        alone = await orchestrator.start(Sum, 20)
        inlined = await orchestrator.start(Outer, 10)

        assert await alone.result(60) == 10 * sum(range(20))
        assert await inlined.result(60) == 10 * sum(range(10))
        assert len(orchestrator.services.processes) == 2


async def test_transitions_and_errors_cross_the_border(tmp_path: Path) -> None:
    async with opened() as orchestrator:
        held = await orchestrator.start(Transitions, str(tmp_path / "held"))
        assert await held.result(60) == "held"
        aborted = await orchestrator.start(Transitions, "abort")
        with pytest.raises(RunFailedError, match="StockError: 0 left of 1"):
            await aborted.result(60)
        handle = await orchestrator.start(Wrong, "raise", run_id="wrong")

        assert await handle.result(60) == -1, "its class chose the edge"
        (error,) = await orchestrator.errors("wrong")
        assert (error.error_type, error.message) == ("StockError", "2 left of 7")
        assert "raise StockError(7, left=2)" in error.traceback


ENDS = {
    "os._exit": r"NodeProcessDiedError: Process \d+, in which node 'wrong' ran, died: it exited with code 5",
    "segfault": r"died: killed by SIGSEGV",
    "descriptors": r"died: its end of the socket was closed",
    "exit": r"NodeInterruptedError: Node 'wrong' raised SystemExit",
    "stop": r"RuntimeError: node 'wrong' raised StopIteration",
    "mismatch": r"PayloadMismatchError: Node 'wrong' returned a wrong value: it must be int",
}


async def test_whatever_becomes_of_a_body_fails_its_attempt_alone() -> None:
    async with opened() as orchestrator:
        for how, message in ENDS.items():
            handle = await orchestrator.start(Wrong, how)
            with pytest.raises(RunFailedError, match=message):
                await handle.result(60)
        for how in ("", "stdout", "closed stderr", ""):
            assert await (await orchestrator.start(Wrong, how)).result(60) == 0
        assert orchestrator.services.processes.died == 3


async def test_a_line_that_a_filter_of_the_worker_stumbles_over_is_lost_and_the_body_is_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stumble(record: logging.LogRecord) -> bool:
        raise ValueError(record.name)

    monkeypatch.setattr(logging.getLogger("process_app"), "filters", [stumble])
    async with opened() as orchestrator:
        assert await (await orchestrator.start(Wrong, "log")).result(60) == 0

    assert any("process.log_refused" in each.getMessage() for each in caplog.records)


async def test_a_process_that_dies_counts_as_a_failed_attempt() -> None:
    async with opened() as orchestrator:
        handle = await orchestrator.start(DyingOnce, 1, run_id="dying")

        assert await handle.result(60)
        assert [each.error_type for each in await orchestrator.errors("dying")] == ["NodeProcessDiedError"]
        assert orchestrator.services.processes.died == 1


async def test_a_timeout_kills_the_process() -> None:
    async with opened() as orchestrator:
        pid = await (await orchestrator.start(Which, 1)).result(60)
        handle = await orchestrator.start(Hanging, 1)
        with pytest.raises(RunFailedError, match="did not end within its timeout"):
            await handle.result(60)

        await ended(pid)
        assert len(orchestrator.services.processes) == 0
        assert not orchestrator.services.inflight.left_behind


async def test_a_cancellation_kills_the_process_and_what_it_has_started(tmp_path: Path) -> None:
    async with opened() as orchestrator:
        handle = await orchestrator.start(HangingOn, str(tmp_path))
        pids = map(int, (await text_of(tmp_path / "pids")).split())
        await handle.cancel()

        await ended(*pids)
        assert await handle.status() is RunStatus.CANCELLED


async def test_a_process_that_dies_while_it_lies_idle_costs_no_attempt() -> None:
    async with opened() as orchestrator:
        first = await (await orchestrator.start(Which, 1)).result(60)
        os.kill(first, signal.SIGKILL)
        second = await (await orchestrator.start(Which, 2, run_id="second")).result(60)

        assert second != first
        assert await orchestrator.errors("second") == []


async def test_a_process_is_replaced_after_so_many_bodies() -> None:
    async with opened(process_bodies=2) as orchestrator:
        pids = [await (await orchestrator.start(Which, each)).result(60) for each in range(3)]

    assert pids[0] == pids[1] != pids[2]


async def test_no_process_outlives_its_worker_that_is_killed(tmp_path: Path) -> None:
    program = f"""
import asyncio
from floxide_amqp import Floxide
from tests.integration.process_app import HangingOn

async def main():
    async with Floxide(workflows=[HangingOn]).orchestrator() as orchestrator:
        await (await orchestrator.start(HangingOn, {str(tmp_path)!r})).result()

asyncio.run(main())
"""
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=Path(__file__).parents[2])
    try:
        body, started = map(int, (await text_of(tmp_path / "pids")).split())
    finally:
        worker.kill()
        await worker.wait()

    await ended(body)
    with suppress(ProcessLookupError):  # what a body has started may outlive it then
        os.kill(started, signal.SIGKILL)


async def test_a_workflow_that_no_process_can_import_is_refused_when_a_worker_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @node(executor="process")
    def nothing(x: int) -> int:
        return x

    class Local(Workflow[int, int]):
        start = nothing

    with pytest.raises(
        ConfigurationError, match=r"<locals>\.Local is not that class\. Define it at the top of a module"
    ):
        async with Floxide(workflows=[Local]).worker():
            pass
    monkeypatch.setattr(Which, "__module__", "__main__")
    with pytest.raises(ConfigurationError, match="Move the workflow and its nodes into a module of their own"):
        async with Floxide(workflows=[Which]).worker():
            pass


async def test_bodies_in_processes_start_at_the_instants_of_their_rate_limit() -> None:
    async with Floxide(workflows=[Paced], limits=Limits(processes=1)).orchestrator() as orchestrator:
        began = await (await orchestrator.start(Paced, 9)).result(60)
    assert max(sum(first <= each < first + 1 for each in began) for first in began) <= 5
