"""What a run is started with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic

from typing_extensions import TypeVar

from floxide_amqp.core.attributes import Attributes
from floxide_amqp.core.context import Context
from floxide_amqp.core.priorities import Priority
from floxide_amqp.runtime.dedupe import DedupeKey
from floxide_amqp.runtime.start_times import AT_ONCE, StartTimes

InT = TypeVar("InT")


@dataclass(frozen=True, slots=True)
class Start(Generic[InT]):
    """One run for `Orchestrator.start_many`: input, and optionally context, id, attributes and times."""

    input: InT
    context: Context | None = None
    run_id: str | None = None
    attributes: Attributes | None = None
    delay: timedelta | float | None = None
    start_at: datetime | None = None
    timeout: timedelta | float | None = None
    dedupe_key: str | None = None
    dedupe_for: timedelta | float | None = None
    priority: Priority = Priority.NORMAL

    @property
    def dedupe(self) -> DedupeKey | None:
        """What tells it apart from other starts, where that is a key."""
        return DedupeKey.of(self.dedupe_key, self.dedupe_for)

    @property
    def times(self) -> StartTimes:
        """When the run begins, and how long it may take."""
        if self.delay is None and self.start_at is None and self.timeout is None:
            return AT_ONCE
        return StartTimes(delay=self.delay, start_at=self.start_at, timeout=self.timeout)
