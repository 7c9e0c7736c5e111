"""A run in a client's hands: what its orchestrator does, said of one run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any, Generic, cast

from typing_extensions import TypeVar

from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.signals import Signal
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.runtime import by_hand, control_actions, resuming, retention, run_events, signals
from floxide_amqp.runtime.by_hand import NOT_GIVEN, NotGiven
from floxide_amqp.runtime.control_actions import Request
from floxide_amqp.runtime.results import result_of
from floxide_amqp.runtime.run_events import RunEvent
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.waiting import Waiters

O_co = TypeVar("O_co", covariant=True)
SentT = TypeVar("SentT")


class RunHandle(Generic[O_co]):
    """A run, to wait for and to steer. Get one from `Orchestrator.start` or `Orchestrator.handle`.

    Attributes:
        run_id: The run's id.
        graph: Its workflow, compiled.
        deduplicated: Whether an earlier start with the same `dedupe_key` had started it.
    """

    def __init__(
        self, services: Services, waiters: Waiters, run_id: str, graph: Graph, *, deduplicated: bool = False
    ) -> None:
        self._services = services
        self._waiters = waiters
        self.graph = graph
        self.run_id = run_id
        self.deduplicated = deduplicated

    def __repr__(self) -> str:
        return f"<RunHandle {self.run_id!r} of {self.graph.workflow}>"

    async def result(self, timeout: timedelta | float | None = None) -> O_co:
        """Wait for the run's end and return its output.

        Args:
            timeout: Longest wait, `timedelta` or seconds; None for as long as it takes.

        Raises:
            RunFailedError: The run failed; the attributes tell node, item, error and attempts.
            RunTimeoutError: The run failed by its own timeout.
            RunCancelledError: The run was cancelled.
            RunDeletedError: The run ended and was deleted since, with its result.
            ResultTimeoutError: It has not ended within `timeout`; it goes on.
        """
        run_id = RunId(self.run_id)
        state, output = await self._waiters.wait_for_output(run_id, timeout)
        return cast("O_co", await result_of(self._services, self.graph, run_id, state, output))

    async def wait(self, timeout: timedelta | float | None = None) -> RunStatus:
        """Wait for the run's end and return its status.

        Raises:
            ResultTimeoutError: It has not ended within `timeout`; it goes on.
        """
        return (await self._waiters.wait_for_end(RunId(self.run_id), timeout)).status

    async def status(self) -> RunStatus:
        """Return the run's status now."""
        return (await self._services.runs.load(RunId(self.run_id))).status

    def events(self, *, after: str = "", follow: bool = True) -> AsyncGenerator[RunEvent]:
        """Go through what happens to the run; see `Orchestrator.events`."""
        return run_events.events(self._services, self._waiters, RunId(self.run_id), after=after, follow=follow)

    async def cancel(self, reason: str = "") -> bool:
        """Cancel the run; see `Orchestrator.cancel`."""
        return await control_actions.cancel_run(self._services, RunId(self.run_id), reason=reason)

    async def pause(self, reason: str = "") -> None:
        """Pause the run; see `Orchestrator.pause`."""
        await control_actions.pause_run(self._services, RunId(self.run_id), reason=reason)

    async def resume(self) -> bool:
        """Resume the run; see `Orchestrator.resume`."""
        return await resuming.resume_run(self._services, RunId(self.run_id))

    async def terminate(self, reason: str = "") -> bool:
        """End the run at once, and undo nothing; see `Orchestrator.terminate`."""
        return await control_actions.terminate_run(self._services, RunId(self.run_id), reason=reason)

    async def retry(self, *, input: Any | NotGiven = NOT_GIVEN, reason: str = "") -> None:
        """Let the run, which has failed, go on from what failed; see `Orchestrator.retry`."""
        await by_hand.retry_run(self._services, RunId(self.run_id), Request(reason=reason), input)

    async def signal(self, signal: Signal[SentT], value: SentT, *, signal_id: str = "") -> bool:
        """Send the run a value; see `Orchestrator.signal`."""
        return await signals.send(
            self._services, signals.prepare(self._services, self.run_id, signal, value, signal_id)
        )

    async def delete(self) -> bool:
        """Delete the run, which has ended; see `Orchestrator.delete`."""
        return await retention.delete_run(self._services, RunId(self.run_id))
