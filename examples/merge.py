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

from examples.cluster import cluster
from floxide_amqp import (
    Context,
    EventLog,
    Fixed,
    Floxide,
    Hold,
    NextAll,
    Start,
    Workflow,
    WorkflowCtx,
    WorkItemStatus,
    node,
)

ENDS = (WorkItemStatus.COMPLETED, WorkItemStatus.HELD)


class Basket(Context):
    expected: Fixed[int]
    found: EventLog[int] = EventLog()


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


async def run_many(app: Floxide, times: int, expected: int) -> Counter[str]:
    """Start many runs at once and count what became of them, by what the store says of their items."""
    seen: Counter[str] = Counter()
    async with app.orchestrator() as orchestrator:
        starts = [Start(seed, context=Basket(expected=expected)) for seed in range(times)]
        for seed, run in enumerate(await orchestrator.start_many(MergeByHold, starts)):
            is_right = await run.result(timeout=120) == sum((seed + number) ** 2 for number in range(expected))
            items = await orchestrator.work_items(run.run_id)
            went_on, held = (sum(item.node == "merge" and item.status is status for item in items) for status in ENDS)
            seen[f"result {'right' if is_right else 'WRONG'}, fired {went_on} x, held {held} x"] += 1
            seen.update({f"worker {owner}": 1 for owner in {item.owner for item in items if item.node == "square"}})
    return seen


async def main() -> int:
    return await MergeByHold.run(1, context=Basket(expected=3))


def main_cluster(times: int, workers: int, expected: int = 6) -> Counter[str]:
    with cluster("examples.merge", workers=workers) as app:
        began = time.perf_counter()
        seen = asyncio.run(run_many(app, times, expected))
        print(f"{times} runs of {expected} branches on {workers} workers in {time.perf_counter() - began:.1f} s")
    return seen


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    given = parser.parse_args()
    if given.workers:
        for what, how_often in sorted(main_cluster(given.times, given.workers).items()):
            print(f"{how_often:5} runs: {what}")
    else:
        print(asyncio.run(main()))
