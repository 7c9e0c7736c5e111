"""A schedule as an application declares it."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Any, Final, Generic, Literal, TypeAlias

from typing_extensions import TypeVar

from floxide_amqp.core.context import Context
from floxide_amqp.core.schedules import Overlap, Timing
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.exceptions import DefinitionError
from floxide_amqp.runtime.occurrences import Cron, Intervals

InT = TypeVar("InT")

MAX_NAME: Final = 100
"""Characters of a schedule's name: its runs' ids begin with it."""

SHORTEST: Final = timedelta(seconds=1)
"""Shortest interval."""

LONGEST: Final = timedelta(days=3_650)
"""Longest interval, jitter and catch-up window."""

DEFAULT_CATCH_UP: Final = timedelta(hours=1)
"""How old an occurrence may be whose run is still started: an outage of some minutes loses nothing, and nobody wants
last week's runs when the workers are back."""

Policy: TypeAlias = Overlap | Literal["skip", "queue", "cancel_previous", "allow"]
"""What becomes of an occurrence while a run of the schedule is not over, or its name."""


@dataclass(frozen=True, slots=True)
class Schedule(Generic[InT]):
    """Runs of a workflow, again and again.

        Schedule("report", Report, "daily", cron="0 9 * * MON-FRI", timezone="Europe/Berlin")
        Schedule("poll", Poll, None, every=timedelta(minutes=5), overlap="skip")

    The run of an occurrence has the id ``<name>@<time in UTC>``, so there is one of it however many workers there are.

    Attributes:
        name: Its name, 1 to 100 printable characters; one store has one schedule of a name.
        workflow: The workflow whose runs it starts.
        input: The input of each of them.
        every: Between two occurrences, `timedelta` or seconds, 1 second to 3,650 days, counted from 1970, UTC: every
            hour is at the full hours.
        cron: In place of `every`: a cron expression, such as ``"0 9 * * MON-FRI"``, or one with seconds in front. It
            needs the extra ``floxide-amqp[schedules]``.
        timezone: The time zone of `cron`.
        context: The initial context of each run; may be left out where every field has a default.
        jitter: Each occurrence begins later by a part of that, always the same, so that many schedules of one time do
            not begin at once.
        overlap: What becomes of an occurrence while a run of the schedule is not over.
        catch_up: How old an occurrence may be whose run is still started, when no worker was there at its time.
        paused: Whether it begins paused; of a schedule that is there already this says nothing.

    Raises:
        DefinitionError: Something of it cannot be.
        ConfigurationError: cronsim or the time zone is missing.
    """

    name: str
    workflow: type[WorkflowDefinition[InT, Any, Any]]
    input: InT
    _: KW_ONLY
    every: timedelta | float | None = None
    cron: str | None = None
    timezone: str = "UTC"
    context: Context | None = None
    jitter: timedelta | float = 0
    overlap: Policy = Overlap.SKIP
    catch_up: timedelta | float = DEFAULT_CATCH_UP
    paused: bool = False

    def __post_init__(self) -> None:
        check_name(self.name)
        if (self.every is None) == (self.cron is None):
            raise DefinitionError(f"Schedule {self.name!r}: give either every=... or cron=..., one of the two.")
        if self.every is not None and self.timezone != "UTC":
            raise DefinitionError(f"Schedule {self.name!r}: timezone goes with cron; every counts in UTC.")
        if self.every is not None and self.every_ms < _ms(SHORTEST):
            raise DefinitionError(f"Schedule {self.name!r}: every={self.every!r} is less than a second.")
        for name, given in (("every", self.every or 0), ("jitter", self.jitter), ("catch_up", self.catch_up)):
            if not (math.isfinite(_seconds(given)) and 0 <= _seconds(given) <= LONGEST.total_seconds()):
                raise DefinitionError(f"Schedule {self.name!r}: {name}={given!r} is not from 0 to {LONGEST.days} days.")
        if self.overlap not in [*Overlap, *(each.value for each in Overlap)]:
            known = ", ".join(each.value for each in Overlap)
            raise DefinitionError(f"Schedule {self.name!r}: overlap={self.overlap!r} is none of {known}.")
        _ = self.timing

    @property
    def every_ms(self) -> int:
        """The interval, milliseconds; 0 where there is none."""
        return 0 if self.every is None or not math.isfinite(_seconds(self.every)) else _ms(self.every)

    @property
    def jitter_ms(self) -> int:
        """How much later an occurrence begins at most, milliseconds."""
        return _ms(self.jitter)

    @property
    def catch_up_ms(self) -> int:
        """How old an occurrence may be, milliseconds."""
        return _ms(self.catch_up)

    @property
    def policy(self) -> Overlap:
        """What becomes of an occurrence while a run of the schedule is not over."""
        return Overlap(self.overlap)

    @property
    def timing(self) -> Timing:
        """When its occurrences are."""
        return Intervals(self.every_ms) if self.cron is None else Cron(self.cron, self.timezone)


def check_name(name: str) -> None:
    """Refuse what cannot be a schedule's name.

    Raises:
        DefinitionError: It cannot.
    """
    fits = 0 < len(name) <= MAX_NAME and name == name.strip()
    if not fits or any(unicodedata.category(character).startswith("C") for character in name):
        raise DefinitionError(
            f"{name!r:.120} cannot be the name of a schedule: it has 1 to {MAX_NAME} printable characters, and no "
            "blanks around them."
        )


def _seconds(given: timedelta | float) -> float:
    return given.total_seconds() if isinstance(given, timedelta) else float(given)


def _ms(given: timedelta | float) -> int:
    return round(_seconds(given) * 1000)
