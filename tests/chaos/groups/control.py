"""Group 5: sagas that fail, are cancelled, terminated and shaken; retries, forks, and what is done by hand."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Annotated

from floxide_amqp import (
    Abort,
    Cancelled,
    Compensation,
    Context,
    Hold,
    InvalidRunStateError,
    RunStatus,
    Workflow,
    WorkflowCtx,
    WorkItemNotFoundError,
    node,
)
from floxide_amqp.core.reducers import Append
from tests.chaos.checks.control import LONG_SECONDS
from tests.chaos.groups.desk import Desk, Group
from tests.chaos.notes import note

TIDYING_SECONDS = 0.1
"""How long a body takes to end that is interrupted."""


class RefusedError(Exception):
    """What a saga fails with."""


@node
async def undo(ctx: WorkflowCtx, of: Compensation[str, str]) -> None:
    note(ctx, "undid", of.idempotency_key)


@node(compensation=undo)
async def book(ctx: WorkflowCtx, plan: str) -> str:
    note(ctx, "did", ctx.idempotency_key)
    try:
        await asyncio.sleep(0.02)
        return plan
    except asyncio.CancelledError:  # tidying up takes it longer than its work
        await asyncio.sleep(TIDYING_SECONDS)
        raise
    finally:
        note(ctx, "left", ctx.idempotency_key)


@node
async def told(ctx: WorkflowCtx, of: Cancelled) -> None:
    note(ctx, "told")


@node
async def decide(ctx: WorkflowCtx, plan: str) -> str | Hold | Abort:
    if plan == "failed":
        return Abort(RefusedError(plan))
    return plan if plan in ("kept", "shaken") else Hold(for_=LONG_SECONDS)


flight, hotel, car = book.named("flight"), book.named("hotel"), book.named("car")


class Travelling(Workflow[str, str], version="1"):
    start = flight
    edges = (flight >> hotel >> car >> decide,)
    on_cancel = told


# --- what somebody does by hand


class Ledger(Context):
    steps: Annotated[list[str], Append()] = []


@node
async def measure(ctx: WorkflowCtx[Ledger], number: int) -> int:
    ctx.state.steps.append("measure")
    return number + 1


@node
async def judge(ctx: WorkflowCtx[Ledger], number: int) -> int | Abort:
    ctx.state.steps.append("judge")
    return number if number > 0 else Abort(RefusedError(str(number)))


@node
async def wait(ctx: WorkflowCtx[Ledger], number: int) -> int | Hold:
    return Hold(for_=LONG_SECONDS)


@node
async def publish(ctx: WorkflowCtx[Ledger], number: int) -> str:
    return f"{number} after {', '.join(ctx.state.steps)}"


class Judging(Workflow[int, str, Ledger], version="1"):
    start = measure
    edges = (measure >> judge >> publish,)


class WaitingForHands(Workflow[int, str, Ledger], version="1"):
    start = measure
    edges = (measure >> wait >> publish,)


async def deed(desk: Desk, kind: str, number: int) -> None:
    """Start a run, and do to it what its kind says."""
    run_id = f"control-{kind}-{number}"
    chance = random.Random(run_id)
    match kind:
        case "kept" | "failed":
            await desk.start(Travelling, kind, run_id)
        case "cancelled" | "terminated":
            await desk.start(Travelling, kind, run_id)
            if number % 2 == 0:  # so that there is something to be undone, however busy the workers are
                await desk.until(lambda: _has_begun(desk, run_id))
            await asyncio.sleep(chance.uniform(0, 0.4))
            end = desk.orchestrator.cancel if kind == "cancelled" else desk.orchestrator.terminate
            await desk.ask(lambda: end(run_id, reason=kind, by="chaos"))
        case "shaken":
            await desk.start(Travelling, kind, run_id)
            await _shake(desk, run_id, chance)
        case "retried":
            await desk.start(Judging, -number - 5, run_id)
            await _retry(desk, run_id, number + 1)
        case "forked":
            await desk.start(Judging, number, run_id)
            await _fork(desk, run_id, number)
        case "handled":
            await desk.start(WaitingForHands, number, run_id)
            await _by_hand(desk, run_id, number)
        case "given":
            await desk.start(WaitingForHands, number, run_id)
            await _give(desk, run_id, f"given {number}")
    await desk.end_of(run_id)


async def _shake(desk: Desk, run_id: str, chance: random.Random) -> None:
    """Pause and resume it, and perhaps cancel it; it is never left paused."""
    orchestrator = desk.orchestrator
    with suppress(InvalidRunStateError):
        for _ in range(chance.randint(2, 6)):
            if chance.random() < 0.1:
                if await desk.ask(lambda: orchestrator.cancel(run_id, by="chaos")):
                    desk.tell("cancelled", run_id)
            elif chance.random() < 0.5:
                await desk.ask(lambda: orchestrator.pause(run_id, by="chaos"))
            else:
                await desk.ask(lambda: orchestrator.resume(run_id, by="chaos"))
            await asyncio.sleep(chance.uniform(0, 0.2))
    with suppress(InvalidRunStateError):
        await desk.ask(lambda: orchestrator.resume(run_id, by="chaos"))


async def _retry(desk: Desk, run_id: str, number: int) -> None:
    await desk.end_of(run_id)
    with suppress(InvalidRunStateError):  # another client did
        await desk.ask(lambda: desk.orchestrator.retry(run_id, input=number, by="chaos"))


async def _fork(desk: Desk, run_id: str, number: int) -> None:
    await desk.end_of(run_id)
    items = await desk.ask(lambda: desk.orchestrator.work_items(run_id))
    item = next((each for each in items if each.node == "judge"), None)
    if item is None:
        return
    new = f"control-fork-{number}"
    await desk.ask(
        lambda: desk.orchestrator.fork(
            Judging, run_id, from_item=item.item_id, new_run_id=new, input=number + 100, by="chaos"
        )
    )
    desk.journal.write(f"started {new}")
    await desk.end_of(new)


async def _has_begun(desk: Desk, run_id: str) -> bool:
    return await desk.orchestrator.status(run_id) is not RunStatus.PENDING


async def _is_held(desk: Desk, run_id: str) -> bool:
    status = await desk.orchestrator.status(run_id)
    if status.is_terminal or status is RunStatus.PAUSED:  # a client before this one paused it
        return True
    return any(item.node == "wait" and item.status == "held" for item in await desk.orchestrator.pending_work(run_id))


async def _by_hand(desk: Desk, run_id: str, number: int) -> None:
    """Pause it, say what its waiting step came to, change its context once, and let it go on."""
    orchestrator = desk.orchestrator
    await desk.until(lambda: _is_held(desk, run_id))
    with suppress(InvalidRunStateError, WorkItemNotFoundError):
        await desk.ask(lambda: orchestrator.pause(run_id, by="chaos"))
        await desk.ask(lambda: orchestrator.edit_context(WaitingForHands, run_id, _add_hand, by="chaos"))
        items = await desk.ask(lambda: orchestrator.pending_work(run_id))
        for item in items:
            await desk.ask(lambda: orchestrator.complete_item(run_id, item.item_id, number + 7, by="chaos"))  # noqa: B023
    with suppress(InvalidRunStateError):
        await desk.ask(lambda: orchestrator.resume(run_id, by="chaos"))


def _add_hand(state: Ledger) -> None:
    if "hand" not in state.steps:
        state.steps.append("hand")


async def _give(desk: Desk, run_id: str, output: str) -> None:
    await desk.until(lambda: _is_held(desk, run_id))
    with suppress(InvalidRunStateError):  # another client did
        await desk.ask(lambda: desk.orchestrator.complete(run_id, output, by="chaos"))


KINDS = ("kept", "failed", "cancelled", "terminated", "shaken", "retried", "forked", "handled", "given")
GROUP = Group(5, "control", KINDS, (Travelling, Judging, WaitingForHands), deed)
