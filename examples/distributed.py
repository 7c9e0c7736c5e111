"""Distributed: the same kind of workflow on RabbitMQ, a SQLite file, and worker processes that share the work.

    python -m examples.distributed

A worker that is killed loses nothing; see `examples/census` for that.
"""

from __future__ import annotations

import asyncio
import os

from examples.cluster import cluster
from floxide_amqp import Floxide, NextAll, Workflow, gather, node


@node
async def chop(text: str) -> NextAll[str]:
    return NextAll(text.split())


@node
def count(word: str) -> tuple[int, int]:
    return len(word), os.getpid()


@node
async def total(counted: list[tuple[int, int]]) -> dict[str, int]:
    return {"letters": sum(length for length, _ in counted), "processes": len({pid for _, pid in counted})}


class CountLetters(Workflow[str, dict[str, int]]):
    start = chop
    edges = (chop >> count >> gather(total),)


def make_app(broker: str, store: str, namespace: str) -> Floxide:
    return Floxide(broker, store=store, namespace=namespace, workflows=[CountLetters])


async def drive(app: Floxide) -> list[dict[str, int]]:
    text = "the quick brown fox jumps over the lazy dog " * 10
    async with app.orchestrator() as orchestrator:
        runs = [await orchestrator.start(CountLetters, text, run_id=f"text-{number}") for number in range(3)]
        results = [await run.result(timeout=60) for run in runs]
        for worker in await orchestrator.workers():
            print(f"worker {worker.worker_id} is {worker.liveness.value}")
    return results


def main(workers: int = 2) -> list[dict[str, int]]:
    with cluster("examples.distributed", workers=workers) as app:
        return asyncio.run(drive(app))


if __name__ == "__main__":
    print(*main(), sep="\n")
