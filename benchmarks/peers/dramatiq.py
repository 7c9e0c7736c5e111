"""Dramatiq, on RabbitMQ with results in Redis.

Its guide tells to compose actors with pipelines and to store results with the Results middleware, for which it has
Redis and Memcached; `confirm_delivery` makes each enqueue wait for the broker. It has no setting for the kind of its
queues; so it works in a virtual host whose default are quorum queues, which are replicated and synced as those of the
others are. (A confirm of a durable classic queue comes after the write too: with those, two syncs for each three of a
quorum queue were counted here, and 3 steps were 1.0 to 1.25 times as fast.) A worker process has 8 threads, as its
command has by default; for steps that wait it has 100.
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
WAITING = 100
"""Threads, where steps mostly wait."""

CLIENT_THREADS = 8
"""Each start waits for the broker's confirm; 3 steps are 1.2 times as fast with so many as with one thread here."""

RESULT_SECONDS = 120

SOCKET_SECONDS = RESULT_SECONDS + 10
"""A result is waited for with one blocking command, which the 5 s that redis-py waits by default would cut off."""


def connect(arena: Arena) -> Any:
    """Return the actor of a step."""
    broker = RabbitmqBroker(url=arena.quorum_broker, confirm_delivery=True)
    broker.add_middleware(Results(backend=RedisBackend(url=f"{arena.redis}?socket_timeout={SOCKET_SECONDS}")))
    dramatiq.set_broker(broker)
    return dramatiq.actor(advance_plain, actor_name="advance", queue_name=arena.name, store_results=True, broker=broker)


if VARIABLE in os.environ:
    advance = connect(Arena.given())


class Dramatiq:
    client_threads = CLIENT_THREADS
    facts = Facts(
        title="Dramatiq",
        packages=("dramatiq", "pika", "redis", "hiredis"),
        setting=f"RabbitMQ (quorum queue, by the default of its virtual host; confirms), results in Redis, {THREADS}"
        f" threads a worker ({WAITING} for steps that wait) and {CLIENT_THREADS} in the client, pipeline",
        is_synced=False,
        durability="Results are in Redis as its appendfsync says; the quorum queue syncs.",
        has_waiting_form=True,
        manual=(
            "https://dramatiq.io/guide.html",
            "https://dramatiq.io/advanced.html",
            "https://redis.io/docs/latest/integrate/dramatiq/",
            "https://www.rabbitmq.com/docs/vhosts",
        ),
    )

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._processes = Processes(arena)

    def open(self) -> None:
        threads = WAITING if self._arena.is_waiting else THREADS
        for _ in range(self._arena.workers):
            self._processes.python(
                "-m", "dramatiq", "benchmarks.peers.dramatiq", "--processes", "1", "--threads", str(threads),
            )  # fmt: skip

    def start(self, order: Order, steps: int) -> Any:
        later = (advance.message() for _ in range(steps - 1))
        return dramatiq.pipeline([advance.message(order.model_dump()), *later]).run()

    def result(self, started: Any) -> Order:
        return Order.model_validate(started.get_result(block=True, timeout=RESULT_SECONDS * 1000))

    def close(self) -> None:
        self._processes.close()


CONTESTANTS = {"": Dramatiq}
