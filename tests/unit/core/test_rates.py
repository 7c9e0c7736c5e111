"""Rate limits as arithmetic: no window has more starts than the limit and its burst, however late each start is."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp import DefinitionError, RateLimit
from floxide_amqp.core.rate_lines import LONGEST_LEAD_US, RateState, Wish, at_rate, begun_anew, is_idle, reserve
from floxide_amqp.core.rates import AHEAD_US, SOON_US, Rate

SECOND_US = 1_000_000


@given(
    limit=st.integers(1, 20),
    per_ms=st.sampled_from([100, 250, 1000, 60_000]),
    burst=st.integers(0, 5),
    asks=st.lists(
        st.tuples(
            st.integers(0, 300_000), st.integers(1, 4), st.floats(0, 1), st.booleans(), st.sampled_from([0, 0, 90_000])
        ),
        min_size=1,
        max_size=80,
    ),
)
def test_no_window_has_more_starts_than_the_limit_and_its_burst(
    limit: int, per_ms: int, burst: int, asks: list[tuple[int, int, float, bool, int]]
) -> None:
    rate, state, now, starts = Rate(limit, per_ms, burst), RateState(), 10**15, list[int]()
    for pause, bodies, lateness, has_waited, lead_us in asks:
        now += pause
        wish = Wish(AHEAD_US if has_waited else SOON_US, lead_us)
        state, instants = reserve(state, rate, [wish] * bodies, now)
        starts += (each.at_us + int(lateness * rate.reserve_us) for each in instants if each.is_start)
    starts.sort()
    for first in range(len(starts) - limit - burst):
        assert starts[first + limit + burst] - starts[first] >= 1000 * per_ms


@given(bodies=st.integers(1, 60), limit=st.integers(1, 100))
def test_those_who_wait_in_the_store_come_back_one_after_the_other(bodies: int, limit: int) -> None:
    rate, now = Rate(limit, 1000), 10**15
    state, instants = reserve(RateState(), rate, [Wish(SOON_US)] * bodies, now)
    waits = [each.at_us for each in instants if not each.is_start]
    assert [each.is_start for each in instants] == [True] * (bodies - len(waits)) + [False] * len(waits)
    assert all(each >= now + SOON_US // 2 for each in waits)
    far = [each for each in waits if each > now + 2 * rate.early_us]  # by its whole way before its time
    assert all(late - early == rate.interval_us for early, late in itertools.pairwise(far))
    assert all(early < late for early, late in itertools.pairwise(waits))
    assert not waits or abs(state.line_us - waits[-1] - min(rate.early_us, waits[-1] - now)) <= 1


def test_those_who_have_waited_come_before_the_others() -> None:
    rate, now = Rate(10, 1000), 10**15
    _, instants = reserve(RateState(), rate, [Wish(SOON_US), Wish(AHEAD_US), Wish(AHEAD_US)], now)
    assert [each.is_start for each in instants] == [False, True, True]


def test_a_clock_that_was_set_back_stops_nobody_for_longer_than_a_window() -> None:
    rate, now = Rate(10, 1000), 10**15
    state, _ = reserve(RateState(), rate, [Wish(SOON_US)], now)
    _, (instant,) = reserve(state, rate, [Wish(20 * SECOND_US)], now - 3600 * SECOND_US)
    assert instant.is_start
    assert instant.at_us - (now - 3600 * SECOND_US) <= LONGEST_LEAD_US + 3 * SECOND_US


def test_what_was_set_goes_before_what_the_code_says() -> None:
    now = 10**15
    state, _ = reserve(RateState(override=Rate(1, 10_000)), Rate(1000, 1000), [Wish(SOON_US)], now)
    assert state.next_us - now == Rate(1, 10_000).interval_us
    assert not is_idle(state, now // 1000)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("", 1), {"per": 1}),
        (("a b", 1), {"per": 1}),
        (("a", 0), {"per": 1}),
        (("a", True), {"per": 1}),
        (("a", 10**7), {"per": 1}),
        (("a", 1), {"per": 0}),
        (("a", 1), {"per": "1 s"}),
        (("a", 1), {"per": timedelta(milliseconds=99)}),
        (("a", 1), {"per": timedelta(days=32)}),
        (("a", 1), {"per": 1, "burst": -1}),
        (("a", 1), {"per": 1, "key": "x"}),
    ],
)
def test_a_rate_limit_that_cannot_be_is_refused(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="RateLimit"):
        RateLimit(*arguments, **options)


def test_those_who_wait_are_not_overtaken_by_whoever_comes_just_before_a_start() -> None:
    """Twenty wait for a start each ten seconds; somebody new asks every 40 ms; one that waits asks a little late."""
    rate, state, now, started = Rate(1, 10_000), RateState(), 10**15, list[str]()
    asks = [(now, number, f"first-{number}") for number in range(21)]
    asks += [(now + SECOND_US + 40_000 * number, 100 + number, f"new-{number}") for number in range(6_000)]
    heapq.heapify(asks)
    waited, number = set[str](), 10_000
    while asks:
        at_us, _, who = heapq.heappop(asks)
        state, (instant,) = reserve(state, rate, [Wish(AHEAD_US if who in waited else SOON_US)], at_us)
        if instant.is_start:
            started.append(who)
        elif instant.at_us < now + 240 * SECOND_US:
            waited.add(who)
            heapq.heappush(asks, (max(instant.at_us, at_us) + 5_000, number := number + 1, who))
    assert started[:21] == [f"first-{number}" for number in range(21)]


def test_one_that_comes_late_makes_none_of_those_behind_it_line_up_at_the_end() -> None:
    rate, now = Rate(1, 10_000), 10**15
    state, instants = reserve(RateState(), rate, [Wish(SOON_US)] * 100, now)
    state, (late,) = reserve(state, rate, [Wish(AHEAD_US)], instants[1].at_us + 4 * SECOND_US)
    assert late.is_start
    state, (next_one,) = reserve(state, rate, [Wish(AHEAD_US)], instants[2].at_us)
    assert not next_one.is_start
    assert next_one.at_us < instants[4].at_us


def test_a_line_for_which_nobody_comes_is_empty() -> None:
    rate, now = Rate(1, 10_000), 10**15
    state, _ = reserve(RateState(), rate, [Wish(SOON_US)] * 360, now)
    _, (too_early,) = reserve(state, rate, [Wish(SOON_US)], now + 12 * SECOND_US)
    assert too_early.at_us > now + 3_000 * SECOND_US
    _, instants = reserve(state, rate, [Wish(SOON_US)] * 3, now + 22 * SECOND_US)
    assert instants[0].is_start
    assert instants[2].at_us < now + 50 * SECOND_US


def test_a_line_of_which_one_has_gone_away_is_not_empty() -> None:
    rate, now = Rate(1, 10_000), 10**15
    state, instants = reserve(RateState(), rate, [Wish(SOON_US)] * 10, now)
    state, (new,) = reserve(state, rate, [Wish(SOON_US)], instants[2].at_us)  # the one before has not come
    assert not new.is_start
    _, (waited,) = reserve(state, rate, [Wish(AHEAD_US)], instants[2].at_us)
    assert waited.is_start


@pytest.mark.parametrize(("rate", "seconds"), [(Rate(100, 1000), 3600), (Rate(1, 3_600_000), 7220)])
def test_nobody_waits_for_longer_than_an_hour_or_two_intervals_before_it_asks_again(rate: Rate, seconds: int) -> None:
    now = 10**15
    long_line = RateState(declared=rate, next_us=now, line_us=now + (seconds - 1) * SECOND_US)
    state, instants = reserve(long_line, rate, [Wish(SOON_US)] * 1_000, now)
    assert max(each.at_us for each in instants) <= now + seconds * SECOND_US
    assert state.end_us <= now + seconds * SECOND_US


def test_a_higher_rate_is_for_those_who_ask_from_then_on() -> None:
    now, slow, fast = 10**15, Rate(1, 60_000), Rate(1000, 1000)
    state, _ = reserve(RateState(), slow, [Wish(SOON_US)] * 50, now)
    _, instants = reserve(state, fast, [Wish(SOON_US)] * 200, now + 1)  # by the code of a new release
    assert max(each.at_us for each in instants) < now + SECOND_US
    overridden = at_rate(state, replace(state, override=fast), now + 1)
    _, instants = reserve(overridden, slow, [Wish(SOON_US)] * 200, now + 1)
    assert max(each.at_us for each in instants) < now + SECOND_US


@given(
    rates=st.lists(
        st.builds(Rate, st.integers(1, 20), st.sampled_from([100, 1000, 60_000]), st.just(0)), min_size=2, max_size=2
    ),
    before=st.integers(1, 10),
    after=st.integers(1, 40),
)
def test_another_rate_holds_from_then_on(rates: list[Rate], before: int, after: int) -> None:
    """No window has more starts than the new rate says, with the one that was reserved last before."""
    old, new = rates
    now, starts = 10**15, list[int]()
    state, instants = reserve(RateState(), old, [Wish(AHEAD_US)] * before, now)
    starts.append(max(each.at_us for each in instants if each.is_start) + old.reserve_us)
    for number in range(after):
        state, (instant,) = reserve(state, new, [Wish(AHEAD_US)], now + 100_000 * number)
        starts += [instant.at_us] if instant.is_start else []
    starts.sort()
    for first in range(len(starts) - new.limit):
        assert starts[first + new.limit] - starts[first] >= 1000 * new.per_ms


def test_an_instant_that_was_missed_is_given_back_where_nobody_has_one_behind_it() -> None:
    rate, now = Rate(1, 3_600_000), 10**15
    state, (missed,) = reserve(RateState(), rate, [Wish(SOON_US)], now)
    after, (again,) = reserve(state, rate, [Wish(AHEAD_US, 40_000, missed.after_us)], now + 30_000)
    assert (again.is_start, again.at_us) == (True, now + 70_000)
    _, (too_late,) = reserve(after, rate, [Wish(AHEAD_US, 40_000, missed.after_us)], now + 80_000)
    assert not too_late.is_start


def test_an_instant_says_by_how_much_a_start_may_be_late_by_the_rate_that_counts() -> None:
    state = RateState(override=Rate(10, 100))
    _, (instant,) = reserve(state, Rate(1, 10_000), [Wish(SOON_US)], 10**15)
    assert instant.reserve_us == Rate(10, 100).reserve_us < Rate(1, 10_000).reserve_us


@given(limit=st.integers(1, 1000), per_ms=st.sampled_from([100, 1000, 3_600_000]), burst=st.integers(0, 5))
def test_a_key_that_is_begun_anew_lets_what_it_may_have_reserved_pass(limit: int, per_ms: int, burst: int) -> None:
    rate, now = Rate(limit, per_ms, burst), 10**15
    _, (instant,) = reserve(begun_anew(rate, now), rate, [Wish(20 * SECOND_US + 1000 * per_ms)], now)
    assert instant.at_us == now + LONGEST_LEAD_US + AHEAD_US + 1000 * per_ms
