"""Where a workflow is measured: every queue and store there is."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.workflows import CONCURRENCY, WORKFLOWS
from floxide_amqp import Floxide, Interceptor, Limits, Orchestrator
from floxide_amqp.testing.services import RabbitMQ, launch_rabbitmq, new_namespace

WORKER_START_SECONDS = 30.0


@dataclass
class Place:
    """A queue and a store.

    Attributes:
        queue: ``in-process`` or ``rabbitmq``.
        store: ``memory`` or ``sqlite``.
        concurrency: Steps that its worker has in flight at a time.
    """

    queue: str
    store: str
    concurrency: int = CONCURRENCY
    broker: RabbitMQ | None = field(default=None, repr=False, kw_only=True)

    @property
    def name(self) -> str:
        return f"{self.queue}, {self.store}"

    @asynccontextmanager
    async def open(self, interceptors: Sequence[Interceptor] = ()) -> AsyncGenerator[Orchestrator]:
        """A fresh store, and something that works: a worker in this process, or one of its own on RabbitMQ."""
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="floxide-bench-")))
            store = f"sqlite:///{folder}/runs.db" if self.store == "sqlite" else None
            limits = Limits(concurrency=self.concurrency)
            if self.broker is None:
                app = Floxide(store=store, workflows=WORKFLOWS, interceptors=interceptors, limits=limits)
                yield await stack.enter_async_context(app.orchestrator())
                return
            namespace = new_namespace("bench")
            app = Floxide(self.broker.url, store=store, namespace=namespace, workflows=WORKFLOWS, limits=limits)
            orchestrator = await stack.enter_async_context(app.orchestrator())
            await stack.enter_async_context(_worker_process(folder, self.broker.url, str(store), namespace))
            yield orchestrator


@asynccontextmanager
async def _worker_process(folder: Path, broker: str, store: str, namespace: str) -> AsyncGenerator[None]:
    """One worker process, up and consuming while the block is open; its log is in `folder`."""
    place = {"FLOXIDE_BENCH_BROKER": broker, "FLOXIDE_BENCH_STORE": store, "FLOXIDE_BENCH_NAMESPACE": namespace}
    log = folder / "worker.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
            [sys.executable, "-m", "floxide_amqp.apps.cli", "worker", "benchmarks.worker:app", "--log-format", "json"],
            env=os.environ | place,
            cwd=Path(__file__).parents[1],
            stderr=stderr,
        )
    try:
        until = time.monotonic() + WORKER_START_SECONDS
        while '"worker.started"' not in log.read_text():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the benchmark's worker did not start:\n{log.read_text()}")
            await asyncio.sleep(0.02)
        yield
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, 20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@asynccontextmanager
async def all_places(*, with_rabbitmq: bool = True) -> AsyncIterator[list[Place]]:
    """Every place there is; RabbitMQ is launched once, where one is to be had."""
    places = [Place("in-process", "memory"), Place("in-process", "sqlite")]
    if not with_rabbitmq:
        yield places
        return
    broker = await asyncio.to_thread(launch_rabbitmq)
    try:
        yield [*places, Place("rabbitmq", "sqlite", broker=broker)]
    finally:
        await asyncio.to_thread(broker.close)
