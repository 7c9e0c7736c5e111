"""Group 8: runs of an old version among workers of which some have the old one, some the new one, and some both."""

from __future__ import annotations

from typing import Any

from floxide_amqp import Hold, InvalidRunStateError, Signal, VersionPolicy, Workflow, WorkflowCtx, node
from tests.chaos.groups.desk import Desk, Group

GO = Signal("go", str)


@node
async def enter(number: int) -> int:
    return number


@node
async def wait_for_go(ctx: WorkflowCtx, number: int) -> int | Hold:
    return number if ctx.received(GO) else Hold(until=GO)


@node
async def by_1(number: int) -> str:
    return f"{number} by 1"


@node
async def by_2(number: int) -> str:
    return f"{number} by 2"


leave_1, leave_2 = by_1.named("leave"), by_2.named("leave")


class Pinned1(Workflow[int, str], name="Pinned", version="1"):
    start = enter
    edges = (enter >> wait_for_go >> leave_1,)


class Pinned2(Workflow[int, str], name="Pinned", version="2"):
    start = enter
    edges = (enter >> wait_for_go >> leave_2,)


class Kept1(Workflow[int, str], name="Kept", version="1"):
    start = enter
    edges = (enter >> wait_for_go >> leave_1,)


class Kept2(Workflow[int, str], name="Kept", version="2", versions=VersionPolicy.COMPATIBLE):
    start = enter
    edges = (enter >> wait_for_go >> leave_2,)


class Raised1(Workflow[int, str], name="Raised", version="1"):
    start = enter
    edges = (enter >> wait_for_go >> leave_1,)


class Raised2(Workflow[int, str], name="Raised", version="2", versions=VersionPolicy.AUTO_UPGRADE):
    start = enter
    edges = (enter >> wait_for_go >> leave_2,)


OLD, NEW, BOTH = (Kept1, Raised1), (Kept2, Raised2), (Pinned1, Pinned2)


def workflows_of(worker: str) -> tuple[Any, ...]:
    """The versions of a worker by its name, such as ``w2-1``: half of them are of the new release."""
    if not worker.startswith("w"):
        return (*OLD, *BOTH)
    return (*BOTH, *(NEW if int(worker[1:].partition("-")[0]) % 2 == 0 else OLD))


async def deed(desk: Desk, kind: str, number: int) -> None:
    """Start a run of the old version, let it wait, tell it to go on, and wait for its end."""
    run_id = f"versions-{kind}-{number}"
    old = {"pinned": (Pinned1, Pinned2)[number // 3 % 2], "kept": Kept1, "raised": Raised1}[kind]
    await desk.start(old, number, run_id)
    try:
        await desk.ask(lambda: desk.orchestrator.signal(run_id, GO, "go", signal_id="go"))
    except InvalidRunStateError:  # a client before this one did
        return
    await desk.end_of(run_id)


GROUP = Group(8, "versions", ("pinned", "kept", "raised"), (*OLD, *NEW, *BOTH), deed)
