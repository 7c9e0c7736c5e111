"""Merge by Hold: branches add what they bring to the context and wait; the one that completes the set goes on.

    python -m examples.merge                          one run, in this process
    python -m examples.merge --times 200 --workers 3  on RabbitMQ, with three worker processes

(A `gather` does the same in one word where a fan-out is to be closed; this is for what a fan-out cannot say.)
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from typing import Annotated

from examples.cluster import cluster
from floxide_amqp import (
    Append,
    Context,
    Fixed,
    Floxide,
    Hold,
    NextAll,
    Orchestrator,
    Start,
    Workflow,
    WorkflowCtx,
    node,
)


class Basket(Context):
    expected: Fixed[int]
    found: Annotated[list[int], Append()] = []


@node
async def scatter(ctx: WorkflowCtx[Basket], seed: int) -> NextAll[int]:
    return NextAll([seed + number for number in range(ctx.state.expected)])


@node
async def square(number: int) -> int:
    return number * number


@node
async def merge(ctx: WorkflowCtx[Basket], squared: int) -> list[int] | Hold:
    ctx.state.found.append(squared)
    if len(ctx.state.found) < ctx.state.expected:
        return Hold()  # stands only if nobody else brought something meanwhile; else this body runs again
    return sorted(ctx.state.found)


@node
async def add_up(squares: list[int]) -> int:
    return sum(squares)


class MergeByHold(Workflow[int, int, Basket]):
    start = scatter
    edges = (scatter >> square >> merge >> add_up,)


def make_app(broker: str, store: str, namespace: str) -> Floxide:
    return Floxide(broker, store=store, namespace=namespace, workflows=[MergeByHold])


async def run_many(orchestrator: Orchestrator, times: int, expected: int) -> Counter[str]:
    """Start many runs at once and count what became of them: `fired` is how often `add_up` ran in each."""
    starts = [Start(seed, context=Basket(expected=expected)) for seed in range(times)]
    handles = await orchestrator.start_many(MergeByHold, starts)
    seen: Counter[str] = Counter()
    for seed, handle in enumerate(handles):
        is_right = await handle.result(timeout=120) == sum((seed + number) ** 2 for number in range(expected))
        items = Counter(
            (item.node, item.status.value) for item in await orchestrator.work_items(handle.run_id, limit=1_000)
        )
        seen["right result" if is_right else "wrong result"] += 1
        seen[f"fired {items['add_up', 'completed']} time(s)"] += 1
        seen[f"held {items['merge', 'held']} of {expected}"] += 1
    return seen


async def main() -> int:
    return await MergeByHold.run(1, context=Basket(expected=3))


def main_cluster(times: int, workers: int, expected: int = 6) -> Counter[str]:
    async def drive() -> Counter[str]:
        async with group.app.orchestrator() as orchestrator:
            return await run_many(orchestrator, times, expected)

    with cluster("examples.merge", workers=workers) as group:
        began = time.perf_counter()
        seen = asyncio.run(drive())
        print(f"{times} runs on {workers} workers in {time.perf_counter() - began:.1f} s")
    return seen


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    given = parser.parse_args()
    if given.workers:
        for what, how_often in sorted(main_cluster(given.times, given.workers).items()):
            print(f"{how_often:5} x {what}")
    else:
        print(asyncio.run(main()))
