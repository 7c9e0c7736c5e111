"""20, Cancel Case: a whole case is withdrawn: what is at work in it, what waits, and the runs it has started."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from examples.patterns.place import opened, until
from floxide_amqp import ChildWorkflow, Context, Hold, ItemHeld, Orchestrator, Signal, Workflow, WorkflowCtx, node

REPLY = Signal("reply", str)


@node
async def wait_for_spring(ctx: WorkflowCtx[Context], seed: str) -> str | Hold:
    return f"{seed} sown" if ctx.timed_out else Hold(for_=timedelta(days=100))


class Sowing(Workflow[str, str]):
    start = wait_for_spring


@node
async def apply(name: str) -> str:
    return name


@node
async def measure(ctx: WorkflowCtx[Context], name: str) -> str:
    await ctx.sleep(3_600)
    return f"{name} measured"


@node
async def ask_neighbours(ctx: WorkflowCtx[Context], name: str) -> str | Hold:
    return ctx.received(REPLY) or Hold(until=REPLY)


class Garden(Workflow[str, list[str]]):
    start = apply
    edges = (apply >> (measure, ask_neighbours, ChildWorkflow(Sowing)),)


async def play(desk: Orchestrator) -> list[str]:
    run = await desk.start(Garden, "Eden")
    await until(run, ItemHeld, "ask_neighbours")
    while not (children := (await desk.children(run.run_id)).children):  # noqa: ASYNC110 - nobody tells us
        await asyncio.sleep(0.01)
    await run.cancel("sold")
    lines = [f"Garden: {await run.wait(60)}"]
    while children[0].status is None:
        await asyncio.sleep(0.01)
        children = (await desk.children(run.run_id)).children
    lines.append(f"Sowing: {children[0].status}")
    return lines + sorted(f"{item.node}: {item.status.value}" for item in await desk.work_items(run.run_id))


async def main() -> list[str]:
    async with opened(Garden) as desk:
        return await play(desk)


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")
