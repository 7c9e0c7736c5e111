"""A run in a client's hands: what its orchestrator does, said of one run."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Generic, cast

from typing_extensions import TypeVar

from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.runtime.results import result_of

if TYPE_CHECKING:
    from floxide_amqp.runtime.orchestrator import Orchestrator

O_co = TypeVar("O_co", covariant=True)


class RunHandle(Generic[O_co]):
    """A run, to wait for and to steer."""

    def __init__(self, orchestrator: Orchestrator, run_id: str, graph: Graph) -> None:
        self._orchestrator = orchestrator
        self.graph = graph
        self.run_id = run_id

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
        run = await self._orchestrator.wait_stored(RunId(self.run_id), timeout)
        return cast("O_co", await result_of(self._orchestrator.services, self.graph, run))

    async def wait(self, timeout: timedelta | float | None = None) -> RunStatus:
        """Wait for the run's end and return its status.

        Raises:
            ResultTimeoutError: It has not ended within `timeout`; it goes on.
        """
        return (await self._orchestrator.wait_stored(RunId(self.run_id), timeout)).state.status

    async def status(self) -> RunStatus:
        """Return the run's status now."""
        return await self._orchestrator.status(self.run_id)

    async def cancel(self, reason: str = "") -> bool:
        """Cancel the run; see `Orchestrator.cancel`."""
        return await self._orchestrator.cancel(self.run_id, reason=reason)

    async def pause(self, reason: str = "") -> None:
        """Pause the run; see `Orchestrator.pause`."""
        await self._orchestrator.pause(self.run_id, reason=reason)

    async def resume(self) -> bool:
        """Resume the run; see `Orchestrator.resume`."""
        return await self._orchestrator.resume(self.run_id)

    async def delete(self) -> bool:
        """Delete the run, which has ended; see `Orchestrator.delete`."""
        return await self._orchestrator.delete(self.run_id)
