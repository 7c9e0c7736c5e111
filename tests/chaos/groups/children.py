"""Group 4: runs that start others: waited for, failing, left to themselves, closed, cancelled down the tree."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from floxide_amqp import (
    Abort,
    ChildRunFailedError,
    ChildWorkflow,
    Hold,
    OnClose,
    RunNotFoundError,
    Workflow,
    WorkflowCtx,
    node,
)
from tests.chaos.checks.children import LONG_SECONDS
from tests.chaos.groups.desk import Desk, Group


class UnwillingError(Exception):
    """What a child fails with."""


@node
async def head(number: int) -> int:
    return number


@node
async def double(number: int) -> int:
    await asyncio.sleep(0.02)
    return number * 2


@node
async def tail(number: int) -> int:
    return number + 1


@node
async def named(run_id: str) -> str:
    return run_id


@node
async def refuse(number: int) -> int | Abort:
    return Abort(UnwillingError(str(number)))


@node
async def apologise(number: int) -> int:
    return -number


@node
async def sit(ctx: WorkflowCtx, number: int) -> int | Hold:
    return Hold(for_=LONG_SECONDS)


class Doubling(Workflow[int, int], version="1"):
    start = double


class Refusing(Workflow[int, int], version="1"):
    start = refuse


class Sitting(Workflow[int, int], version="1"):
    start = sit


sitting = ChildWorkflow(Sitting)


class SittingBelow(Workflow[int, int], version="1"):
    start = sitting


doubling, refusing, below = ChildWorkflow(Doubling), ChildWorkflow(Refusing), ChildWorkflow(SittingBelow)
leaving = ChildWorkflow(Doubling, wait=False, name="leaving")
closing = ChildWorkflow(Sitting, wait=False, on_close=OnClose.CANCEL, name="closing")


class Calling(Workflow[int, int], version="1"):
    start = head
    edges = (head >> doubling >> tail,)


class CallingInVain(Workflow[int, int], version="1"):
    start = head
    edges = (head >> refusing >> tail, refusing.on_failure(ChildRunFailedError) >> apologise)


class Leaving(Workflow[int, str], version="1"):
    start = head
    edges = (head >> leaving >> named,)


class Closing(Workflow[int, str], version="1"):
    start = head
    edges = (head >> closing >> named,)


class WaitingBelow(Workflow[int, int], version="1"):
    """Two below it, of which the last waits for an hour."""

    start = below


WORKFLOWS = {
    "waited": Calling, "failing": CallingInVain, "abandoned": Leaving, "closed": Closing, "cancelled": WaitingBelow
}  # fmt: skip


async def deed(desk: Desk, kind: str, number: int) -> None:
    """Start a run that starts others, and wait for its end."""
    run_id = f"children-{kind}-{number}"
    await desk.start(WORKFLOWS[kind], number, run_id)
    if kind == "cancelled":
        if number % 2:  # the other time it is cancelled while they are being started
            await desk.until(lambda: _is_called(desk, run_id))
        await desk.ask(lambda: desk.orchestrator.cancel(run_id, reason="that is enough"))
    await desk.end_of(run_id)


async def _is_called(desk: Desk, run_id: str) -> bool:
    """Whether a run has a child that has one too."""
    if await desk.is_over(run_id):
        return True
    for child in (await desk.orchestrator.children(run_id)).children:
        with suppress(RunNotFoundError):  # the letter that starts it is under way
            if (await desk.orchestrator.children(child.run_id)).children:
                return True
    return False


GROUP = Group(
    4, "children", tuple(WORKFLOWS),
    (*WORKFLOWS.values(), Doubling, Refusing, Sitting, SittingBelow), deed,
)  # fmt: skip
