"""DBOS, on PostgreSQL: its workflows in the client's own process, or on a queue with workers apart (``dbos-queue``).

Its programming guide recommends PostgreSQL for production, and its example of a queue worker the second form, with a
`DBOSClient` that enqueues. Queues and results are polled every second by default; here they are polled more often, as
the reference says helps latency. Of threads that run workflows the default and at most 32 and 64 were tried: in the
client's own process they were alike, apart 32 were the fastest.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSClient

from benchmarks.peers.arena import VARIABLE, Arena, Facts, Processes, asking_seconds
from benchmarks.peers.payload import Order, advance_plain

QUEUE = "bench"
VERSION = "bench"
POLLING_SECONDS = 0.05
CLIENT_THREADS = 1
"""Both forms were 1.1 to 1.3 times as fast with one as with 8 here."""

EXECUTORS = 32
"""Threads of a worker apart: fewer than by default, as many as there are runs, which was slower here."""

START_SECONDS = 60.0

_PACKAGES = ("dbos", "sqlalchemy", "psycopg")
_DURABILITY = "Each step is a commit of its own in PostgreSQL."


@DBOS.step()
def step(order: dict[str, Any]) -> dict[str, Any]:
    return advance_plain(order)


@DBOS.workflow()
def run_chain(order: dict[str, Any], steps: int) -> dict[str, Any]:
    for _ in range(steps):
        order = step(order)
    return order


def launch(arena: Arena, executors: int | None = None) -> None:
    """Let this process run workflows, in at most so many threads; None for as many as there are runs."""
    DBOS(
        config={
            "name": "bench", "system_database_url": arena.postgresql, "application_version": VERSION,
            "log_level": "WARNING", "run_admin_server": False, "max_executor_threads": executors,
        }
    )  # fmt: skip
    DBOS.launch()


class InProcess:
    client_threads = CLIENT_THREADS
    facts = Facts(
        title="DBOS",
        packages=_PACKAGES,
        setting="PostgreSQL, workflows in threads of the client's own process, as many as there are runs; one thread"
        " starts and awaits them",
        is_synced=True,
        durability=_DURABILITY,
        is_apart=False,
        manual=("https://docs.dbos.dev/python/programming-guide",),
    )

    def __init__(self, arena: Arena) -> None:
        self._arena = arena

    def open(self) -> None:
        launch(self._arena)

    def start(self, order: Order, steps: int) -> Any:
        return DBOS.start_workflow(run_chain, order.model_dump(), steps)

    def result(self, started: Any) -> Order:
        return Order.model_validate(started.get_result())

    def close(self) -> None:
        DBOS.destroy()


class Queued:
    client_threads = CLIENT_THREADS
    facts = Facts(
        title="DBOS, queue",
        packages=_PACKAGES,
        setting=f"PostgreSQL, workflows enqueued by a client's one thread, workers apart that poll every"
        f" {POLLING_SECONDS} s and have {EXECUTORS} threads",
        is_synced=True,
        durability=_DURABILITY,
        manual=(
            "https://docs.dbos.dev/python/examples/queue-worker",
            "https://docs.dbos.dev/python/reference/client",
            "https://docs.dbos.dev/python/reference/configuration",
        ),
    )

    def __init__(self, arena: Arena) -> None:
        self.in_flight = 1
        self._arena = arena
        self._processes = Processes(arena)

    def open(self) -> None:
        self._client = DBOSClient(system_database_url=self._arena.postgresql)
        for number in range(self._arena.workers):
            sign = f"{self._arena.folder}/launched-{number}"
            self._processes.python("-m", "benchmarks.peers.dbos", sign, environment={"DBOS__VMID": f"worker-{number}"})
            self._wait_for(Path(sign))  # the first one makes the tables

    def _wait_for(self, path: Path) -> None:
        until = time.monotonic() + START_SECONDS
        while not path.exists():
            if time.monotonic() > until:
                raise RuntimeError("a worker of DBOS did not launch")
            time.sleep(0.05)

    def start(self, order: Order, steps: int) -> Any:
        options: Any = {"workflow_name": "run_chain", "queue_name": QUEUE, "app_version": VERSION}
        return self._client.enqueue(options, order.model_dump(), steps)

    def result(self, started: Any) -> Order:
        return Order.model_validate(started.get_result(polling_interval_sec=asking_seconds(self.in_flight)))

    def close(self) -> None:
        self._processes.close()
        self._client.destroy()


CONTESTANTS = {"": InProcess, "queue": Queued}


if __name__ == "__main__" and VARIABLE in os.environ:
    launch(Arena.given(), EXECUTORS)
    DBOS.register_queue(QUEUE, polling_interval_sec=POLLING_SECONDS)
    Path(sys.argv[1]).touch()
    threading.Event().wait()
