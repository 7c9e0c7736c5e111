from __future__ import annotations

import pytest

from floxide_amqp import Floxide, NoContext, RunFailedError, Timeouts, Workflow, WorkflowCtx, node

NEVER_LOOKS = Timeouts(result_backstop=600)
"""A waiter that is not woken hangs, instead of looking at the store every other second."""


class Door:
    def __init__(self) -> None:
        self.is_open = False


DOOR = Door()


@node
async def enter(ctx: WorkflowCtx[NoContext], name: str) -> str:
    if not DOOR.is_open:
        raise RuntimeError("closed")
    return f"{name} is in"


class Entering(Workflow[str, str]):
    start = enter


async def test_in_one_process_a_client_hears_the_end_of_a_run_that_another_client_started() -> None:
    DOOR.is_open = False
    app = Floxide(workflows=[Entering], timeouts=NEVER_LOOKS)
    async with app.orchestrator() as first:
        run = await first.start(Entering, "Ada")
        with pytest.raises(RunFailedError):
            await run.result(timeout=20)
    DOOR.is_open = True
    async with app.orchestrator() as second:
        handle = second.handle(Entering, run.run_id)
        await handle.resume()
        assert await handle.result(timeout=20) == "Ada is in"
