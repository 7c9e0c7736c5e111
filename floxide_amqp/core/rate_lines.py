"""The key of a rate limit: who starts when, and who waits until when. Pure.

*Next* is when the next body may start (GCRA): each start moves it on by one interval. Who cannot start soon waits in
the store until a time of its own, all one interval apart; the last of these is the end of the *line*. So nobody is
looked after meanwhile, and those who wait come back one after the other, somewhat before their time. While a line
stands, nobody who is new starts before those in it. Who comes back and finds that somebody was late lines up *again*,
one interval apart as well, but before all who are new.

Nothing tells a key that one of those who wait has gone away. So a line for which nobody comes is taken for empty, and
nobody waits for longer than an hour, or two intervals, before it asks again.

A start may be late by the reserve of the limit: the interval is longer by that. So whatever the lateness of each, no
window ever has more starts than the limit, and the burst that it allows. Only `next_us` counts for that; the lines are
about who comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from floxide_amqp.core.rates import AHEAD_US, Rate

LATE_US: Final = 1_000_000
"""Time by which nobody has come whose turn it was, after which a line is taken for empty."""

LONGEST_LEAD_US: Final = 10_000_000
"""Most that an instant lies ahead because the store is slow."""

IDLE_US: Final = 30_000_000
"""Time after the last start, and the end of the line, after which a key is removed."""

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
        again_us: The same as `line_us` of those whose time had come already, and somebody was in their place.
    """

    declared: Rate = ONE_A_SECOND
    override: Rate | None = None
    next_us: int = 0
    line_us: int = 0
    look_ms: int = 0
    again_us: int = 0

    @property
    def rate(self) -> Rate:
        """The rate that counts."""
        return self.override or self.declared

    @property
    def end_us(self) -> int:
        """Until when somebody waits in the store."""
        return max(self.line_us, self.again_us)

    def is_line(self, now_us: int) -> bool:
        """Whether somebody waits whom nothing has woken yet."""
        return self.end_us - self.rate.early_us > now_us

    def is_deserted(self, now_us: int) -> bool:
        """Whether nobody comes whose turn it is, so that those in the line are taken to be gone."""
        rate = self.rate
        missed_us = self.next_us - rate.allowance_us + rate.interval_us - rate.early_us
        return self.is_line(now_us) and missed_us + LATE_US <= now_us


class Wish(NamedTuple):
    """A body that is to start.

    Attributes:
        ahead_us: How far off its start may be; `AHEAD_US` of one that has waited already.
        lead_us: How far off it is at least, since what is said here takes so long to arrive.
        missed_us: The `after_us` of an instant for which it was late: nobody uses that one; 0 where there is none.
    """

    ahead_us: int
    lead_us: int = 0
    missed_us: int = 0

    @property
    def has_waited(self) -> bool:
        """Whether it has waited in the store, or for an instant that it missed."""
        return self.ahead_us >= AHEAD_US


class Instant(NamedTuple):
    """When a body starts; or, of one that may not, when it asks again.

    Attributes:
        at_us: When, store time.
        is_start: Whether it may start.
        reserve_us: By how much the start may be late, by the rate that counted.
        after_us: The key's `next_us` from then on, by which the instant can be given back.
    """

    at_us: int
    is_start: bool
    reserve_us: int = 0
    after_us: int = 0


def reserve(state: RateState, declared: Rate, wishes: Sequence[Wish], now_us: int) -> tuple[RateState, list[Instant]]:
    """Give each body that is to start its instant, or its place in the line.

    Args:
        state: The key.
        declared: The rate by the code.
        wishes: The bodies; those that may wait longer come first.
        now_us: Store time.
    """
    state = at_rate(state, replace(state, declared=declared), now_us)
    state = _given_back(_within_reach(state, now_us), wishes)
    if state.is_deserted(now_us):
        state = replace(state, line_us=now_us, again_us=now_us)
    turns, answers = _Turns(state, now_us), dict[int, Instant]()
    for number in sorted(range(len(wishes)), key=lambda each: -wishes[each].ahead_us):
        answers[number] = turns.answer(wishes[number])
    after = replace(state, next_us=turns.next_us, line_us=turns.line_us, again_us=turns.again_us)
    return after, [answers[number] for number in range(len(wishes))]


