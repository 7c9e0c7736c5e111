"""Group 6: steps that share a key."""

from __future__ import annotations

import asyncio

from floxide_amqp import Concurrency, NextAll, Workflow, WorkflowCtx, gather, node
from tests.chaos.checks.flow import KEYS, LIMIT, SHARE, VISITORS
from tests.chaos.groups.desk import Desk, Group
from tests.chaos.notes import note

desk_limit = Concurrency(LIMIT, limit=SHARE, key=lambda visitor: f"desk-{visitor % KEYS}")


@node
async def arrive(number: int) -> NextAll[int]:
    return NextAll([number] * VISITORS)


@node(concurrency=desk_limit)
async def visit(ctx: WorkflowCtx, number: int) -> int:
    note(ctx, "enter", f"desk-{number % KEYS}")
    await asyncio.sleep(0.03 + number % 3 * 0.02)
    note(ctx, "leave", f"desk-{number % KEYS}")
    return number


@node
async def leave(visitors: list[int]) -> int:
    return len(visitors)


class Visiting(Workflow[int, int], version="1"):
    start = arrive
    edges = (arrive >> visit >> gather(leave),)


async def deed(desk: Desk, kind: str, number: int) -> None:
    """Start a run whose steps need a key that others need too, and wait for its end."""
    run_id = f"flow-{kind}-{number}"
    await desk.start(Visiting, number, run_id)
    await desk.end_of(run_id)


GROUP = Group(6, "flow", ("keys",), (Visiting,), deed)
