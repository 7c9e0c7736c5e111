"""Rate limits: how many bodies that share a key may start within a time, over all workers. Pure.

A key is two instants. *Next* is when the next body may start (GCRA): each start moves it on by one interval. Who cannot
start soon waits in the store until a time of its own, all one interval apart; the last of these is the end of the
*line*. So nobody is looked after meanwhile, and those who wait come back one after the other.

A start may be late by the reserve of the limit: the interval is longer by that. So whatever the lateness of each, no
window ever has more starts than the limit, and the burst that it allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
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

LONGEST_LINE_US: Final = 10 * 365 * 86_400 * 1_000_000
"""The latest time until which one waits before one asks again: ten years, which a timer and a calendar can hold."""

IDLE_US: Final = 30_000_000
"""Time after the last start, and the end of the line, after which a key is removed."""


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
        """Return a rate of what somebody gave; the error names `where`."""
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


ONE_A_SECOND: Final = Rate(1, 1000)
"""Of a key that nobody has asked for yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateState:
    """A key as one record; instants are microseconds of store time.

    Attributes:
        declared: The rate by the code of the node that asked last.
        override: The rate by what somebody set; None where nobody did.
        next_us: When one more body may start, without its burst.
        line_us: Until when those wait who wait in the store.
        look_ms: When it is looked after next; 0 where it is not.
    """

    declared: Rate = ONE_A_SECOND
    override: Rate | None = None
    next_us: int = 0
    line_us: int = 0
    look_ms: int = 0

    @property
    def rate(self) -> Rate:
        """The rate that counts."""
        return self.override or self.declared


class Wish(NamedTuple):
    """A body that is to start: how far off its start may be, and whether it takes a place in the line otherwise."""

    ahead_us: int
    lines_up: bool = True


class Instant(NamedTuple):
    """When a body starts; or, of one that may not, when it asks again."""

    at_us: int
    is_start: bool


def reserve(state: RateState, declared: Rate, wishes: Sequence[Wish], now_us: int) -> tuple[RateState, list[Instant]]:
    """Give each body that is to start its instant, or its place in the line.

    Args:
        state: The key.
        declared: The rate by the code.
        wishes: The bodies; those that may wait longer come first.
        now_us: Store time.
    """
    rate = state.override or declared
    interval = rate.interval_us
    allowance = rate.burst * interval
    furthest = (
        now_us + AHEAD_US + 1000 * rate.per_ms + allowance + interval
    )  # beyond it nothing was reserved: the clock
    next_us, line_us = min(state.next_us, furthest), state.line_us  # was set back
    answers: dict[int, Instant] = {}
    for number in sorted(range(len(wishes)), key=lambda each: -wishes[each].ahead_us):
        wish, at_us = wishes[number], max(now_us, next_us - allowance)
        if at_us - now_us <= wish.ahead_us:
            next_us = max(next_us, at_us) + interval
            answers[number] = Instant(at_us, is_start=True)
        elif wish.lines_up:
            line_us = min(max(line_us + interval, at_us), now_us + LONGEST_LINE_US)
            answers[number] = Instant(line_us, is_start=False)
        else:
            answers[number] = Instant(at_us, is_start=False)
    after = replace(state, declared=declared, next_us=next_us, line_us=line_us)
    return after, [answers[number] for number in range(len(wishes))]


def is_idle(state: RateState, now_ms: int) -> bool:
    """Whether nothing of a key matters any more but what somebody has set."""
    return max(state.next_us, state.line_us) + IDLE_US < 1000 * now_ms


def waits_for_rate(waits_for: str) -> str | None:
    """Return the key of the rate limit that an item waits for; None where it waits for none."""
    return waits_for.removeprefix(RATE_WAIT) if waits_for.startswith(RATE_WAIT) else None
