"""What a node receives: the run's state, who it is, and what it may ask for while it works.

The facts are fixed for the step; the powers reach into whatever runs it and are a protocol, so that a test needs no
engine: see `WorkflowCtx.for_test`.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Generic, overload

from typing_extensions import TypeVar

from floxide_amqp.core.attributes import AttributeValue, checked_attribute, checked_name
from floxide_amqp.core.context import Context, NoContext
from floxide_amqp.core.failure import FailureInfo
from floxide_amqp.core.fake_powers import FakePowers
from floxide_amqp.core.instants import at
from floxide_amqp.core.signals import Signal
from floxide_amqp.core.step_powers import StepFacts, StepLogger, StepPowers
from floxide_amqp.exceptions import NodeCancelledError

__all__ = ["FakePowers", "StepFacts", "StepLogger", "StepPowers", "WorkflowCtx"]

T = TypeVar("T")
C = TypeVar("C", bound=Context)
C_co = TypeVar("C_co", bound=Context, covariant=True, default=Context)  # bare `WorkflowCtx`: whatever the context is

_FACTS_FOR_TEST: Final = ("attempt", "failure", "deadline", "timed_out")
_ARGUMENTS_FOR_TEST: Final = (
    "resources", *_FACTS_FOR_TEST, "run_id", "item_id", "node", "workflow", "worker_id", "is_cancelled", "signals",
)  # fmt: skip


class WorkflowCtx(Generic[C_co]):
    """What a node receives beside its input.

    Everything but `state` is the same however often the body runs; `attempt` counts how often it did.
    """

    __slots__ = ("_attributes", "_facts", "_logger", "_powers", "_sent", "_state")

    def __init__(self, facts: StepFacts, powers: StepPowers, state: C_co) -> None:
        self._attributes: dict[str, AttributeValue | None] = {}
        self._sent: list[tuple[str, Signal[Any], object]] = []
        self._facts = facts
        self._powers = powers
        self._state = state
        self._logger: StepLogger | None = None

    def __repr__(self) -> str:
        facts = self._facts
        return f"<WorkflowCtx of {facts.node!r}, run {facts.run_id!r}, attempt {facts.attempt}>"

    @property
    def state(self) -> C_co:
        """The run's context as this step sees it. What the step changes is merged when the node returns."""
        return self._state

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._facts.run_id

    @property
    def item_id(self) -> str:
        """The work item's id, the same over all attempts."""
        return self._facts.item_id

    @property
    def node(self) -> str:
        """The node's name."""
        return self._facts.node

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._facts.workflow

    @property
    def worker_id(self) -> str:
        """The id of the worker that runs this attempt."""
        return self._facts.worker_id

    @property
    def attempt(self) -> int:
        """Which attempt this is; 1 for the first."""
        return self._facts.attempt

    @property
    def idempotency_key(self) -> str:
        """A text that is the same over all attempts of this step and of no other: give it to what must act once."""
        return f"{self._facts.run_id}:{self._facts.item_id}"

    @property
    def failure(self) -> FailureInfo | None:
        """In a fallback branch, which node failed and why; else None."""
        return self._facts.failure

    @property
    def deadline(self) -> datetime | None:
        """When this attempt must have ended, aware, UTC; None where nothing limits it."""
        return self._facts.deadline

    @property
    def time_left(self) -> timedelta | None:
        """The time until the deadline, not negative; None where nothing limits the attempt."""
        if self._facts.deadline is None:
            return None
        return max(self._facts.deadline - at(self._powers.now_ms()), timedelta())

    def set_attribute(self, name: str, value: AttributeValue | None) -> None:
        """Set an attribute of the run, by which it is found from then on, in the commit of this step.

        Like changes of the state it is dropped where the step fails. The last step to set one decides. A run has up
        to 32 attributes; a step that would give it more fails.

        Args:
            name: 1 to 64 letters, digits, underscores, dots and hyphens.
            value: A text of up to 200 characters, a number, a bool or an aware instant; None takes it away.

        Raises:
            InvalidAttributeError: The name or the value cannot be one.
        """
        name = checked_name(name)
        self._attributes[name] = None if value is None else checked_attribute(name, value)

    @property
    def attributes_set(self) -> Mapping[str, AttributeValue | None]:
        """What `set_attribute` was given in this step so far."""
        return self._attributes

    @property
    def log(self) -> StepLogger:
        """A logger that has the run, the item, the node and the attempt bound."""
        if self._logger is None:
            self._logger = self._powers.logger()
        return self._logger

    def resource(self, kind: type[T]) -> T:
        """Return what the worker's lifespan provides under a type.

        Raises:
            ResourceNotFoundError: It provides none.
        """
        return self._powers.resource(kind)

    def received(self, signal: Signal[T]) -> T | None:
        """Return the oldest value of a signal that no step has taken; None where there is none.

        Called again it returns the next one. What it returned is taken from the run's mailbox when the step goes on
        or holds, not where it fails: the next attempt receives it again. So each value goes to one step. Where two
        work on a run at the same time and receive the same value, it is the one's that commits first, and the other's
        body runs again.

        Only a node that is annotated to return `Hold` as well may ask: for the others the mailbox is not read.

        Args:
            signal: The signal, as it was sent: of the same name and type.

        Raises:
            CodecError: What was sent under this name is not of the signal's type.
            DefinitionError: The node is not annotated to return `Hold`.
        """
        return self._powers.received(signal)

    def signal(self, run_id: str, signal: Signal[T], value: T, *, signal_id: str = "") -> None:
        """Send another run a value, or the own one, in the commit of this step: exactly if the step goes on or holds.

        Like changes of the state it is dropped where the step fails. It arrives soon after the commit. A run that is
        over, unknown, or that does not take this signal by then gets nothing, and the log says so.

        Args:
            run_id: The run.
            signal: Which signal.
            value: Its value.
            signal_id: As of `Orchestrator.signal`; left out, every call sends another signal.

        Raises:
            CodecError: The value is not of the signal's type.
        """
        self._powers.send(run_id, signal, value, signal_id)
        self._sent.append((run_id, signal, value))

    @property
    def signals_sent(self) -> Sequence[tuple[str, Signal[Any], object]]:
        """What `signal` was given in this step so far: runs, signals and values."""
        return self._sent

    @property
    def timed_out(self) -> bool:
        """Whether the time is over that the step was held for: a ``Hold(for_=...)``, or a signal's ``timeout``."""
        return self._facts.timed_out

    @property
    def is_cancelled(self) -> bool:
        """Whether the step should stop: its run was cancelled or is over."""
        return self._powers.is_cancelled()

    async def cancelled(self) -> None:
        """Return once the step should stop."""
        await self._powers.wait_cancelled()

    async def cancel(self) -> None:
        """Cancel the own run. The step itself is told by `is_cancelled` and may still clean up."""
        await self._powers.cancel_run()

    async def sleep(self, duration: timedelta | float) -> None:
        """Wait, occupying the worker; for more than seconds return ``Hold(for_=...)`` instead.

        Args:
            duration: A `timedelta` or seconds.

        Raises:
            NodeCancelledError: The step should stop.
        """
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
        await self.run_future(self._powers.sleep(seconds))

    async def run_future(self, awaitable: Awaitable[T]) -> T:
        """Return what an awaitable returns, unless the step should stop first; then it is cancelled.

        Raises:
            NodeCancelledError: The step should stop.
            Exception: Whatever the awaitable raises.
        """
        work: asyncio.Future[T] = asyncio.ensure_future(awaitable)
        stop = asyncio.ensure_future(self._powers.wait_cancelled())
        either: set[asyncio.Future[Any]] = {work, stop}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            raise NodeCancelledError(node=self._facts.node, run_id=self._facts.run_id)
        finally:
            await _cancel(either)

    @overload
    @classmethod
    def for_test(
        cls,
        state: C,
        *,
        resources: Mapping[type[Any], object] | None = None,
        signals: Sequence[tuple[Signal[Any], object]] = (),
        timed_out: bool = False,
        attempt: int = 1,
        failure: FailureInfo | None = None,
        run_id: str = "test-run",
        item_id: str = "test-item",
        node: str = "test-node",
        workflow: str = "TestWorkflow",
        worker_id: str = "test-worker",
        deadline: datetime | None = None,
        is_cancelled: bool = False,
    ) -> WorkflowCtx[C]: ...
    @overload
    @classmethod
    def for_test(
        cls,
        state: None = None,
        *,
        resources: Mapping[type[Any], object] | None = None,
        signals: Sequence[tuple[Signal[Any], object]] = (),
        timed_out: bool = False,
        attempt: int = 1,
        failure: FailureInfo | None = None,
        run_id: str = "test-run",
        item_id: str = "test-item",
        node: str = "test-node",
        workflow: str = "TestWorkflow",
        worker_id: str = "test-worker",
        deadline: datetime | None = None,
        is_cancelled: bool = False,
    ) -> WorkflowCtx[NoContext]: ...
    @classmethod
    def for_test(  # noqa: D417  # facts that are any text share a line
        cls,
        state: Context | None = None,
        *,
        resources: Mapping[type[Any], object] | None = None,
        signals: Sequence[tuple[Signal[Any], object]] = (),
        is_cancelled: bool = False,
        run_id: str = "test-run",
        item_id: str = "test-item",
        node: str = "test-node",
        workflow: str = "TestWorkflow",
        worker_id: str = "test-worker",
        **facts: Any,
    ) -> WorkflowCtx[Any]:
        """Return a context for calling a node directly: no engine, no waiting, resources as given.

        Args:
            state: The run's context; none means `NoContext`.
            resources: What `resource` returns, by type.
            signals: What `received` returns: signals with their values, the oldest first.
            timed_out: Play that a hold's time is over.
            attempt: Which attempt to play.
            failure: What a fallback node is told.
            run_id, item_id, node, workflow, worker_id: Any text.
            deadline: The attempt's deadline; aware.
            is_cancelled: Start as cancelled; ``await ctx.cancel()`` does the same later.

        Raises:
            TypeError: There is no such argument.
        """
        unknown = [name for name in facts if name not in _FACTS_FOR_TEST]
        if unknown:
            close = difflib.get_close_matches(unknown[0], _ARGUMENTS_FOR_TEST, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"It takes state, {', '.join(_ARGUMENTS_FOR_TEST)}."
            raise TypeError(f"WorkflowCtx.for_test() has no argument {unknown[0]!r}. {hint}")
        step = StepFacts(run_id=run_id, item_id=item_id, node=node, workflow=workflow, worker_id=worker_id, **facts)
        powers = FakePowers(node=node, resources=resources or {}, is_cancelled=is_cancelled, signals=signals)
        return WorkflowCtx(step, powers, NoContext() if state is None else state)


async def _cancel(futures: set[asyncio.Future[Any]]) -> None:
    """Cancel what is not done, and wait until it is, so that nothing outlives the step."""
    running = [future for future in futures if not future.done()]
    for future in running:
        future.cancel()
    if running:
        await asyncio.gather(*running, return_exceptions=True)
