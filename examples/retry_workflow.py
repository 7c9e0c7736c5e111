"""Retry declared in the workflow: the policy of every node that has none of its own."""

from __future__ import annotations

import asyncio
from typing import Annotated

from floxide_amqp import NO_RETRY, Backoff, Context, RetryPolicy, RunFailedError, Sum, Workflow, WorkflowCtx, node


class Tries(Context):
    succeeded: Annotated[int, Sum()] = 0


@node
async def read_sensor(ctx: WorkflowCtx[Tries], channel: int) -> float:
    ctx.state.succeeded += 1  # what a failed attempt changed is discarded
    if ctx.attempt < 3:
        raise OSError("no signal")
    return channel * 1.5


@node(retry=NO_RETRY)
async def store(ctx: WorkflowCtx[Tries], value: float) -> str:
    if value > 100:
        raise OverflowError(f"{value} is off the scale")
    return f"stored {value} after {ctx.state.succeeded} success"


class Measuring(
    Workflow[int, str, Tries],
    retry=RetryPolicy(max_attempts=3, initial_backoff=0.01, backoff=Backoff.LINEAR),
):
    start = read_sensor
    edges = (read_sensor >> store,)


async def main() -> list[str]:
    told = [await Measuring.run(4)]
    try:
        await Measuring.run(400)
    except RunFailedError as error:
        told.append(f"{error.node} was tried {error.attempts} time: {error.error_message}")
    return told


if __name__ == "__main__":
    print("\n".join(asyncio.run(main())))
