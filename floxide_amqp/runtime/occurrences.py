"""When a schedule's occurrences are: after fixed intervals, or as a cron expression says in a time zone.

Cron expressions are read by `cronsim <https://pypi.org/project/cronsim/>`_, an extra; nothing of it is imported before
a schedule has one. In zones whose clocks change it does as Debian's cron does: an expression that names hours runs
once for a time that a night does not have, right after it, and once for one that a night has twice; one with ``*`` for
its hours goes by the time that passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from floxide_amqp.core.schedules import ScheduleSpec, Timing
from floxide_amqp.exceptions import ConfigurationError, DefinitionError

LAST_MS: Final = 253_370_764_800_000
"""The beginning of the year 9999: later times are none."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """Occurrences at the multiples of an interval, counted from 1970, UTC: every process comes to the same.

    Attributes:
        every_ms: The interval, milliseconds; at least 1.
    """

    every_ms: int

    def after(self, at_ms: int) -> int:
        """Return the first occurrence later than a moment."""
        return (at_ms // self.every_ms + 1) * self.every_ms


@dataclass(frozen=True, slots=True)
class Cron:
    """Occurrences as a cron expression says.

    Attributes:
        expression: Five fields, or six with seconds in front.
        timezone: The time zone that it is meant in, such as ``Europe/Berlin``.

    Raises:
        ConfigurationError: cronsim is not installed, or the machine does not know the time zone.
        DefinitionError: The expression is none.
    """

    expression: str
    timezone: str

    def __post_init__(self) -> None:
        if find_spec("cronsim") is None:
            raise ConfigurationError(
                "A schedule with a cron expression needs cronsim. Install it: pip install 'floxide-amqp[schedules]'"
            )
        self._from(0)

    def after(self, at_ms: int) -> int:
        """Return the first occurrence later than a moment; 0 where there is none in the next fifty years."""
        if at_ms >= LAST_MS:
            return 0
        for found in self._from(at_ms):
            found_ms: int = round(found.timestamp() * 1000)
            if found_ms > at_ms:  # a time that a night has twice is found from between the two as well
                return found_ms
        return 0

    def _from(self, at_ms: int) -> Any:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415 - an extra

        try:
            return CronSim(self.expression, datetime.fromtimestamp(at_ms / 1000, tz=self._zone()))
        except CronSimError as error:
            raise DefinitionError(
                f"cron={self.expression!r} is no cron expression: {error}. Write minute, hour, day of the month, month "
                "and day of the week, as in '30 9 * * MON-FRI'."
            ) from error

    def _zone(self) -> Any:
        if self.timezone == "UTC":
            return UTC
        try:
            return ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigurationError(
                f"timezone={self.timezone!r} is not known here. Write one like 'Europe/Berlin'; a machine without time "
                "zones gets them with: pip install tzdata"
            ) from error


def timing_of(spec: ScheduleSpec) -> Timing:
    """Return when a schedule's occurrences are.

    Raises:
        ConfigurationError: This process cannot tell: it lacks cronsim, or the time zone.
    """
    return Cron(spec.cron, spec.timezone) if spec.cron else Intervals(spec.every_ms)
