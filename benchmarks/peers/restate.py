"""Restate: one server of npm's package, and its Python SDK.

The service is served by Hypercorn, on uvloop, with the settings of its manual's page on serving; each step is a
`ctx.run`, whose result the server has in its log, synced, before the next step starts. The client calls its ingress
over HTTP.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import restate

from benchmarks.peers.arena import ROOT, Arena, Facts, Processes, free_port
from benchmarks.peers.payload import Order, advance_plain_awaiting

START_SECONDS = 120.0
STREAMS = 2147483647
PROGRAM = Path("npm/node_modules/.bin/restate-server")
PACKAGE = Path("npm/node_modules/@restatedev/restate-server/package.json")

service = restate.Service("bench")


@service.handler("run")
async def run_chain(ctx: restate.Context, asked: dict[str, Any]) -> dict[str, Any]:
    order: dict[str, Any] = asked["order"]
    for number in range(asked["steps"]):
        order = await ctx.run_typed(f"step {number}", advance_plain_awaiting, data=order)
    return order


app = restate.app(services=[service])


class Restate:
    facts = Facts(
        title="Restate",
        packages=("restate-sdk", "hypercorn", "aiohttp"),
        setting="one server of its own with its default configuration, ctx.run for each step, called over HTTP;"
        " Hypercorn on uvloop",
        is_synced=True,
        durability="Its server syncs its log (rocksdb-disable-wal-fsync is false by default).",
        manual=(
            "https://docs.restate.dev/develop/python/serving",
            "https://pypi.org/project/restate-sdk/1.3.0/",
            "https://docs.restate.dev/references/server-config",
        ),
    )

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._processes = Processes(arena)
        server = json.loads((ROOT / arena.tools / PACKAGE).read_text(encoding="utf-8"))
        self.facts = replace(Restate.facts, setting=f"{Restate.facts.setting}; server {server['version']}")

    async def open(self) -> None:
        folder, ports = Path(self._arena.folder), [free_port() for _ in range(3 + max(1, self._arena.workers))]
        self._ingress, admin, node, *workers = ports
        self._processes.start(
            str(ROOT / self._arena.tools / PROGRAM), "--no-logo", "--listen-mode", "tcp", "--base-dir",
            str(folder / "restate"), "--node-name", "bench", "--cluster-name", self._arena.name,
            environment={
                "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
                "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{self._ingress}",
                "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
                "RESTATE_LOG_FILTER": "warn",
                "DO_NOT_TRACK": "1",
            },
        )  # fmt: skip
        (port, *_) = workers
        settings = folder / "hypercorn.toml"
        settings.write_text(
            f'bind = "127.0.0.1:{port}"\nh2_max_concurrent_streams = {STREAMS}\nkeep_alive_max_requests = {STREAMS}\n'
            f"keep_alive_timeout = {STREAMS}\nworkers = {max(1, self._arena.workers)}\n"
            'worker_class = "uvloop"\n',
            encoding="utf-8",
        )
        self._processes.python("-m", "hypercorn", "--config", str(settings), "benchmarks.peers.restate:app")
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        await self._until_registered(f"http://127.0.0.1:{admin}/deployments", f"http://127.0.0.1:{port}")

    async def run(self, order: Order, steps: int) -> Order:
        url = f"http://127.0.0.1:{self._ingress}/bench/run"
        async with self._session.post(url, json={"order": order.model_dump(), "steps": steps}) as answer:
            answer.raise_for_status()
            return Order.model_validate_json(await answer.read())

    async def close(self) -> None:
        await self._session.close()
        self._processes.close()

    async def _until_registered(self, admin: str, deployment: str) -> None:
        """Register the deployment, as soon as both the server and the service are up."""
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                async with self._session.post(admin, json={"uri": deployment, "force": True}) as answer:
                    if answer.ok:
                        return
                    said = await answer.text()
            except aiohttp.ClientError as error:
                said = repr(error)
            if time.monotonic() > until:
                raise RuntimeError(f"Restate does not take the deployment: {said}")
            await asyncio.sleep(0.2)


CONTESTANTS = {"": Restate}
