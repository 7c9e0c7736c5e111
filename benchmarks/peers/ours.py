"""floxide_amqp, on RabbitMQ with PostgreSQL or Redis and workers apart, or on SQLite in the client's own process.

Everything is as it comes: quorum queues, publisher confirms, PostgreSQL with `synchronous_commit` as the server has it,
SQLite with ``synchronous=FULL``, and 100 steps in flight in a worker.
"""

from __future__ import annotations

import functools
import os
from contextlib import AsyncExitStack

from benchmarks.peers.arena import VARIABLE, Arena, Facts, Processes
from benchmarks.peers.payload import Order, advance_awaiting
from floxide_amqp import Floxide, Workflow, node

AT_ONCE = 100
RESULT_SECONDS = 120.0

SYNCED = {
    "postgresql": (True, "Each commit is synced by PostgreSQL (synchronous_commit=on)."),
    "redis": (False, "Commits are in Redis as its appendfsync says; the quorum queue syncs."),
    "sqlite": (True, "Each commit is synced (synchronous=FULL)."),
}
TITLES = {"postgresql": "PostgreSQL", "redis": "Redis", "sqlite": "SQLite"}


@node
async def step(order: Order) -> Order:
    return await advance_awaiting(order)


class Chain3(Workflow[Order, Order]):
    start = step.named("step 1")
    edges = (start >> step.named("step 2") >> step.named("step 3"),)


class Chain10(Workflow[Order, Order]):
    start = step.named("step 1")
    edges = (
        start
        >> step.named("step 2")
        >> step.named("step 3")
        >> step.named("step 4")
        >> step.named("step 5")
        >> step.named("step 6")
        >> step.named("step 7")
        >> step.named("step 8")
        >> step.named("step 9")
        >> step.named("step 10"),
    )


CHAINS: dict[int, type[Workflow[Order, Order]]] = {3: Chain3, 10: Chain10}

if VARIABLE in os.environ:
    app = Floxide(workflows=list(CHAINS.values()), namespace=Arena.given().name)
    """What the workers serve; broker and store are told on their command lines."""


class Ours:
    """This project on one of its stores.

    Args:
        store: ``postgresql``, ``redis`` or ``sqlite``.
    """

    def __init__(self, arena: Arena, store: str) -> None:
        is_apart = store != "sqlite"
        is_synced, durability = SYNCED[store]
        self._broker = arena.broker if is_apart else None
        self._store = getattr(arena, store) if is_apart else f"sqlite:///{arena.folder}/runs.db"
        self._arena = arena
        self._processes = Processes(arena)
        self._open = AsyncExitStack()
        self.facts = Facts(
            title=f"floxide_amqp, {TITLES[store]}",
            packages=("floxide-amqp", "aiormq", "asyncpg", "redis", "hiredis"),
            setting=f"RabbitMQ (quorum queue) and {TITLES[store]}, {AT_ONCE} steps in flight a worker, which freezes"
            " and throttles the garbage collector, as its command does by itself"
            if is_apart
            else "SQLite, a worker in the client's own process, no broker",
            is_synced=is_synced,
            durability=durability,
            is_apart=is_apart,
            manual=("docs/stores.md",),
        )

    async def open(self) -> None:
        here = Floxide(self._broker, store=self._store, namespace=self._arena.name, workflows=list(CHAINS.values()))
        self._client = await self._open.enter_async_context(here.orchestrator())
        if self._broker is not None:
            for _ in range(self._arena.workers):
                self._processes.python(
                    "-m", "floxide_amqp.apps.cli", "worker", "benchmarks.peers.ours:app", "--broker", self._broker,
                    "--store", self._store, "--concurrency", str(AT_ONCE), "--log-format", "json",
                )  # fmt: skip

    async def run(self, order: Order, steps: int) -> Order:
        run = await self._client.start(CHAINS[steps], order)
        return await run.result(timeout=RESULT_SECONDS)

    async def close(self) -> None:
        await self._open.aclose()
        self._processes.close()


CONTESTANTS = {store: functools.partial(Ours, store=store) for store in TITLES}
