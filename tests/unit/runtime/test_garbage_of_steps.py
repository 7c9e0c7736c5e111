"""A step leaves nothing behind that only the garbage collector finds: what it returned may be large."""

from __future__ import annotations

import gc

import pytest

from floxide_amqp import Floxide, Limits, RunFailedError, Workflow, node


@node
async def halve(number: int) -> int:
    if number % 2:
        raise ValueError("odd")
    return number // 2


class Halving(Workflow[int, int]):
    start = halve


@pytest.mark.parametrize("number", [2, 3], ids=["a step that completes", "a step that fails"])
async def test_steps_leave_no_cycles_to_the_garbage_collector(number: int) -> None:
    async with Floxide(workflows=[Halving], limits=Limits(chain_steps=1)).orchestrator() as orchestrator:

        async def play() -> None:
            handle = await orchestrator.start(Halving, number)
            if number % 2:
                with pytest.raises(RunFailedError):
                    await handle.result()
            else:
                assert await handle.result() == 1

        await play()
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await play()
            found = gc.collect()
        finally:
            gc.enable()
    assert found < 20, "less than an object for each of the steps"
