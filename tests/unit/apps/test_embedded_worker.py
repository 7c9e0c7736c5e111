"""A worker beside an orchestrator: its end is the orchestrator's business."""

from __future__ import annotations

import asyncio

import pytest

from floxide_amqp import Floxide, Workflow, node
from floxide_amqp.exceptions import RunFailedError, StoreError
from floxide_amqp.runtime.worker import Worker


@node
async def double(n: int) -> int:
    if n < 0:
        raise ValueError("too small")
    return 2 * n


class Doubling(Workflow[int, int]):
    start = double


async def test_a_worker_that_breaks_ends_the_block_that_waits_for_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(worker: Worker) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(Worker, "run_forever", broken)
    with pytest.raises(StoreError, match="the disk is full"):
        async with Floxide(workflows=[Doubling]).orchestrator() as orchestrator:
            await (await orchestrator.start(Doubling, 1)).result()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_block_that_is_cancelled_from_outside_stays_cancelled() -> None:
    entered = asyncio.Event()

    async def waits() -> None:
        async with Floxide(workflows=[Doubling]).orchestrator():
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    with pytest.raises(RunFailedError, match="too small"):
        async with Floxide(workflows=[Doubling]).orchestrator() as orchestrator:
            await (await orchestrator.start(Doubling, -1)).result()
