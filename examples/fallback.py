"""Fallback: when a node has failed for good, an edge leads on with its input, and `ctx.failure` says why."""

from __future__ import annotations

import asyncio

from floxide_amqp import Abort, Context, RetryPolicy, Workflow, WorkflowCtx, node


class RateLimitedError(Exception): ...


@node(retry=RetryPolicy(max_attempts=2, initial_backoff=0.01))
async def ask_big_map(city: str) -> str | Abort:
    if city == "Atlantis":
        return Abort(KeyError(city))  # never retried
    if city == "Rome":
        raise RateLimitedError("come back tomorrow")
    if city == "Oslo":
        raise ConnectionError("no route to host")
    return f"{city}: big map"


@node
async def ask_small_map(city: str) -> str:
    return f"{city}: small map"


@node
async def give_up(ctx: WorkflowCtx[Context], city: str) -> str:
    assert ctx.failure is not None  # always there in a fallback branch
    return f"{city}: nobody knows, {ctx.failure.node} failed {ctx.failure.attempts} with {ctx.failure.error_type}"


class Geography(Workflow[str, str]):
    start = ask_big_map
    edges = (
        ask_big_map.on_failure(RateLimitedError) >> ask_small_map,
        ask_big_map.on_failure >> give_up,  # every other error
    )


async def main() -> list[str]:
    return [await Geography.run(city) for city in ("Paris", "Rome", "Oslo", "Atlantis")]


if __name__ == "__main__":
    print("\n".join(asyncio.run(main())))
