"""Rate limits: how many bodies that share a key may start within a time, over all workers. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, NamedTuple

from floxide_amqp.core.limits import KeyValue, is_limit_name
from floxide_amqp.exceptions import DefinitionError

RATE_WAIT: Final = "rate:"
"""What `WorkItem.waits_for` begins with of an item that waits for a rate limit; the key's id follows."""

MAX_RATE: Final = 1_000_000
"""Most starts within the time of a limit."""

SHORTEST_PER: Final = timedelta(milliseconds=100)
LONGEST_PER: Final = timedelta(days=31)

RESERVE_US: Final = 50_000
"""By how much a start may be late at most: half of it in its worker, half by the clocks of two workers."""

RESERVED_PART: Final = 10
"""The reserve is at most this part of a limit's time."""

SOON_US: Final = 50_000
"""Those who may start this soon wait in their worker; all others in the store."""

AHEAD_US: Final = 1_000_000
"""The same for those who have waited in the store already, so that they come before the others."""

LONGEST_STAY_US: Final = 3_600_000_000
"""Time after which who waits asks again at the latest, but for limits of which two intervals are longer."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most so many bodies of one key start within a time, over all workers and all nodes that name the same limit.

    Example:
        >>> RateLimit("mail-api", 100, per=timedelta(seconds=1)).limit
        100

    Attributes:
        name: The limit's; nodes that give the same share it. 1 to 100 printable characters without blanks and slashes.
        limit: Starts within the time, 1 to 1,000,000.
        per: The time, `timedelta` or seconds, 100 ms to 31 days.
        key: Returns, of a node's input, the key it belongs to: a text, a whole number, or None for a step that is not
            limited. Without it all steps share one key.
        burst: How many more may start at once after a quiet time; 0 to 1,000,000.
    """

    name: str
    limit: int
    per: timedelta | float = field(kw_only=True)
    key: Callable[[Any], KeyValue] | None = field(default=None, kw_only=True)
    burst: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        """Check what was given."""
        where = f"RateLimit({self.name!r})"
        if not is_limit_name(self.name):
            raise DefinitionError(
                f"{where}: the name must be 1 to 100 printable characters without blanks and slashes."
            )
        Rate.of(self.limit, self.per, self.burst, where=where)
        if self.key is not None and not callable(self.key):
            raise DefinitionError(f"{where}: key={self.key!r} must be a function of the node's input, or left out.")

    @property
    def rate(self) -> Rate:
        """The limit as numbers."""
        return Rate.of(self.limit, self.per, self.burst, where=f"RateLimit({self.name!r})")


class Rate(NamedTuple):
    """So many starts within so many milliseconds, and so many more at once after a quiet time."""

    limit: int
    per_ms: int
    burst: int = 0

    @classmethod
    def of(cls, limit: object, per: object, burst: object, *, where: str) -> Rate:
        """Return a rate of what somebody gave; the error names `where`.

        Raises:
            DefinitionError: A number is out of range, or `per` is not within 100 ms and 31 days.
        """
        if not isinstance(limit, int) or isinstance(limit, bool) or not 0 < limit <= MAX_RATE:
            raise DefinitionError(f"{where}: limit={limit!r} must be a whole number from 1 to {MAX_RATE}.")
        if not isinstance(burst, int) or isinstance(burst, bool) or not 0 <= burst <= MAX_RATE:
            raise DefinitionError(f"{where}: burst={burst!r} must be a whole number from 0 to {MAX_RATE}.")
        seconds = 0.0
        if isinstance(per, timedelta):
            seconds = per.total_seconds()
        elif isinstance(per, int | float) and not isinstance(per, bool):
            seconds = float(per)
        if not SHORTEST_PER.total_seconds() <= seconds <= LONGEST_PER.total_seconds():
            raise DefinitionError(f"{where}: per={per!r} must be a timedelta or seconds, from 100 ms to 31 days.")
        return cls(limit, round(1000 * seconds), burst)

    @property
    def reserve_us(self) -> int:
        """By how much a start may be late."""
        return min(RESERVE_US, 1000 * self.per_ms // RESERVED_PART)

    @property
    def interval_us(self) -> int:
        """The time from one start to the next."""
        return -(-(1000 * self.per_ms + self.reserve_us) // self.limit)

    @property
    def allowance_us(self) -> int:
        """How far ahead of its time a start may be, by the burst."""
        return self.burst * self.interval_us

    @property
    def early_us(self) -> int:
        """How much before its time one comes back that waits in the store: on its way others must not overtake it."""
        return min(max(self.interval_us, SOON_US), AHEAD_US // 2)

    @property
    def longest_stay_us(self) -> int:
        """How long one waits in the store at most before it asks again."""
        return max(LONGEST_STAY_US, 2 * self.interval_us)


def waits_for_rate(waits_for: str) -> str | None:
    """Return the key of the rate limit that an item waits for; None where it waits for none."""
    return waits_for.removeprefix(RATE_WAIT) if waits_for.startswith(RATE_WAIT) else None
