"""Workflows that can be run where they are defined: in one process, without a broker, with or without a store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

from typing_extensions import TypeVar

from floxide_amqp.apps.application import Floxide
from floxide_amqp.apps.stores import StoreLocation
from floxide_amqp.core.builder import GraphBuilder as DefinitionBuilder
from floxide_amqp.core.context import Context, NoContext
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.exceptions import AlreadyCompletedError, NotStartedError, RunCancelledError, RunNotFoundError
from floxide_amqp.runtime.orchestrator import Orchestrator

InT = TypeVar("InT")
OutT = TypeVar("OutT")
C = TypeVar("C", bound=Context, default=NoContext)


class Workflow(WorkflowDefinition[InT, OutT, C]):
    """A typed graph of nodes: input, output and, if it has one, context.

    The class is checked and compiled when it is created; see `WorkflowDefinition`. The methods here run it in this
    process. For several processes give it to `Floxide`.
    """

    @classmethod
    async def run(
        cls,
        input: InT,
        *,
        context: C | None = None,
        resources: Mapping[type, object] | None = None,
        timeout: timedelta | float | None = None,
    ) -> OutT:
        """Run the workflow in memory and return its output; nothing survives the process.

        Args:
            input: The input.
            context: The initial state; may be left out where every field has a default.
            resources: What nodes get from ``ctx.resource(...)``, by type.
            timeout: Longest wait, `timedelta` or seconds; None for as long as it takes.

        Raises:
            RunFailedError: A node failed for good.
            RunCancelledError: The run cancelled itself.
            ResultTimeoutError: It has not ended within `timeout`; it is abandoned.
        """
        async with _orchestrator(cls, None, resources) as orchestrator:
            handle = await orchestrator.start(cls, input, context=context)
            return await handle.result(timeout)

    @classmethod
    async def run_with_checkpoint(
        cls,
        input: InT,
        *,
        store: StoreLocation,
        run_id: str,
        context: C | None = None,
        resources: Mapping[type, object] | None = None,
        timeout: timedelta | float | None = None,
    ) -> OutT:
        """Run the workflow in this process, every step checkpointed in a store, and return its output.

        Calling it again with the same id and input goes on where the run stands, or returns the output it has.

        Args:
            input: The input.
            store: A store's URL, such as ``sqlite:///runs.db``, or an open store.
            run_id: The run's id, by which `resume` finds it.
            context: The initial state; may be left out where every field has a default.
            resources: What nodes get from ``ctx.resource(...)``, by type.
            timeout: Longest wait, `timedelta` or seconds; None for as long as it takes.

        Raises:
            RunConflictError: A run with this id was started with something else.
            RunFailedError: A node failed for good; `resume` tries it again.
            ResultTimeoutError: It has not ended within `timeout`; `resume` goes on.
        """
        async with _orchestrator(cls, store, resources) as orchestrator:
            handle = await orchestrator.start(cls, input, context=context, run_id=run_id)
            return await handle.result(timeout)

    @classmethod
    async def resume(
        cls,
        *,
        store: StoreLocation,
        run_id: str,
        resources: Mapping[type, object] | None = None,
        timeout: timedelta | float | None = None,
    ) -> OutT:
        """Go on with a run from its checkpoint and return its output; failed items are tried again.

        Raises:
            NotStartedError: There is no such run in the store.
            AlreadyCompletedError: The run has completed.
            RunCancelledError: The run was cancelled.
            RunFailedError: A node failed for good again.
            ResultTimeoutError: It has not ended within `timeout`.
        """
        async with _orchestrator(cls, store, resources) as orchestrator:
            try:
                status = await orchestrator.status(run_id)
            except RunNotFoundError:
                raise NotStartedError(run_id=run_id) from None
            if status is RunStatus.COMPLETED:
                raise AlreadyCompletedError(run_id=run_id)
            if status is RunStatus.CANCELLED:
                raise RunCancelledError(run_id=run_id)
            await orchestrator.resume(run_id)
            return await orchestrator.handle(cls, run_id).result(timeout)


class GraphBuilder(DefinitionBuilder[InT, OutT, C]):
    """Makes workflows that can be run where they are defined: see the base class."""

    base = Workflow

    def build(self) -> type[Workflow[InT, OutT, C]]:
        """Return the workflow.

        Raises:
            DefinitionError: As the class statement of a workflow.
        """
        return cast("type[Workflow[InT, OutT, C]]", super().build())


@asynccontextmanager
async def _orchestrator(
    workflow: type[WorkflowDefinition[Any, Any, Any]], store: StoreLocation, resources: Mapping[type, object] | None
) -> AsyncGenerator[Orchestrator]:
    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[Mapping[type, object]]:
        yield resources or {}

    app = Floxide(store=store, workflows=[workflow], lifespan=lifespan)
    async with app.orchestrator() as orchestrator:
        yield orchestrator
