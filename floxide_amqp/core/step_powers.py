"""What a step is told and what it may ask for, apart from the state: facts, and powers of whoever runs it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol, Self, TypeVar

from floxide_amqp.core.failure import FailureInfo
from floxide_amqp.core.fast_dataclasses import dataclass, maker
from floxide_amqp.core.signals import Signal

T = TypeVar("T")


class StepLogger(Protocol):
    """A logger bound to the step: structlog's, or anything with these methods."""

    def debug(self, event: str, **fields: Any) -> Any:
        """Log an event with its fields."""
        ...

    def info(self, event: str, **fields: Any) -> Any:
        """Log an event with its fields."""
        ...

    def warning(self, event: str, **fields: Any) -> Any:
        """Log an event with its fields."""
        ...

    def error(self, event: str, **fields: Any) -> Any:
        """Log an event with its fields."""
        ...

    def exception(self, event: str, **fields: Any) -> Any:
        """Log an event with its fields and the exception being handled."""
        ...

    def bind(self, **fields: Any) -> Self:
        """Return a logger that adds these fields to every event."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """What is fixed for one attempt of one step.

    Attributes:
        run_id: The run.
        item_id: The work item; the same over all its attempts.
        node: Name of the node.
        workflow: Name of the workflow.
        worker_id: The worker that runs the attempt.
        attempt: 1 for the first.
        failure: In a fallback branch, why it runs.
        deadline: When this attempt must have ended; None where nothing limits it.
        timed_out: Whether the time is over that the step was held for.
    """

    run_id: str
    item_id: str
    node: str
    workflow: str
    worker_id: str
    attempt: int = 1
    failure: FailureInfo | None = None
    deadline: datetime | None = None
    timed_out: bool = False


make_facts = maker(StepFacts)


class StepPowers(Protocol):
    """What whoever runs a step does for it."""

    def resource(self, kind: type[T]) -> T:
        """Return the resource of a type.

        Raises:
            ResourceNotFoundError: There is none.
        """
        ...

    def received(self, signal: Signal[T]) -> T | None:
        """Return the next value of a signal that was sent to the run; None where there is none."""
        ...

    def send(self, run_id: str, signal: Signal[T], value: T, signal_id: str) -> None:
        """Send a run a value once the step's commit stands."""
        ...

    def is_cancelled(self) -> bool:
        """Say whether the step should stop."""
        ...

    async def wait_cancelled(self) -> None:
        """Return once the step should stop."""
        ...

    async def cancel_run(self) -> None:
        """Ask for the cancellation of the step's run."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after a time."""
        ...

    def now_ms(self) -> int:
        """Return the time, milliseconds since 1970, UTC."""
        ...

    def logger(self) -> StepLogger:
        """Return a logger bound to the step."""
        ...
