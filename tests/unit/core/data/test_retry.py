"""A retry policy answers three questions: again at all, for this error, and after how long."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.core.retry import MAX_BACKOFF, NO_RETRY, Backoff, RetryPolicy
from floxide_amqp.exceptions import CodecError, DefinitionError, FloxideError

EXACT: dict[str, Any] = {"jitter": 0.0}

policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 1_000),
    initial_backoff=st.timedeltas(timedelta(), MAX_BACKOFF),
    backoff=st.sampled_from(Backoff),
    multiplier=st.floats(1, 1e9),
    max_backoff=st.timedeltas(timedelta(), MAX_BACKOFF),
    jitter=st.floats(0, 1),
)
units = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("policy", "seconds"),
    [
        (RetryPolicy(initial_backoff=1, max_backoff=60, **EXACT), [1, 2, 4, 8, 16, 32, 60, 60]),
        (RetryPolicy(initial_backoff=1, multiplier=3, max_backoff=60, **EXACT), [1, 3, 9, 27, 60]),
        (RetryPolicy(initial_backoff=0.5, backoff=Backoff.LINEAR, max_backoff=2, **EXACT), [0.5, 1, 1.5, 2, 2]),
        (RetryPolicy(initial_backoff=0, **EXACT), [0, 0, 0]),
        (RetryPolicy(initial_backoff=10, max_backoff=3, **EXACT), [3, 3]),
    ],
)
def test_the_wait_grows_as_the_backoff_says_up_to_the_cap(policy: RetryPolicy, seconds: list[float]) -> None:
    waits = [policy.delay(attempt, 0.0) for attempt in range(1, len(seconds) + 1)]
    assert waits == [timedelta(seconds=s) for s in seconds]


def test_jitter_only_ever_shortens_the_wait() -> None:
    policy = RetryPolicy(initial_backoff=10, jitter=0.5)
    assert policy.delay(1, 0.0) == timedelta(seconds=10)
    assert policy.delay(1, 0.5) == timedelta(seconds=7.5)


@given(policies, st.integers(1, 10**9), units)
def test_no_wait_is_negative_or_beyond_the_cap(policy: RetryPolicy, attempt: int, unit: float) -> None:
    assert timedelta() <= policy.delay(attempt, unit) <= policy.max_backoff  # type: ignore[operator]  # normalised


@given(policies, st.integers(1, 1_000), units)
def test_with_the_same_chance_no_wait_is_shorter_than_the_one_before(
    policy: RetryPolicy, attempt: int, unit: float
) -> None:
    assert policy.delay(attempt, unit) <= policy.delay(attempt + 1, unit)


@given(st.integers(1, 100), st.integers(1, 200))
def test_max_attempts_counts_the_first_attempt(limit: int, failures: int) -> None:
    assert RetryPolicy(max_attempts=limit).has_attempts_left(failures) == (failures < limit)


def test_no_retry_leaves_nothing_after_the_first_failure() -> None:
    assert not NO_RETRY.has_attempts_left(1)


class DeclinedError(Exception):
    code = 402


class HardDeclinedError(DeclinedError):
    code = 410


@pytest.mark.parametrize(
    ("policy", "error", "expected"),
    [
        (RetryPolicy(), ValueError(), True),
        (RetryPolicy(), asyncio.CancelledError(), False),
        (RetryPolicy(retry_on=BaseException), KeyboardInterrupt(), False),
        (RetryPolicy(retry_on=DeclinedError), ValueError(), False),
        (RetryPolicy(retry_on=DeclinedError), HardDeclinedError(), True),
        (RetryPolicy(retry_on=(OSError, DeclinedError)), DeclinedError(), True),
        (RetryPolicy(give_up_on=HardDeclinedError), DeclinedError(), True),
        (RetryPolicy(give_up_on=HardDeclinedError), HardDeclinedError(), False),
        (RetryPolicy(retry_on=DeclinedError, give_up_on=DeclinedError), DeclinedError(), False),
        (RetryPolicy(retry_on=lambda e: getattr(e, "code", 0) == 402), DeclinedError(), True),
        (RetryPolicy(retry_on=lambda e: getattr(e, "code", 0) == 402), HardDeclinedError(), False),
        (RetryPolicy(give_up_on=(OSError, lambda e: getattr(e, "code", 0) == 410)), HardDeclinedError(), False),
        (RetryPolicy(retry_on=()), ValueError(), False),
        (RetryPolicy(), CodecError("no"), False),
        (RetryPolicy(retry_on=CodecError), CodecError("no"), True),
        (RetryPolicy(retry_on=(Exception, FloxideError)), CodecError("no"), True),
    ],
)
def test_an_error_is_retried_by_class_or_predicate(policy: RetryPolicy, error: BaseException, expected: bool) -> None:
    assert policy.is_retryable(error) is expected


def test_what_a_predicate_raises_is_not_swallowed() -> None:
    def broken(error: Exception) -> bool:
        raise LookupError("broken")

    with pytest.raises(LookupError):
        RetryPolicy(retry_on=broken).is_retryable(ValueError())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"max_attempts": 0}, "RetryPolicy.max_attempts is 0; it must be 1 or more."),
        ({"max_attempts": True}, "RetryPolicy.max_attempts is True; it must be 1 or more."),
        ({"max_attempts": 1.5}, "RetryPolicy.max_attempts is 1.5; it must be 1 or more."),
        ({"initial_backoff": -1}, "RetryPolicy.initial_backoff is -1; it must be a timedelta or seconds"),
        ({"initial_backoff": "1s"}, "RetryPolicy.initial_backoff is '1s'"),
        ({"initial_backoff": float("nan")}, "RetryPolicy.initial_backoff is nan"),
        ({"max_backoff": 1e300}, "RetryPolicy.max_backoff is 1e+300"),
        ({"max_backoff": timedelta(days=366)}, "from 0 to 365 days"),
        ({"backoff": "linear"}, "RetryPolicy.backoff is 'linear'; it must be Backoff.LINEAR or Backoff.EXPONENTIAL."),
        ({"multiplier": 0.5}, "RetryPolicy.multiplier is 0.5; it must be 1 or more."),
        ({"multiplier": float("inf")}, "RetryPolicy.multiplier is inf"),
        ({"jitter": 1.1}, "RetryPolicy.jitter is 1.1; it must be a number from 0 to 1."),
        ({"retry_on": "ValueError"}, "RetryPolicy.retry_on is 'ValueError'; it must be an exception class"),
        ({"retry_on": (ValueError, int)}, "RetryPolicy.retry_on is <class 'int'>; it must be an exception class"),
        ({"give_up_on": [ValueError]}, "RetryPolicy.give_up_on is"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_its_bounds(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        RetryPolicy(**arguments)
    assert sentence in str(caught.value)


def test_seconds_and_timedeltas_make_equal_policies() -> None:
    assert RetryPolicy(initial_backoff=1.5) == RetryPolicy(initial_backoff=timedelta(seconds=1.5))
