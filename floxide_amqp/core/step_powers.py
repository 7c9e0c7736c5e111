"""What a step is told and what it may ask for, apart from the state: facts, and powers of whoever runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self, TypeVar, cast

from floxide_amqp.core.failure import FailureInfo
from floxide_amqp.exceptions import ResourceNotFoundError

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
    """

    run_id: str
    item_id: str
    node: str
    workflow: str
    worker_id: str
    attempt: int = 1
    failure: FailureInfo | None = None
    deadline: datetime | None = None


class StepPowers(Protocol):
    """What whoever runs a step does for it."""

    def resource(self, kind: type[T]) -> T:
        """Return the resource of a type.

        Raises:
            ResourceNotFoundError: There is none.
        """
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


class FakePowers:
    """Powers for tests: time stands still except for sleeps, which pass at once."""

    def __init__(self, *, node: str, resources: Mapping[type[Any], object], is_cancelled: bool) -> None:
        self._node = node
        self._resources = resources
        self._cancelled = asyncio.Event()
        self._slept_ms = 0
        if is_cancelled:
            self._cancelled.set()

    def resource(self, kind: type[T]) -> T:
        """Return what was given under a type, or the only thing given that is an instance of it."""
        if kind in self._resources:
            return cast(T, self._resources[kind])
        fitting = [given for given in self._resources.values() if isinstance(given, kind)]
        if len(fitting) == 1:
            return fitting[0]
        known = tuple(known.__name__ for known in self._resources)
        raise ResourceNotFoundError(node=self._node, resource=kind.__name__, known=known)

    def is_cancelled(self) -> bool:
        """Say whether `cancel_run` was called."""
        return self._cancelled.is_set()

    async def wait_cancelled(self) -> None:
        """Return once `cancel_run` was called."""
        await self._cancelled.wait()

    async def cancel_run(self) -> None:
        """Be cancelled from now on."""
        self._cancelled.set()

    async def sleep(self, seconds: float) -> None:
        """Let time pass without waiting."""
        self._slept_ms += round(seconds * 1000)
        await asyncio.sleep(0)

    def now_ms(self) -> int:
        """Return the time slept since 1970 began."""
        return self._slept_ms

    def logger(self) -> StepLogger:
        """Return a logger that drops everything."""
        return SilentLogger()


class SilentLogger:
    """Takes every event and drops it."""

    def debug(self, event: str, **fields: Any) -> None:
        """Drop an event."""

    info = warning = error = exception = debug

    def bind(self, **fields: Any) -> Self:
        """Return itself."""
        del fields
        return self