class _Turns:
    """Gives bodies their instants and places, of one key at one time."""

    __slots__ = ("_allowance", "_early", "_interval", "_latest", "_now", "_reserve", "again_us", "line_us", "next_us")

    def __init__(self, state: RateState, now_us: int) -> None:
        rate = state.rate
        self.next_us, self.line_us, self.again_us = state.next_us, state.line_us, state.again_us
        self._now, self._latest = now_us, now_us + rate.longest_stay_us
        self._interval, self._allowance, self._early = rate.interval_us, rate.allowance_us, rate.early_us
        self._reserve = rate.reserve_us

    def answer(self, wish: Wish) -> Instant:
        soonest_us = self._now + wish.lead_us
        at_us = max(soonest_us, self.next_us - self._allowance)
        is_turn = wish.has_waited or max(self.line_us, self.again_us) - self._early <= self._now
        if is_turn and at_us - soonest_us <= wish.ahead_us:
            self.next_us = max(self.next_us, at_us) + self._interval
            return Instant(at_us, True, self._reserve, self.next_us)
        behind_us = self.again_us if wish.has_waited else max(self.line_us, self.again_us)
        place_us = max(behind_us + self._interval, at_us)
        if place_us > self._latest:
            return Instant(self._latest, is_start=False)
        if wish.has_waited:
            self.again_us = place_us
        else:
            self.line_us = place_us
        early_us = self._early + (AHEAD_US // 4 if wish.has_waited else 0)
        return Instant(place_us - min(early_us, (place_us - self._now) // 2), is_start=False)


def at_rate(before: RateState, after: RateState, now_us: int) -> RateState:
    """Return a key whose rate becomes another one: the next start is one interval of that behind the last one.

    Those in the line keep their times; who comes now stands behind as many as there are, at the new rate.

    Args:
        before: The key.
        after: The same, with the rate that counts from now on.
        now_us: Store time.
    """
    old, new = before.rate, after.rate
    if old == new or not before.next_us:
        return after
    next_us = before.next_us - old.interval_us + new.interval_us + max(0, old.reserve_us - new.reserve_us)

    def scaled(until_us: int) -> int:
        return now_us + max(0, until_us - now_us) * new.interval_us // old.interval_us

    return replace(after, next_us=next_us, line_us=scaled(before.line_us), again_us=scaled(before.again_us))


def begun_anew(rate: Rate, now_us: int) -> RateState:
    """Return a key of which nobody knows what was reserved: it begins one window behind all that can have been."""
    reserved_us = now_us + LONGEST_LEAD_US + AHEAD_US
    return RateState(declared=rate, next_us=reserved_us + 1000 * rate.per_ms + rate.allowance_us)


def _within_reach(state: RateState, now_us: int) -> RateState:
    """Return a key without what cannot have been reserved: the clock was set back, or the rate was another one."""
    rate = state.rate
    furthest_us = now_us + LONGEST_LEAD_US + AHEAD_US + 1000 * rate.per_ms + rate.allowance_us + rate.interval_us
    return state if state.next_us <= furthest_us else replace(state, next_us=furthest_us)


def _given_back(state: RateState, wishes: Sequence[Wish]) -> RateState:
    """Return a key that has the instants back which were missed, as far as nobody has one behind them."""
    for missed_us in sorted({each.missed_us for each in wishes if each.missed_us}, reverse=True):
        if state.next_us == missed_us:
            state = replace(state, next_us=missed_us - state.rate.interval_us)
    return state


def is_idle(state: RateState, now_ms: int) -> bool:
    """Whether nothing of a key matters any more but what somebody has set."""
    return max(state.next_us, state.end_us) + IDLE_US < 1000 * now_ms
