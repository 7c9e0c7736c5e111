"""When and how often a failed node runs again.

A policy only answers questions: the clock and the random number come from the caller, and the due time it leads to is
kept in the store, so a retry survives the worker that scheduled it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final, TypeAlias, cast

from floxide_amqp.exceptions import DefinitionError, FloxideError

DEFAULT_MAX_ATTEMPTS: Final = 3
"""Attempts of a policy that names none: the first and two more."""

DEFAULT_INITIAL_BACKOFF: Final = timedelta(seconds=1)
"""Wait after the first failure: long enough for a hiccup to pass, short enough for a user who waits."""

DEFAULT_MULTIPLIER: Final = 2.0
"""Growth of an exponential backoff from one failure to the next."""

DEFAULT_MAX_BACKOFF: Final = timedelta(minutes=5)
"""Longest wait between two attempts."""

DEFAULT_JITTER: Final = 0.2
"""Largest share of a wait that chance takes away, so that items that failed together do not return together."""

MAX_BACKOFF: Final = timedelta(days=365)
"""The longest `max_backoff` a policy may ask for."""

ErrorTest: TypeAlias = type[BaseException] | Callable[[Exception], bool]
"""An exception class, or a function that says yes or no to an exception."""

ErrorTests: TypeAlias = ErrorTest | tuple[ErrorTest, ...]
"""One test or several; several mean *any of them*."""


class Backoff(Enum):
    """How the wait grows with the number of failures."""

    LINEAR = "linear"
    """``initial_backoff * failures``."""

    EXPONENTIAL = "exponential"
    """``initial_backoff * multiplier ** (failures - 1)``."""


BackoffStrategy = Backoff


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often, how soon and for which errors a failed node runs again.

    The policy of the node wins over the workflow's, the workflow's over the worker's; where none is given a node runs
    once (`NO_RETRY`). ``Abort`` is never retried. An error of floxide's own whose class says ``retryable = False``
    (a definition, a value that cannot be encoded) is retried only when `retry_on` names its class or a base of it
    within the package's error tree.

    Attributes:
        max_attempts: Attempts in all, the first included; 1 means no retry.
        initial_backoff: Wait after the first failure, `timedelta` or seconds; not negative.
        backoff: How the wait grows.
        multiplier: Growth per failure of an exponential backoff; at least 1.
        max_backoff: Longest wait, `timedelta` or seconds; at most `MAX_BACKOFF`.
        jitter: Share of the wait, 0 to 1, that chance may take away: 0.2 leaves between 80 % and 100 % of it.
        retry_on: Errors that are retried: a class, a predicate, or a tuple of them.
        give_up_on: Errors that are not, even when `retry_on` says yes.

    Raises:
        DefinitionError: A value is out of its bounds, or a test is neither an exception class nor callable.
    """

    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    initial_backoff: timedelta | float = DEFAULT_INITIAL_BACKOFF
    backoff: Backoff = Backoff.EXPONENTIAL
    multiplier: float = DEFAULT_MULTIPLIER
    max_backoff: timedelta | float = DEFAULT_MAX_BACKOFF
    jitter: float = DEFAULT_JITTER
    retry_on: ErrorTests = Exception
    give_up_on: ErrorTests = ()

    def __post_init__(self) -> None:
        _require(_is_int(self.max_attempts) and self.max_attempts >= 1, "max_attempts", self.max_attempts, "1 or more")
        _require(_is_backoff(self.backoff), "backoff", self.backoff, "Backoff.LINEAR or Backoff.EXPONENTIAL")
        _require(_is_finite(self.multiplier) and self.multiplier >= 1, "multiplier", self.multiplier, "1 or more")
        _require(_is_finite(self.jitter) and 0 <= self.jitter <= 1, "jitter", self.jitter, "a number from 0 to 1")
        for name in ("initial_backoff", "max_backoff"):
            object.__setattr__(self, name, _duration(name, getattr(self, name)))
        for name in ("retry_on", "give_up_on"):
            object.__setattr__(self, name, _tests(name, getattr(self, name)))

    def has_attempts_left(self, attempt: int) -> bool:
        """Say whether another attempt is allowed after `attempt` failures."""
        return attempt < self.max_attempts

    def is_retryable(self, error: BaseException) -> bool:
        """Say whether this error, apart from the number of attempts, is one to retry.

        Cancellation, `KeyboardInterrupt` and everything else that is not an `Exception` is not.

        Raises:
            Exception: Whatever a predicate of the policy raises.
        """
        if not isinstance(error, Exception) or _any_matches(self.give_up_on, error):
            return False
        if isinstance(error, FloxideError) and not error.retryable:
            return _names_class_of(self.retry_on, error)
        return _any_matches(self.retry_on, error)

    def delay(self, attempt: int, unit: float) -> timedelta:
        """Return how long to wait before the next attempt.

        Args:
            attempt: Failures so far, 1 or more.
            unit: A random number from the caller, 0 <= unit < 1.

        Returns:
            Between ``(1 - jitter)`` of the backoff and all of it; never more than `max_backoff`.
        """
        initial, longest = _seconds(self.initial_backoff), _seconds(self.max_backoff)
        if self.backoff is Backoff.LINEAR:
            wait = initial * max(attempt, 1)
        else:
            wait = initial * _power(self.multiplier, max(attempt, 1) - 1) if initial else 0.0
        return timedelta(seconds=min(wait, longest) * (1.0 - self.jitter * unit))


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise DefinitionError(f"RetryPolicy.{name} is {value!r}; it must be {wanted}.")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_backoff(value: object) -> bool:
    return isinstance(value, Backoff)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _duration(name: str, value: object) -> timedelta:
    wanted = "a timedelta or seconds, from 0 to 365 days"
    if not isinstance(value, timedelta):
        _require(_is_finite(value) and abs(cast(float, value)) <= MAX_BACKOFF.total_seconds(), name, value, wanted)
        length = timedelta(seconds=cast(float, value))
    else:
        length = value
    _require(timedelta() <= length <= MAX_BACKOFF, name, value, wanted)
    return length


def _seconds(value: timedelta | float) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _power(base: float, exponent: int) -> float:
    try:
        return base**exponent
    except OverflowError:  # 2.0 ** 1024: the cap decides
        return math.inf


def _tests(name: str, value: ErrorTests) -> tuple[ErrorTest, ...]:
    tests = _as_tuple(value)
    for test in tests:
        _require(_is_error_test(test), name, test, "an exception class or a function of one")
    return tests


def _is_error_test(test: object) -> bool:
    return issubclass(test, BaseException) if isinstance(test, type) else callable(test)


def _as_tuple(tests: object) -> tuple[ErrorTest, ...]:
    return cast("tuple[ErrorTest, ...]", tests if isinstance(tests, tuple) else (tests,))


def _any_matches(tests: ErrorTests, error: Exception) -> bool:
    for test in _as_tuple(tests):
        if isinstance(test, type):
            if isinstance(error, test):
                return True
        elif test(error):
            return True
    return False


def _names_class_of(tests: ErrorTests, error: FloxideError) -> bool:
    named = [t for t in _as_tuple(tests) if isinstance(t, type)]
    return any(issubclass(t, FloxideError) and isinstance(error, t) for t in named)


NO_RETRY: Final = RetryPolicy(max_attempts=1)
"""Run once. What a node gets when neither it nor its workflow nor its worker has a policy."""
