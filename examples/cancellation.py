"""Cancellation: from outside it reaches a node at work; from inside a node may cancel its own run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from floxide_amqp import Context, Floxide, RunCancelledError, Workflow, WorkflowCtx, node


class Desk:
    """Tells the example when the node is at work, and what it left behind."""

    def __init__(self) -> None:
        self.is_busy = asyncio.Event()
        self.notes: list[str] = []


@node
async def write_a_novel(ctx: WorkflowCtx[Context], title: str) -> str:
    desk = ctx.resource(Desk)
    desk.is_busy.set()
    try:
        await ctx.sleep(3_600)
    finally:  # runs when the step is cancelled; it has a few seconds
        desk.notes.append(f"tidied up after {title!r}, cancelled: {ctx.is_cancelled}")
    return title


@node
async def look_at_the_clock(ctx: WorkflowCtx[Context], hour: int) -> str:
    if hour >= 22:
        await ctx.cancel()
    return "still open"


class Writing(Workflow[str, str]):
    start = write_a_novel


class Closing(Workflow[int, str]):
    start = look_at_the_clock


async def main() -> list[str]:
    desk = Desk()

    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[Desk]:
        yield desk

    app = Floxide(workflows=[Writing, Closing], lifespan=lifespan)
    async with app.orchestrator() as orchestrator:
        novel = await orchestrator.start(Writing, "Ulysses", run_id="novel")
        await desk.is_busy.wait()
        await novel.cancel("the publisher is broke")
        late = await orchestrator.start(Closing, 23, run_id="late")
        for run in (novel, late):
            try:
                await run.result()
            except RunCancelledError as error:
                desk.notes.append(str(error))
    return sorted(desk.notes)


if __name__ == "__main__":
    print("\n".join(asyncio.run(main())))
