"""Group 6: steps that share a key, steps of a limited rate, starts that come twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from floxide_amqp import Concurrency, NextAll, RateLimit, Workflow, WorkflowCtx, gather, node
from tests.chaos.checks.flow import KEYS, LIMIT, PER_SECOND, RATE, SHARE, VISITORS
from tests.chaos.groups.desk import Desk, Group
from tests.chaos.notes import note

desk_limit = Concurrency(LIMIT, limit=SHARE, key=lambda visitor: f"desk-{visitor % KEYS}")
turnstile = RateLimit(RATE, PER_SECOND, per=timedelta(seconds=1))


@node
async def arrive(number: int) -> NextAll[int]:
    return NextAll([number] * VISITORS)


@node(concurrency=desk_limit)
async def visit(ctx: WorkflowCtx, number: int) -> int:
    note(ctx, "enter", f"desk-{number % KEYS}")
    await asyncio.sleep(0.03 + number % 3 * 0.02)
    note(ctx, "leave", f"desk-{number % KEYS}")
    return number


@node(rate=turnstile)
async def enter(ctx: WorkflowCtx, number: int) -> int:
    note(ctx, "turn")
    return number


@node
async def leave(visitors: list[int]) -> int:
    return len(visitors)


class Visiting(Workflow[int, int], version="1"):
    start = arrive
    edges = (arrive >> visit >> gather(leave),)


class Entering(Workflow[int, int], version="1"):
    start = arrive
    edges = (arrive >> enter >> gather(leave),)


async def deed(desk: Desk, kind: str, number: int) -> None:
    """Start a run whose steps need what others need too, or two starts that are one, and wait for the end."""
    run_id = f"flow-{kind}-{number}"
    match kind:
        case "keys":
            await desk.start(Visiting, number, run_id)
        case "rates":
            await desk.start(Entering, number, run_id)
        case "dedupe":
            first = await desk.start(Entering, number, run_id, dedupe_key=run_id)
            again = await desk.ask(
                lambda: desk.orchestrator.start(
                    Entering, number + 1, run_id=f"flow-again-{number}", dedupe_key=run_id
                )
            )  # fmt: skip
            desk.tell("deduplicated", run_id, [first.run_id, again.run_id, again.deduplicated])
    await desk.end_of(run_id)


GROUP = Group(6, "flow", ("keys", "rates", "dedupe"), (Visiting, Entering), deed)
