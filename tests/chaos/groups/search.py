"""Group 9: attributes and lists, views of a run, and what happens to it as it happens."""

from __future__ import annotations

from floxide_amqp import (
    Hold,
    ItemEnded,
    RetryPolicy,
    RunEvent,
    Workflow,
    WorkflowCtx,
    node,
)
from tests.chaos.groups.desk import Desk, Group


class NotYetError(Exception):
    """Of the first attempt."""


@node
async def enrol(ctx: WorkflowCtx, number: int) -> int:
    ctx.set_attribute("stage", "enrolled")
    return number


@node(retry=RetryPolicy(max_attempts=3, initial_backoff=0.05))
async def examine(ctx: WorkflowCtx, number: int) -> int:
    if ctx.attempt == 1:
        raise NotYetError(str(number))
    ctx.set_attribute("stage", "examined")
    return number


@node
async def certify(ctx: WorkflowCtx, number: int) -> str | Hold:
    ctx.set_attribute("stage", "certified")
    ctx.set_attribute("mark", number % 5)
    return f"certificate {number}"


class Studying(Workflow[int, str], version="1"):
    start = enrol
    edges = (enrol >> examine >> certify,)


async def deed(desk: Desk, kind: str, number: int) -> None:
    """Start a run, follow it, and look for it by what it is."""
    run_id, student = f"search-{kind}-{number}", f"student {number}"
    await desk.start(Studying, number, run_id, attributes={"student": student})
    if kind == "followed":
        await _follow(desk, run_id)
    await desk.end_of(run_id)
    found = await desk.ask(lambda: desk.orchestrator.list_runs(attributes={"student": student, "stage": "certified"}))
    desk.tell("listed", run_id, [each.run_id for each in found.runs])
    view = await desk.ask(lambda: desk.orchestrator.query(Studying, run_id))
    desk.tell("viewed", run_id, [view.status.value, dict(sorted(view.attributes.items()))])


async def _follow(desk: Desk, run_id: str) -> None:
    """Hear its events to the end; where the stream breaks off, go on behind the last one."""
    heard: list[list[str]] = []
    position = ""

    async def listen() -> None:
        nonlocal position
        async for event in desk.orchestrator.events(run_id, after=position):
            heard.append(_words(event))
            position = event.position

    await desk.ask(listen)
    desk.tell("events", run_id, heard)


def _words(event: RunEvent) -> list[str]:
    item = event.item_id if isinstance(event, ItemEnded) else ""
    return [type(event).__name__, item, event.position]


GROUP = Group(9, "search", ("followed", "found"), (Studying,), deed)
