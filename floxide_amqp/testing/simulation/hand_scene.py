"""A scene of people: outputs given by hand, contexts edited, runs begun anew from their past."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

from floxide_amqp import (
    Abort,
    Append,
    Context,
    Hold,
    InvalidRunStateError,
    Orchestrator,
    RunStatus,
    Workflow,
    WorkflowCtx,
    WorkItemNotFoundError,
    node,
)
from floxide_amqp.testing.simulation.exercised import ExerciseWatch
from floxide_amqp.testing.simulation.saga_scene import RefusedError
from floxide_amqp.testing.simulation.scene import LOOK_SECONDS, NEVER, Scene


class Steps(Context):
    """Which steps there were."""

    names: Annotated[list[str], Append()] = []  # noqa: RUF012 - defaults are copied per run


@node
async def measure(ctx: WorkflowCtx[Steps], number: int) -> int:
    """Add one."""
    ctx.state.names.append("measure")
    return number + 1


@node
async def judge(ctx: WorkflowCtx[Steps], number: int) -> int | Hold | Abort:
    """Fail below zero, wait at zero."""
    ctx.state.names.append("judge")
    if number < 0:
        return Abort(RefusedError(str(number)))
    return number or Hold(until=NEVER)


@node
async def tell(ctx: WorkflowCtx[Steps], number: int) -> str:
    """Tell how it came about."""
    return f"{number} after {', '.join(ctx.state.names)}"


class Judging(Workflow[int, str, Steps]):
    """Three steps."""

    start = measure
    edges = (measure >> judge >> tell,)


class ByHand(Scene):
    """Runs that are retried with another input, forked, gone on with by hand, and given their output."""

    workflows = (Judging,)
    ends: Mapping[str, Any] = {
        "hand-retried": "7 after measure, judge",
        "hand-forked": "4 after measure, judge",
        "hand-fork": "40 after measure, judge",
        "hand-completed": "9 after measure, judge, hand",
        "hand-given": "by hand",
    }

    async def act(self, client: Orchestrator) -> None:
        """Start them, do it, and wait."""
        for run_id, number in {"hand-retried": -5, "hand-forked": 3, "hand-completed": -1, "hand-given": -1}.items():
            await client.start(Judging, number, run_id=run_id)
        await client.wait("hand-retried")
        with suppress(InvalidRunStateError):
            await client.retry("hand-retried", input=7)
        await client.wait("hand-forked")
        (item,) = [each for each in await client.work_items("hand-forked") if each.node == "judge"]
        await client.fork(Judging, "hand-forked", from_item=item.item_id, new_run_id="hand-fork", input=40)
        await self._complete(client)
        await self._give(client)
        for run_id in self.ends:
            await client.wait(run_id)

    async def _complete(self, client: Orchestrator) -> None:
        await _until_held(client, "hand-completed")
        with suppress(InvalidRunStateError, WorkItemNotFoundError):  # somebody before this one did
            await client.pause("hand-completed")
            await client.edit_context(Judging, "hand-completed", _add_hand)
            for item in await client.pending_work("hand-completed"):
                await client.complete_item("hand-completed", item.item_id, 9)
        with suppress(InvalidRunStateError):
            await client.resume("hand-completed")

    async def _give(self, client: Orchestrator) -> None:
        await _until_held(client, "hand-given")
        with suppress(InvalidRunStateError):
            await client.complete("hand-given", "by hand")

    async def check(self, client: Orchestrator, watch: ExerciseWatch) -> list[str]:
        """Each came to what hands made of it."""
        results = {run_id: await client.handle(Judging, run_id).result() for run_id in self.ends}
        return [f"I5: run {run_id} returned {found!r}, not {self.ends[run_id]!r}" for run_id, found in results.items()
                if found != self.ends[run_id]]  # fmt: skip


def _add_hand(state: Steps) -> None:
    if "hand" not in state.names:
        state.names.append("hand")


async def _until_held(client: Orchestrator, run_id: str) -> None:
    """Wait until the judge of a run waits, or somebody did something about it."""
    while True:
        if (await client.status(run_id)) in (RunStatus.PAUSED, RunStatus.COMPLETED):
            return
        if any(item.node == "judge" and item.status.value == "held" for item in await client.pending_work(run_id)):
            return
        await asyncio.sleep(LOOK_SECONDS)
