"""Prefect, with its own server on PostgreSQL.

Its manual recommends PostgreSQL for production, and persisted results for what must survive. A flow runs in the process
that calls it; the engine there keeps the states of tasks, and sends them to the server as events.
"""

from __future__ import annotations

import asyncio
import os
import time
import urllib.error
import urllib.request
from typing import Any

from benchmarks.peers.arena import Arena, Facts, Processes, free_port
from benchmarks.peers.payload import Order, advance_plain_awaiting

START_SECONDS = 120.0


class Prefect:
    facts = Facts(
        title="Prefect",
        packages=("prefect", "asyncpg"),
        setting="its server on PostgreSQL, results persisted, flows in the client's own process",
        is_synced=False,
        durability="Its client's engine keeps the states of tasks and sends them as events, which its server commits"
        " later; results are files that are not synced.",
        is_apart=False,
        manual=("https://docs.prefect.io/v3/concepts/server", "https://docs.prefect.io/v3/advanced/results"),
    )

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._processes = Processes(arena)

    async def open(self) -> None:
        port = free_port()
        url = f"http://127.0.0.1:{port}/api"
        os.environ |= {
            "PREFECT_API_URL": url,
            "PREFECT_HOME": f"{self._arena.folder}/prefect",
            "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
            "PREFECT_LOGGING_LEVEL": "ERROR",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_API_DATABASE_CONNECTION_URL": self._arena.postgresql.replace(
                "postgresql://", "postgresql+asyncpg://"
            ),
            "PREFECT_SERVER_UI_ENABLED": "false",
        }
        self._processes.python("-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
        await asyncio.to_thread(wait_until_healthy, f"{url}/health")
        self._flow = make_flow()

    async def run(self, order: Order, steps: int) -> Order:
        return Order.model_validate(await self._flow(order.model_dump(), steps))

    async def close(self) -> None:
        self._processes.close()


def wait_until_healthy(url: str) -> None:
    """Return once the server answers."""
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - an address of this machine
        except (urllib.error.URLError, OSError):
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return


def make_flow() -> Any:
    """Return the flow; imported only now, for it reads its settings when it is imported."""
    import prefect  # noqa: PLC0415

    @prefect.task(persist_result=True)
    async def step(order: dict[str, Any]) -> dict[str, Any]:
        return await advance_plain_awaiting(order)

    @prefect.flow(persist_result=True)
    async def run_chain(order: dict[str, Any], steps: int) -> dict[str, Any]:
        for _ in range(steps):
            order = await step(order)
        return order

    return run_chain


CONTESTANTS = {"": Prefect}
