"""Taskiq, on RabbitMQ with results in Redis.

Its broker declares quorum queues by default, and a message is acknowledged once its result is saved, which is the
worker's default too. Tasks are put one after the other with its pipelines. The prefetch is raised from 10 to the number
of tasks that a worker runs at a time, which helps it here.
"""

from __future__ import annotations

import os
from typing import Any

from taskiq_aio_pika import AioPikaBroker, Exchange, Queue
from taskiq_pipelines import Pipeline, PipelineMiddleware
from taskiq_redis import RedisAsyncResultBackend

from benchmarks.peers.arena import VARIABLE, Arena, Facts, Processes, asking_seconds
from benchmarks.peers.payload import Order, advance_plain_awaiting

AT_ONCE = 100
RESULT_SECONDS = 120.0


def connect(arena: Arena) -> Any:
    """Return the broker; its task is a step."""
    queue = Queue(name=arena.name, routing_key=arena.name)
    parts = {
        "exchange": Exchange(name=arena.name), "task_queues": [queue],
        "dead_letter_queue": Queue(name=f"{arena.name}.dead"),
    }  # fmt: skip
    broker = AioPikaBroker(arena.broker, qos=AT_ONCE, **parts)
    backend: Any = RedisAsyncResultBackend(arena.redis, result_ex_time=600)
    return broker.with_result_backend(backend).with_middlewares(PipelineMiddleware())


async def advance(order: dict[str, Any]) -> dict[str, Any]:
    return await advance_plain_awaiting(order)


if VARIABLE in os.environ:
    broker = connect(Arena.given())
    step = broker.task(task_name="advance")(advance)


class Taskiq:
    facts = Facts(
        title="Taskiq",
        packages=("taskiq", "taskiq-aio-pika", "taskiq-redis", "taskiq-pipelines", "aio-pika", "redis", "hiredis"),
        setting=f"RabbitMQ (quorum queue, acked once saved), results in Redis, {AT_ONCE} tasks at once, pipeline",
        is_synced=False,
        durability="Results are in Redis as its appendfsync says; the quorum queue syncs.",
        manual=(
            "https://pypi.org/project/taskiq-aio-pika/",
            "https://pypi.org/project/taskiq-redis",
        ),
    )

    def __init__(self, arena: Arena) -> None:
        self.in_flight = 1
        self._arena = arena
        self._processes = Processes(arena)

    async def open(self) -> None:
        await broker.startup()
        for _ in range(self._arena.workers):
            self._processes.python(
                "-m", "taskiq", "worker", "benchmarks.peers.taskiq:broker", "--workers", "1", "--max-async-tasks",
                str(AT_ONCE), "--log-level", "WARNING",
            )  # fmt: skip

    async def run(self, order: Order, steps: int) -> Order:
        pipeline: Any = Pipeline(broker, step)
        for _ in range(steps - 1):
            pipeline = pipeline.call_next(step)
        task = await pipeline.kiq(order.model_dump())
        result = await task.wait_result(check_interval=asking_seconds(self.in_flight), timeout=RESULT_SECONDS)
        result.raise_for_error()
        return Order.model_validate(result.return_value)

    async def close(self) -> None:
        self._processes.close()
        await broker.shutdown()


CONTESTANTS = {"": Taskiq}
