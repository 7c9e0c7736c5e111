"""A scene of sagas: runs that book, are refused, and undo what they did."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from floxide_amqp import (
    Abort,
    Compensation,
    Concurrency,
    Hold,
    InvalidRunStateError,
    NoContext,
    Orchestrator,
    RunStatus,
    Workflow,
    WorkflowCtx,
    node,
)
from floxide_amqp.testing.simulation.exercised import ExerciseWatch
from floxide_amqp.testing.simulation.scene import LOOK_SECONDS, NEVER, UNREADABLE, Outside, Scene


class RefusedError(Exception):
    """What a run fails with, on purpose."""


@node
async def undo(ctx: WorkflowCtx[NoContext], of: Compensation[str, str]) -> None:
    """Undo a booking."""
    ctx.resource(Outside).undid.append(of.idempotency_key)


@node(compensation=undo)
async def book(ctx: WorkflowCtx[NoContext], plan: str) -> str:
    """Book something."""
    ctx.resource(Outside).did.append(ctx.idempotency_key)
    await ctx.sleep(0.02)
    return plan


@node
async def decide(plan: str) -> str | Hold | Abort:
    """End as the plan says, or wait for somebody to end it."""
    if plan == "failed":
        return Abort(RefusedError(plan))
    return plan if plan == "kept" else Hold(until=NEVER)


class Travelling(Workflow[str, str], concurrency=Concurrency("travels", limit=2)):
    """Books three things; others wait meanwhile."""

    start = book.named("flight")
    edges = (book.named("flight") >> book.named("hotel") >> book.named("car") >> decide,)


class Sagas(Scene):
    """Runs that fail, are cancelled, terminated, or go well: what each did is undone as promised.

    Args:
        outside: What their nodes did.
        moment: How soon they are stopped, 0 to 1.
    """

    workflows = (Travelling,)
    ends: Mapping[str, Any] = {
        "kept": RunStatus.COMPLETED, "failed": RunStatus.FAILED, "cancelled": RunStatus.CANCELLED,
        "terminated": RunStatus.CANCELLED,
    }  # fmt: skip

    def __init__(self, outside: Outside, moment: float) -> None:
        self._outside = outside
        self._moment = moment

    async def act(self, client: Orchestrator) -> None:
        """Start them, stop two, and wait; what fails because a record is damaged goes on until it is repaired."""
        for plan in self.ends:
            await client.start(Travelling, plan, run_id=f"saga-{plan}")
        await asyncio.sleep(self._moment * 0.3)
        await client.cancel("saga-cancelled")
        await client.terminate("saga-terminated")
        for plan in self.ends:
            while await _is_damaged(client, f"saga-{plan}"):
                await asyncio.sleep(LOOK_SECONDS)
                if not await self._go_on(client, plan):
                    break

    async def _go_on(self, client: Orchestrator, plan: str) -> bool:
        """Let a run go on that could not be read; return whether it did: of one that is undone nothing does."""
        run_id = f"saga-{plan}"
        try:
            await (client.cancel if plan == "cancelled" else client.resume)(run_id)
            if plan == "terminated":
                await client.terminate(run_id)
        except InvalidRunStateError:
            return await client.status(run_id) is not RunStatus.FAILED
        return True

    async def check(self, client: Orchestrator, watch: ExerciseWatch) -> list[str]:
        """I12, as the world outside saw it."""
        wrong: list[str] = []
        for plan, end in self.ends.items():
            run_id = f"saga-{plan}"
            status = await client.status(run_id)
            did, undid = (_firsts(each, run_id) for each in (self._outside.did, self._outside.undid))
            if status is not end:
                wrong.append(f"I1: run {run_id} is {status.value}, and should be {end.value}")
            if plan in ("kept", "terminated"):
                wrong += [f"I12: {key} was undone, and was not to be" for key in undid]
                continue
            wrong += [f"I12: {key} was done in a run that is {status.value}, and never undone" for key in did
                      if key not in undid]  # fmt: skip
            order = [key for key in undid if key in did]
            if order != [key for key in reversed(did) if key in undid]:
                wrong.append(f"I12: run {run_id} did {did}, and undid {order}")
        return wrong


async def _is_damaged(client: Orchestrator, run_id: str) -> bool:
    """Wait for a run's end, and return whether it is one because a record cannot be read."""
    if await client.wait(run_id) is not RunStatus.FAILED:
        return False
    return UNREADABLE in (await client.run_info(run_id)).failure


def _firsts(keys: Sequence[str], run_id: str) -> list[str]:
    """The keys of a run, each where it was noted first."""
    return list(dict.fromkeys(key for key in keys if key.startswith(f"{run_id}:")))
