"""Rate limits as arithmetic: no window has more starts than the limit and its burst, however late each start is."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp import DefinitionError, RateLimit
from floxide_amqp.core.rates import AHEAD_US, SOON_US, Rate, RateState, Wish, is_idle, reserve

SECOND_US = 1_000_000


@given(
    limit=st.integers(1, 20),
    per_ms=st.sampled_from([100, 250, 1000, 60_000]),
    burst=st.integers(0, 5),
    asks=st.lists(
        st.tuples(st.integers(0, 300_000), st.integers(1, 4), st.floats(0, 1), st.booleans()), min_size=1, max_size=80
    ),
)
def test_no_window_has_more_starts_than_the_limit_and_its_burst(
    limit: int, per_ms: int, burst: int, asks: list[tuple[int, int, float, bool]]
) -> None:
    rate, state, now, starts = Rate(limit, per_ms, burst), RateState(), 10**15, list[int]()
    for pause, bodies, lateness, has_waited in asks:
        now += pause
        wish = Wish(AHEAD_US if has_waited else SOON_US)
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
    assert all(each > now + SOON_US for each in waits)
    assert all(late - early >= rate.interval_us for early, late in itertools.pairwise(waits))
    assert state.line_us == (waits[-1] if waits else 0)


def test_those_who_have_waited_come_before_the_others() -> None:
    rate, now = Rate(10, 1000), 10**15
    _, instants = reserve(RateState(), rate, [Wish(SOON_US), Wish(AHEAD_US), Wish(AHEAD_US)], now)
    assert [each.is_start for each in instants] == [False, True, True]


def test_who_only_asks_takes_no_place_in_the_line() -> None:
    rate, now = Rate(1, 1000), 10**15
    busy, _ = reserve(RateState(), rate, [Wish(SOON_US)], now)
    after, (instant,) = reserve(busy, rate, [Wish(0, lines_up=False)], now)
    assert (after, instant.is_start) == (busy, False)


def test_a_clock_that_was_set_back_stops_nobody_for_longer_than_a_window() -> None:
    rate, now = Rate(10, 1000), 10**15
    state, _ = reserve(RateState(), rate, [Wish(SOON_US)], now)
    _, (instant,) = reserve(state, rate, [Wish(10 * SECOND_US)], now - 3600 * SECOND_US)
    assert instant.is_start
    assert instant.at_us - (now - 3600 * SECOND_US) < 3 * SECOND_US


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
