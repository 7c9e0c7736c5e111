"""Serves a worker's health over HTTP: read-only, without payloads, and for this machine only unless told otherwise."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from floxide_amqp.apps.health.address import Address
from floxide_amqp.apps.health.checks import Check, liveness, readiness
from floxide_amqp.apps.health.exporter import new_registry, render
from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.worker import Worker

_log = get_logger("floxide_amqp.health")

FAREWELL_SECONDS = 2.0
"""How long requests under way get when the worker ends."""

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class HealthPages:
    """The pages of one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._registry = new_registry(worker)

    def application(self) -> web.Application:
        """Return the pages as a web application."""
        application = web.Application()
        application.router.add_get("/livez", self.live)
        application.router.add_get("/readyz", self.ready)
        application.router.add_get("/metrics", self.metrics)
        return application

    async def live(self, request: web.Request) -> web.Response:
        """Say whether the worker lives."""
        del request
        return self._answer("alive", "broken", liveness(self._worker.parts_ended))

    async def ready(self, request: web.Request) -> web.Response:
        """Say whether the worker can work now, and if not, why."""
        del request
        worker = self._worker
        checks = readiness(worker.health(), worker.services.connections(), worker.services.timeouts)
        return self._answer("ready", "not ready", checks)

    async def metrics(self, request: web.Request) -> web.Response:
        """Return the metrics."""
        body, content_type = render(self._registry, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={**HEADERS, "Content-Type": content_type})

    def _answer(self, good: str, bad: str, checks: Sequence[Check]) -> web.Response:
        failed = [check for check in checks if not check.ok]
        body = {
            "status": bad if failed else good,
            "worker": self._worker.services.name,
            "problems": [f"{check.name}: {check.detail}" for check in failed],
            "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks],
        }
        return web.json_response(body, status=503 if failed else 200, headers=HEADERS)


@asynccontextmanager
async def serving(address: Address, worker: Worker) -> AsyncGenerator[Address]:
    """Serve a worker's health while the block is open, which is given the address; see `serve_health`.

    Raises:
        ConfigurationError: Nothing can listen there.
    """
    runner = web.AppRunner(
        HealthPages(worker).application(), access_log=None, handle_signals=False, shutdown_timeout=FAREWELL_SECONDS
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, address.host, address.port).start()
        except OSError as error:
            why = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
            raise ConfigurationError(
                f"The health endpoints cannot listen on {address}: {why}. Give another address, or port 0 for any "
                "that is free."
            ) from error
        bound = Address(address.host, runner.addresses[0][1])
        _log.info("health.listening", address=str(bound), worker_id=worker.services.name)
        yield bound
    finally:
        await runner.cleanup()
