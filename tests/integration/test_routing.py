"""Labels over a real broker: each set has a queue of its own; a deploy that moves a node takes its items along."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from floxide_amqp import Floxide, Timeouts, Workflow, WorkflowCtx, node
from floxide_amqp.runtime.worker import Worker

pytestmark = pytest.mark.rabbitmq

QUICK = Timeouts(
    early_acknowledge=1.0, heartbeat=0.3, dead_after=2.5, maintenance=0.2, probe=0.5, publish_retry=0.5,
    cancel_grace=1.0, result_backstop=0.2,
)  # fmt: skip


@node
async def load(ctx: WorkflowCtx, x: int) -> str:
    return ctx.worker_id


@node(labels={"gpu", "eu"}, queue="pictures")
async def draw(ctx: WorkflowCtx, before: str) -> str:
    return f"{before} {ctx.worker_id}"


@node
async def store(ctx: WorkflowCtx, before: str) -> str:
    return f"{before} {ctx.worker_id}"


class Picture(Workflow[int, str]):
    start = load
    edges = (load >> draw >> store,)


def moved(labels: set[str] | None) -> Any:
    @node(labels=labels)
    async def work(ctx: WorkflowCtx, x: int) -> str:
        return ctx.worker_id

    class Moved(Workflow[int, str]):
        start = work

    return Moved


@asynccontextmanager
async def at_work(app: Floxide, **options: Any) -> AsyncIterator[Worker]:
    async with app.worker(**options) as worker:
        task = asyncio.create_task(worker.run_forever())
        try:
            yield worker
        finally:
            worker.stop()
            await task


async def test_steps_go_to_the_workers_with_their_labels_and_wait_for_them_in_a_queue_of_their_own(
    rabbitmq_url: str, namespace: str, tmp_path: Path
) -> None:
    app = Floxide(
        rabbitmq_url, store=f"sqlite:///{tmp_path}/runs.db", workflows=[Picture], namespace=namespace, timeouts=QUICK
    )
    async with app.orchestrator() as orchestrator, at_work(app, name="plain"):
        runs = [await orchestrator.start(Picture, number) for number in range(5)]
        queue = orchestrator.services.queue
        while await queue.depth("pictures/eu/gpu") < 5:  # noqa: ASYNC110 - another process makes it so
            await asyncio.sleep(0.05)
        (wait,) = (await orchestrator.run_info(runs[0].run_id)).waits
        assert wait.what == "a worker that serves task queue 'pictures' with labels eu, gpu to run node 'draw'"
        async with at_work(app, name="labelled", labels={"gpu", "eu", "big"}, only_labelled=True):
            assert {await run.result(60) for run in runs} == {"plain labelled plain"}


async def test_items_published_before_a_deploy_that_moves_their_node_are_run_after_it(
    rabbitmq_url: str, namespace: str, tmp_path: Path
) -> None:
    def app(workflow: Any) -> Floxide:
        return Floxide(
            rabbitmq_url, store=f"sqlite:///{tmp_path}/runs.db", workflows=[workflow], namespace=namespace,
            timeouts=QUICK,
        )  # fmt: skip

    before, after = moved({"gpu"}), moved(None)
    async with app(before).orchestrator() as orchestrator:
        async with at_work(app(before), name="old") as old:
            run = await orchestrator.start(before, 1)
            while not old.maintenance.unserved_since_ms:  # noqa: ASYNC110 - another process makes it so
                await asyncio.sleep(0.05)
        async with at_work(app(after), name="new"):
            assert await run.result(60) == "new"
