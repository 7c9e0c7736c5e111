"""Where a workflow is measured: every queue and store there is."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.apart import Servers, worker_processes
from benchmarks.workflows import CONCURRENCY, WORKFLOWS
from floxide_amqp import Floxide, Interceptor, Limits, Orchestrator
from floxide_amqp.testing.services import RabbitMQ, launch_rabbitmq, new_namespace


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
            servers = Servers(broker=self.broker.url, store=str(store), namespace=namespace)
            worker = worker_processes(
                "benchmarks.workflows:app", folder, servers, number=1, concurrency=self.concurrency
            )
            await stack.enter_async_context(worker)
            yield orchestrator


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
