"""Batch: run a node for each element of a list, at most so many at a time, and get the results in order."""

from __future__ import annotations

import asyncio

from floxide_amqp import BatchNode, Context, Workflow, WorkflowCtx, node


class Crane:
    """Something of which there are few."""

    def __init__(self) -> None:
        self.busy = 0
        self.busiest = 0

    async def lift(self) -> None:
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        await asyncio.sleep(0.001)
        self.busy -= 1


@node
async def unload(ctx: WorkflowCtx[Context], container: int) -> str:
    await ctx.resource(Crane).lift()
    return f"c{container}"


@node
async def report(unloaded: list[str]) -> str:
    return f"{len(unloaded)} unloaded, from {unloaded[0]} to {unloaded[-1]}"


unload_all = BatchNode(unload, max_in_flight=3)


class Harbour(Workflow[list[int], str]):
    start = unload_all
    edges = (unload_all >> report,)


async def main() -> str:
    crane = Crane()
    text = await Harbour.run(list(range(20)), resources={Crane: crane})
    return f"{text}; never more than {crane.busiest} at a time"


if __name__ == "__main__":
    print(asyncio.run(main()))
