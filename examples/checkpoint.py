"""Checkpoint and resume: a run that failed goes on from the step that failed; what was done is not done again."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from floxide_amqp import AlreadyCompletedError, Context, NotStartedError, RunFailedError, Workflow, WorkflowCtx, node


class Oven:
    """The outside world: broken at first, and it remembers what was done."""

    def __init__(self) -> None:
        self.is_broken = True
        self.kneaded = 0


@node
async def knead(ctx: WorkflowCtx[Context], flour: int) -> int:
    ctx.resource(Oven).kneaded += 1
    return flour * 2


@node
async def bake(ctx: WorkflowCtx[Context], dough: int) -> str:
    if ctx.resource(Oven).is_broken:
        raise RuntimeError("the oven is cold")
    return f"{dough} loaves"


class Bakery(Workflow[int, str]):
    start = knead
    edges = (knead >> bake,)


async def main(folder: Path) -> list[str]:
    store, oven = f"sqlite:///{folder}/runs.db", Oven()
    told: list[str] = []
    try:
        await Bakery.resume(store=store, run_id="monday")
    except NotStartedError as error:
        told.append(str(error))
    try:
        await Bakery.run_with_checkpoint(3, store=store, run_id="monday", resources={Oven: oven})
    except RunFailedError as error:
        told.append(f"{error.node}: {error.error_message}")

    oven.is_broken = False  # a new process would do here as well: everything is in the file
    loaves = await Bakery.resume(store=store, run_id="monday", resources={Oven: oven})
    told.append(f"{loaves}, kneaded {oven.kneaded} time")
    try:
        await Bakery.resume(store=store, run_id="monday", resources={Oven: oven})
    except AlreadyCompletedError as error:
        told.append(str(error))
    return told


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print("\n".join(asyncio.run(main(Path(folder)))))
