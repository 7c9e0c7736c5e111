"""Dramatiq, on RabbitMQ with results in Redis.

Its guide tells to compose actors with pipelines and to store results with the Results middleware, for which it has
Redis and Memcached; `confirm_delivery` makes each enqueue wait for the broker. It declares classic durable queues, and
has no setting for another kind. A worker process has 8 threads, as its command has by default.
"""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.peers.arena import VARIABLE, Arena, Facts, Processes
from benchmarks.peers.payload import Order, advance_plain

THREADS = 8
RESULT_MILLISECONDS = 120_000


def connect(arena: Arena) -> Any:
    """Return the actor of a step."""
    broker = RabbitmqBroker(url=arena.broker, confirm_delivery=True)
    broker.add_middleware(Results(backend=RedisBackend(url=arena.redis)))
    dramatiq.set_broker(broker)
    return dramatiq.actor(advance_plain, actor_name="advance", queue_name=arena.name, store_results=True, broker=broker)


if VARIABLE in os.environ:
    advance = connect(Arena.given())


class Dramatiq:
    facts = Facts(
        title="Dramatiq",
        packages=("dramatiq", "pika", "redis"),
        setting=f"RabbitMQ (classic durable queue, confirms), results in Redis, {THREADS} threads a worker, pipeline",
        is_synced=False,
        durability="Results are in Redis as its appendfsync says; the broker keeps classic queues in its own time.",
        manual=(
            "https://dramatiq.io/advanced.html",
            "https://redis.io/docs/latest/integrate/dramatiq/",
        ),
    )

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._processes = Processes(arena)

    def open(self) -> None:
        for _ in range(self._arena.workers):
            self._processes.python(
                "-m", "dramatiq", "benchmarks.peers.dramatiq", "--processes", "1", "--threads", str(THREADS),
            )  # fmt: skip

    def start(self, order: Order, steps: int) -> Any:
        later = (advance.message() for _ in range(steps - 1))
        return dramatiq.pipeline([advance.message(order.model_dump()), *later]).run()

    def result(self, started: Any) -> Order:
        return Order.model_validate(started.get_result(block=True, timeout=RESULT_MILLISECONDS))

    def close(self) -> None:
        self._processes.close()


CONTESTANTS = {"": Dramatiq}
