"""Group 2: approvals, with signals that come early, late, twice, from a node, or not at all."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Annotated

from floxide_amqp import Context, Hold, InvalidRunStateError, Signal, Workflow, WorkflowCtx, node
from floxide_amqp.core.reducers import Append
from tests.chaos.checks.signals import BALLOTS
from tests.chaos.groups.desk import Desk, Group

APPROVAL = Signal("approval", str)
BALLOT = Signal("ballot", int)
DONE = Signal("done", str)

SHORT_SECONDS, LATE_SECONDS, EARLY_SECONDS = 0.3, 0.6, 0.5


@node
async def ask(ctx: WorkflowCtx, order: str) -> str | Hold:
    answer = ctx.received(APPROVAL)
    return f"{order}: {answer}" if answer is not None else Hold(until=APPROVAL)


class Approving(Workflow[str, str], version="1"):
    start = ask
    signals = (APPROVAL,)


class Ballots(Context):
    seen: Annotated[list[int], Append()] = []


@node
async def collect(ctx: WorkflowCtx[Ballots], order: str) -> list[int] | Hold:
    while (ballot := ctx.received(BALLOT)) is not None:
        ctx.state.seen.append(ballot)
    return list(ctx.state.seen) if len(ctx.state.seen) >= BALLOTS else Hold(until=BALLOT)


class Balloting(Workflow[str, list[int], Ballots], version="1"):
    start = collect


@node
async def hope(ctx: WorkflowCtx, order: str) -> str | Hold:
    answer = ctx.received(APPROVAL)
    return f"{order}: {answer}" if answer is not None else Hold(until=APPROVAL, timeout=SHORT_SECONDS)


@node
async def escalate(ctx: WorkflowCtx, order: str) -> str | Hold:
    if ctx.received(DONE) is None:
        return Hold(until=DONE)
    return f"{order}: nobody answered"


class Escalating(Workflow[str, str], version="1"):
    """Where nobody answers in time, somebody else says when it is over."""

    start = hope
    edges = (hope.on_timeout >> escalate,)


@node
async def answer(ctx: WorkflowCtx, run_id: str) -> str:
    ctx.signal(run_id, APPROVAL, "by a node", signal_id="node")
    return run_id


class Answering(Workflow[str, str], version="1"):
    """A run that answers another one."""

    start = answer


async def deed(desk: Desk, kind: str, number: int) -> None:
    """Start a run that waits, and send it what it waits for."""
    run_id = f"signals-{kind}-{number}"
    match kind:
        case "waiting":
            await desk.start(Approving, run_id, run_id)
            await desk.until(lambda: _waits(desk, run_id))
            await _send(desk, run_id, APPROVAL, "yes", "a")
        case "early":
            await desk.start(Approving, run_id, run_id, delay=EARLY_SECONDS)
            await _send(desk, run_id, APPROVAL, "yes", "a")
        case "twice":
            await desk.start(Balloting, run_id, run_id)
            await _vote(desk, run_id)
        case "node":
            await desk.start(Approving, run_id, run_id)
            await desk.start(Answering, run_id, f"signals-answering-{number}")
        case "late" | "nobody":
            await desk.start(Escalating, run_id, run_id)
            await asyncio.sleep(LATE_SECONDS)
            if kind == "late":
                await _send(desk, run_id, APPROVAL, "yes", "a")
            await _send(desk, run_id, DONE, "yes", "b")
    await desk.end_of(run_id)


async def _waits(desk: Desk, run_id: str) -> bool:
    return await desk.is_over(run_id) or bool((await desk.orchestrator.run_info(run_id)).waits)


async def _vote(desk: Desk, run_id: str) -> None:
    """Each ballot twice, in some order."""
    ballots = [*range(BALLOTS), *range(BALLOTS)]
    random.Random(run_id).shuffle(ballots)
    for ballot in ballots:
        await _send(desk, run_id, BALLOT, ballot, f"ballot-{ballot}")


async def _send(desk: Desk, run_id: str, signal: Signal, value: object, signal_id: str) -> None:
    with suppress(InvalidRunStateError):  # it went on without
        is_new = await desk.ask(lambda: desk.orchestrator.signal(run_id, signal, value, signal_id=signal_id))
        desk.tell("signalled", run_id, [signal_id, is_new])


GROUP = Group(
    2, "signals", ("waiting", "early", "twice", "node", "late", "nobody"),
    (Approving, Balloting, Escalating, Answering), deed,
)  # fmt: skip
