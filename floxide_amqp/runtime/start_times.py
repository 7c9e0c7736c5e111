"""When a run begins, and how long it may take: what whoever starts it says of its times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from floxide_amqp.core.options import check_timeout
from floxide_amqp.core.transition import MAX_HOLD
from floxide_amqp.exceptions import DefinitionError


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTimes:
    """What a start says of a run's times.

    Attributes:
        delay: How long it waits before it begins, `timedelta` or seconds, 0 to 3,650 days; None to begin at once.
        start_at: When it begins, aware, in place of `delay`; a time that is over is now.
        timeout: How long it may take once it has begun, in place of what its workflow says.

    Raises:
        DefinitionError: A time is out of range, has no time zone, or both `delay` and `start_at` are given.
    """

    delay: timedelta | float | None = None
    start_at: datetime | None = None
    timeout: timedelta | float | None = None

    def __post_init__(self) -> None:
        if self.delay is not None and self.start_at is not None:
            raise DefinitionError("A run begins after a delay, or at a time: give delay or start_at, not both.")
        if self.delay is not None and not (
            math.isfinite(_seconds(self.delay)) and 0 <= _seconds(self.delay) <= MAX_HOLD.total_seconds()
        ):
            raise DefinitionError(f"start(..., delay={self.delay!r}): it is from 0 seconds to {MAX_HOLD.days} days.")
        if self.start_at is not None and self.start_at.tzinfo is None:
            raise DefinitionError(
                f"start(..., start_at={self.start_at!r}) has no time zone. Give an aware time: "
                "datetime(..., tzinfo=UTC)."
            )
        check_timeout(self.timeout, where="start(...)")

    def begins_at_ms(self, now_ms: int) -> int:
        """Return when the run begins, milliseconds since 1970; 0 for at once."""
        if self.start_at is not None:
            at_ms = round(self.start_at.timestamp() * 1000)
        else:
            at_ms = now_ms + round(_seconds(self.delay or 0) * 1000)
        return at_ms if at_ms > now_ms else 0

    def longest(self, of_workflow: timedelta | None) -> timedelta | None:
        """Return how long the run may take; None for as long as it takes."""
        given = check_timeout(self.timeout, where="start(...)")
        return of_workflow if given is None else given


def _seconds(given: timedelta | float) -> float:
    return given.total_seconds() if isinstance(given, timedelta) else float(given)


AT_ONCE = StartTimes()
"""A run that begins at once, with its workflow's timeout."""
