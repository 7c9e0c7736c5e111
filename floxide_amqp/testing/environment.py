"""An environment for tests of workflows: the real engine in this process, on virtual time.

What a run waits for passes at once, from the backoff of a retry to a hold of months::

    async with WorkflowEnvironment(Shop, resources={Bank: FakeBank()}) as environment:
        run = await environment.start(Shop, "book")
        await environment.sleep(timedelta(days=1))
        assert await run.status() is RunStatus.WAITING
        assert await run.result() == "40 paid, thank you"

It needs an event loop with virtual time; see `floxide_amqp.testing.virtual_time`. `Workflow.run` and its sisters need
no environment: on such a loop their time jumps by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from floxide_amqp.apps.application import Floxide
from floxide_amqp.apps.stores import StoreLocation
from floxide_amqp.core.context import Context
from floxide_amqp.core.instants import at
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.ports.clock import Clock
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.run_handle import RunHandle
from floxide_amqp.testing.virtual_time import VirtualTimeLoop

InT = TypeVar("InT")
OutT = TypeVar("OutT")
C = TypeVar("C", bound=Context)


class WorkflowEnvironment:
    """One worker and one orchestrator in this process, whose time jumps; open while the ``async with`` block is.

    Args:
        workflows: The workflows, where no application is given.
        app: An application to run as it is, with its lifespan, retry policy and limits, but without its broker.
        resources: What nodes get from ``ctx.resource(...)``, by type, in place of what a lifespan opens.
        store: A store's URL or an open store, to look at afterwards or to share with another environment; memory by
            default.

    Attributes:
        orchestrator: Starts and steers runs, and looks at them.

    Raises:
        ConfigurationError: The running event loop has no virtual time.
    """

    orchestrator: Orchestrator

    def __init__(
        self,
        *workflows: type[WorkflowDefinition[Any, Any, Any]],
        app: Floxide | None = None,
        resources: Mapping[type, object] | None = None,
        store: StoreLocation = None,
    ) -> None:
        if app is None:
            self._app = Floxide(store=store, workflows=workflows, lifespan=lambda: _providing(resources or {}))
        else:
            self._app = app.embedded(store, lifespan=None if resources is None else lambda: _providing(resources))
        self._stack = AsyncExitStack()
        self._clock: Clock | None = None

    async def __aenter__(self) -> Self:
        """Start the worker."""
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualTimeLoop):
            raise ConfigurationError(
                "A WorkflowEnvironment needs an event loop whose time jumps: run the test with virtual_time.run(...), "
                "or import virtual_time.pytest_asyncio_loop_factories into its conftest.py."
            )
        self._clock = loop.wall_clock
        self.orchestrator = await self._stack.enter_async_context(self._app.orchestrator())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let the worker drain and end."""
        await self._stack.aclose()

    async def start(
        self,
        workflow: type[WorkflowDefinition[InT, OutT, C]],
        input: InT,
        *,
        context: C | None = None,
        run_id: str | None = None,
    ) -> RunHandle[OutT]:
        """Start a run; see `Orchestrator.start`."""
        return await self.orchestrator.start(workflow, input, context=context, run_id=run_id)

    async def sleep(self, duration: timedelta | float) -> None:
        """Let time pass, `timedelta` or seconds; whatever is due meanwhile happens."""
        await asyncio.sleep(duration.total_seconds() if isinstance(duration, timedelta) else duration)

    def now(self) -> datetime:
        """Return the time of day in this environment, which is also the store's, in UTC.

        Raises:
            ConfigurationError: It has not been entered.
        """
        if self._clock is None:
            raise ConfigurationError("A WorkflowEnvironment has a time once it is entered with `async with`.")
        return at(self._clock.now_ms())


@asynccontextmanager
async def _providing(resources: Mapping[type, object]) -> AsyncGenerator[Mapping[type, object]]:
    yield resources
