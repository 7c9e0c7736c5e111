"""Celery, on RabbitMQ with results in Redis.

Its manual recommends quorum queues for data safety, late acknowledgement for tasks that may run twice, and says how
publishes are confirmed. The prefork pool has as many children as the machine has cores, which is its default; for steps
that wait, a worker has a pool of 100 threads, as its page on concurrency tells for what waits. Its prefetch multiplier
is the default, 4: 16 and 64 were no faster here.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from celery import Celery, chain

from benchmarks.peers.arena import VARIABLE, Arena, Facts, Processes
from benchmarks.peers.payload import Order, advance_plain

CHILDREN = os.cpu_count() or 1
WAITING = 100
"""Threads, where steps mostly wait."""

RESULT_SECONDS = 120


def connect(arena: Arena) -> Any:
    """Return the application, with the task of a step."""
    app = Celery("bench", broker=arena.broker, backend=arena.redis)
    app.conf.update(
        task_default_queue=arena.name,
        task_default_exchange=arena.name,
        task_default_routing_key=arena.name,
        task_default_queue_type="quorum",
        broker_transport_options={"confirm_publish": True},
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_detect_quorum_queues=True,
        broker_connection_retry_on_startup=True,
        redis_socket_keepalive=True,
    )
    app.task(advance_plain, name="advance")
    return app


if VARIABLE in os.environ:
    app = connect(Arena.given())


class CeleryContestant:
    client_threads = 1
    """Eight threads that wait for results were no faster here, and one of them was left without its result."""

    facts = Facts(
        title="Celery",
        packages=("celery", "kombu", "amqp", "redis", "hiredis"),
        setting=f"RabbitMQ (quorum queue, confirms, late acks), results in Redis, prefork of {CHILDREN} (a pool of"
        f" {WAITING} threads for steps that wait), one thread in the client, chain",
        is_synced=False,
        durability="Results are in Redis as its appendfsync says; the quorum queue syncs.",
        processes=CHILDREN,
        has_waiting_form=True,
        manual=(
            "https://docs.celeryq.dev/en/latest/getting-started/backends-and-brokers/rabbitmq.html",
            "https://docs.celeryq.dev/en/latest/reference/celery.app.amqp.html",
            "https://docs.celeryq.dev/en/latest/userguide/optimizing.html",
            "https://docs.celeryq.dev/en/latest/userguide/concurrency/index.html",
        ),
    )

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._processes = Processes(arena)
        if arena.is_waiting:
            self.facts = replace(self.facts, processes=1)

    def open(self) -> None:
        pool, concurrency = ("threads", WAITING) if self._arena.is_waiting else ("prefork", CHILDREN)
        for number in range(self._arena.workers):
            self._processes.python(
                "-m", "celery", "--app", "benchmarks.peers.celery", "worker", "--pool", pool, "--concurrency",
                str(concurrency), "--loglevel", "WARNING", "--hostname", f"worker{number}@{self._arena.name}",
            )  # fmt: skip

    def start(self, order: Order, steps: int) -> Any:
        step = app.tasks["advance"]
        return chain(step.s(order.model_dump()), *(step.s() for _ in range(steps - 1))).apply_async()

    def result(self, started: Any) -> Order:
        return Order.model_validate(started.get(timeout=RESULT_SECONDS))

    def close(self) -> None:
        self._processes.close()


CONTESTANTS = {"": CeleryContestant}
