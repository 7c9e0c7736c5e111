"""A client for code without an event loop, such as Django's and Flask's views: an orchestrator in a background thread.

It is thin: what it does is said of `Orchestrator`, each of whose methods can be called through `Client.call`.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Generic, Self, cast

from typing_extensions import TypeVar

from floxide_amqp.apps.absent import BrokerUse
from floxide_amqp.apps.application import Floxide
from floxide_amqp.apps.background_loop import BackgroundLoop
from floxide_amqp.core.attributes import Attributes
from floxide_amqp.core.context import Context
from floxide_amqp.core.priorities import Priority
from floxide_amqp.core.signals import Signal
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.runtime.orchestrator import Orchestrator
from floxide_amqp.runtime.run_events import RunEvent
from floxide_amqp.runtime.run_handle import RunHandle
from floxide_amqp.runtime.run_view import RunView
from floxide_amqp.runtime.start import Start
from floxide_amqp.runtime.views import RunInfo, RunPage

T = TypeVar("T")
InT = TypeVar("InT")
OutT = TypeVar("OutT")
SentT = TypeVar("SentT")
C = TypeVar("C", bound=Context)
O_co = TypeVar("O_co", covariant=True)


class Client:
    """Starts and steers runs from threads.

        client = Client(app)

        @flask_app.post("/orders")
        def order() -> dict[str, str]:
            run = client.start(OrderProcessing, Order(**request.json), run_id=request.headers["Idempotency-Key"])
            return {"run": run.run_id}

    Make one for the process, at import. Nothing is opened before the first call, and each process opens its own: so
    servers that fork their workers may load the application first. All threads may use it at once; it is closed when
    the process ends. In async code await an orchestrator instead.

    Args:
        app: The application.
        with_worker: Whether a worker runs in the background too; by default exactly when the application has no
            broker.
        broker: What it wants of the broker, where it has no worker. With `BrokerUse.NONE` it connects to none, which is
            enough to look at runs.
    """

    def __init__(self, app: Floxide, *, with_worker: bool | None = None, broker: BrokerUse = BrokerUse.NEEDED) -> None:
        self._apps = {os.getpid(): app}
        self._with_worker, self._broker = with_worker, broker
        self._loop = BackgroundLoop(lambda: self._orchestrator(app), name="floxide.sync")

    def __enter__(self) -> Self:
        """Return itself; it is closed with the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self, timeout: float | None = None) -> None:
        """Close its connections, and wait until that is done; the next call opens them again. Twice is fine.

        Args:
            timeout: Longest wait, seconds; None for as long as it takes.
        """
        self._loop.close(timeout)

    def call(self, act: Callable[[Orchestrator], Awaitable[T]]) -> T:
        """Return what any call of the orchestrator comes to: ``client.call(lambda it: it.workers())``.

        Raises:
            ConfigurationError: It was called in its own event loop, as by an async node.
            Exception: Whatever the call raises.
        """
        return self._loop.call(act)

    def _orchestrator(self, app: Floxide) -> AbstractAsyncContextManager[Orchestrator]:
        """Open an orchestrator here; in a forked process what the application keeps in memory is another's."""
        here = os.getpid()
        if here not in self._apps:
            self._apps[here] = app.embedded(app.store) if app.is_embedded else app
        return self._apps[here].orchestrator(with_worker=self._with_worker, broker=self._broker)

    # --- starting

    def start(
        self,
        workflow: type[WorkflowDefinition[InT, OutT, C]],
        input: InT,
        *,
        context: C | None = None,
        run_id: str | None = None,
        attributes: Attributes | None = None,
        delay: timedelta | float | None = None,
        start_at: datetime | None = None,
        timeout: timedelta | float | None = None,
        dedupe_key: str | None = None,
        dedupe_for: timedelta | float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Run[OutT]:
        """Store a run and send its first message; see `Orchestrator.start`."""
        handle = self.call(
            lambda it: it.start(
                workflow, input, context=context, run_id=run_id, attributes=attributes, delay=delay,
                start_at=start_at, timeout=timeout, dedupe_key=dedupe_key, dedupe_for=dedupe_for,
                priority=priority,
            )
        )  # fmt: skip
        return Run(self, handle)

    def start_many(
        self, workflow: type[WorkflowDefinition[InT, OutT, C]], starts: Iterable[Start[InT]]
    ) -> list[Run[OutT]]:
        """Store many runs in grouped commits; see `Orchestrator.start_many`."""
        return [Run(self, handle) for handle in self.call(lambda it: it.start_many(workflow, starts))]

    def run(self, workflow: type[WorkflowDefinition[Any, OutT, Any]], run_id: str) -> Run[OutT]:
        """Return a run that was started elsewhere; nothing is read of it until it is used."""

        async def find(orchestrator: Orchestrator) -> RunHandle[OutT]:
            return orchestrator.handle(workflow, run_id)

        return Run(self, self.call(find))

    # --- waiting

    def result(
        self,
        workflow: type[WorkflowDefinition[Any, OutT, Any]],
        run_id: str,
        timeout: timedelta | float | None = None,
    ) -> OutT:
        """Wait for a run's end and return its output; see `RunHandle.result`."""
        return self.run(workflow, run_id).result(timeout)

    def wait(self, run_id: str, timeout: timedelta | float | None = None) -> RunStatus:
        """Wait for a run's end and return its status; see `Orchestrator.wait`."""
        return self.call(lambda it: it.wait(run_id, timeout))

    # --- steering

    def cancel(self, run_id: str, *, reason: str = "", by: str = "") -> bool:
        """Cancel a run; see `Orchestrator.cancel`."""
        return self.call(lambda it: it.cancel(run_id, reason=reason, by=by))

    def pause(self, run_id: str, *, reason: str = "", by: str = "") -> None:
        """Pause a run; see `Orchestrator.pause`."""
        self.call(lambda it: it.pause(run_id, reason=reason, by=by))

    def resume(self, run_id: str, *, reason: str = "", by: str = "") -> bool:
        """Let a paused or failed run go on; see `Orchestrator.resume`."""
        return self.call(lambda it: it.resume(run_id, reason=reason, by=by))

    def signal(self, run_id: str, signal: Signal[SentT], value: SentT, *, signal_id: str = "") -> bool:
        """Send a run a value; see `Orchestrator.signal`."""
        return self.call(lambda it: it.signal(run_id, signal, value, signal_id=signal_id))

    def delete(self, run_id: str) -> bool:
        """Delete a run that has ended; see `Orchestrator.delete`."""
        return self.call(lambda it: it.delete(run_id))

    # --- looking

    def status(self, run_id: str) -> RunStatus:
        """Return a run's status; see `Orchestrator.status`."""
        return self.call(lambda it: it.status(run_id))

    def run_info(self, run_id: str) -> RunInfo:
        """Return what is to be said of a run; see `Orchestrator.run_info`."""
        return self.call(lambda it: it.run_info(run_id))

    def list_runs(
        self,
        *,
        status: RunStatus | None = None,
        workflow: str | None = None,
        attributes: Attributes | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        limit: int = 50,
        cursor: str = "",
    ) -> RunPage:
        """Return runs, newest first, one page at a time; see `Orchestrator.list_runs`."""
        return self.call(
            lambda it: it.list_runs(
                status=status, workflow=workflow, attributes=attributes, started_after=started_after,
                started_before=started_before, limit=limit, cursor=cursor,
            )
        )  # fmt: skip

    def query(self, workflow: type[WorkflowDefinition[Any, Any, C]], run_id: str) -> RunView[C]:
        """Return a run seen from all sides; see `Orchestrator.query`."""
        return self.call(lambda it: it.query(workflow, run_id))

    def events(self, run_id: str, *, after: str = "", follow: bool = True) -> Iterator[RunEvent]:
        """Go through what happens to a run, waiting for what is yet to happen; see `Orchestrator.events`."""

        async def begin(orchestrator: Orchestrator) -> Any:
            return orchestrator.events(run_id, after=after, follow=follow)

        async def following(_: Orchestrator) -> RunEvent | None:
            return await anext(told, None)

        async def end(_: Orchestrator) -> None:
            await told.aclose()

        told = self.call(begin)
        try:
            while (event := self.call(following)) is not None:
                yield event
        finally:
            self.call(end)


class Run(Generic[O_co]):
    """A run in the hands of a thread. Get one from `Client.start` or `Client.run`.

    Attributes:
        run_id: The run's id.
        deduplicated: Whether an earlier start with the same `dedupe_key` had started it.
    """

    def __init__(self, client: Client, handle: RunHandle[O_co]) -> None:
        self._client = client
        self._handle = handle
        self.run_id = handle.run_id
        self.deduplicated = handle.deduplicated

    def __repr__(self) -> str:
        return f"<Run {self.run_id!r} of {self._handle.graph.workflow}>"

    def result(self, timeout: timedelta | float | None = None) -> O_co:
        """Wait for the run's end and return its output; see `RunHandle.result`."""
        found = self._client.call(lambda it: it.handle_of(self._handle.graph, self.run_id).result(timeout))
        return cast("O_co", found)

    def wait(self, timeout: timedelta | float | None = None) -> RunStatus:
        """Wait for the run's end and return its status."""
        return self._client.wait(self.run_id, timeout)

    def status(self) -> RunStatus:
        """Return the run's status now."""
        return self._client.status(self.run_id)

    def signal(self, signal: Signal[SentT], value: SentT, *, signal_id: str = "") -> bool:
        """Send the run a value; see `Orchestrator.signal`."""
        return self._client.signal(self.run_id, signal, value, signal_id=signal_id)

    def cancel(self, reason: str = "") -> bool:
        """Cancel the run; see `Orchestrator.cancel`."""
        return self._client.cancel(self.run_id, reason=reason)

    def pause(self, reason: str = "") -> None:
        """Pause the run; see `Orchestrator.pause`."""
        self._client.pause(self.run_id, reason=reason)

    def resume(self) -> bool:
        """Resume the run; see `Orchestrator.resume`."""
        return self._client.resume(self.run_id)

    def delete(self) -> bool:
        """Delete the run, which has ended; see `Orchestrator.delete`."""
        return self._client.delete(self.run_id)

    def events(self, *, after: str = "", follow: bool = True) -> Iterator[RunEvent]:
        """Go through what happens to the run; see `Orchestrator.events`."""
        return self._client.events(self.run_id, after=after, follow=follow)
