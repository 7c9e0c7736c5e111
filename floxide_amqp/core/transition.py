"""What a node says happens next.

A transition is a value: nothing in it acts. A node that returns anything else has returned ``Next`` of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Never, Protocol, cast, overload

from typing_extensions import TypeIs, TypeVar

from floxide_amqp.core.signals import Signal
from floxide_amqp.exceptions import DefinitionError

O_co = TypeVar("O_co", covariant=True)

MAX_HOLD = timedelta(days=3_650)
"""The longest time an item may be held before it runs again: ten years, far below what a timer can store."""


class Transition(Generic[O_co]):
    """The base of what a node may return: `Next`, `NextAll`, `Hold` or `Abort`."""

    __slots__ = ()

    if TYPE_CHECKING:
        # Every object has this method but transitions: so a checker can tell a bare value from them, see `BareValue`.
        __sizeof__: ClassVar[None]  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]


class BareValue(Protocol):
    """What a node may return that is no transition; for type checkers only.

    mypy solves ``O | Hold`` member by member and makes ``object`` of ``Small | Large``. With this bound a bare union is
    matched as a whole first.
    """

    def __sizeof__(self) -> int: ...


# The slots are written out: `dataclass(slots=True)` makes a second class, on which `Next[int](5)` fails in 3.11.
@dataclass(frozen=True)
class Next(Transition[O_co]):
    """Go on with one value.

    Attributes:
        value: What the next nodes receive; the run's output where no edge leads on.
    """

    __slots__ = ("value",)
    value: O_co


@dataclass(frozen=True)
class NextAll(Transition[O_co]):
    """Go on once per value: each is routed on its own.

    Attributes:
        values: The values, in the order in which a `gather` will return their results. May be empty.
    """

    __slots__ = ("values",)
    values: Sequence[O_co]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))


@dataclass(frozen=True, init=False)
class Hold(Transition[Never]):
    """Wait: the node runs again with the same input later, without occupying a worker meanwhile.

    ``Hold(for_=...)`` and ``Hold(until_time=...)`` wait for a time; when it is over, `WorkflowCtx.timed_out` says it,
    or the node's ``on_timeout`` edge is taken where it has one. ``Hold(until=signal)`` waits for a signal, whose value
    `WorkflowCtx.received` returns then; one that came before is found there too, and ends the wait at once.

    ``Hold()`` leaves going on to another: an arrival that adds what it brings to the context and waits for the
    rest. Such a hold stands only if no other step changed the context since the body saw it, else the body runs again
    at once; so of several arrivals exactly the last one sees them all. Nothing wakes it afterwards, and a run that has
    an output and only such items left is complete.

    Attributes:
        for_: How long, a `timedelta` or seconds, 0 to 3,650 days.
        until_time: Until when, aware; a time that is over is now. At most 3,650 days ahead.
        until: The signals of which one is waited for; empty for none.
        timeout: How long a signal is waited for at most, 0 to 3,650 days; None for as long as it takes. Afterwards the
            node runs again with `WorkflowCtx.timed_out`, or its ``on_timeout`` edge is taken where it has one.
    """

    __slots__ = ("for_", "timeout", "until", "until_time")
    for_: timedelta | None
    until: tuple[Signal[Any], ...]
    until_time: datetime | None
    timeout: timedelta | None

    if TYPE_CHECKING:

        @overload
        def __init__(self, *, for_: timedelta | float | None = None) -> None: ...
        @overload
        def __init__(self, *, until_time: datetime) -> None: ...
        @overload
        def __init__(
            self, *, until: Signal[Any] | tuple[Signal[Any], ...], timeout: timedelta | float | None = None
        ) -> None: ...

    def __init__(
        self,
        *,
        for_: timedelta | float | None = None,
        until: Signal[Any] | tuple[Signal[Any], ...] = (),
        until_time: datetime | None = None,
        timeout: timedelta | float | None = None,
    ) -> None:
        """Wait for a time or for a signal, or for others.

        Raises:
            DefinitionError: A time is out of range, a signal is none, or what is given does not go together.
        """
        signals = until if isinstance(until, tuple) else (until,)
        if not all(isinstance(each, Signal) for each in cast("tuple[object, ...]", signals)):
            raise DefinitionError(f"Hold(until={until!r}): it takes a Signal, such as Signal('approval', bool).")
        if (for_ is not None) + (until_time is not None) + bool(signals) > 1:
            raise DefinitionError(
                "Hold(...) waits for one thing: a time (for_ or until_time), or a signal (until, with a timeout)."
            )
        if timeout is not None and not signals:
            raise DefinitionError("Hold(timeout=...) goes with until=...; to wait for a time, write Hold(for_=...).")
        if until_time is not None and until_time.tzinfo is None:
            raise DefinitionError(
                f"Hold(until_time={until_time!r}) has no time zone. Give an aware time: datetime(..., tzinfo=UTC)."
            )
        object.__setattr__(self, "for_", _hold_time(for_, "for_"))
        object.__setattr__(self, "until", signals)
        object.__setattr__(self, "until_time", until_time)
        object.__setattr__(self, "timeout", _hold_time(timeout, "timeout"))


@dataclass(frozen=True)
class Abort(Transition[Never]):
    """Fail now and for good: no retry; the ``on_failure`` edges are taken, else the run fails.

    Attributes:
        error: Why; its class decides which ``on_failure`` edge is taken.
    """

    __slots__ = ("error",)
    error: Exception

    def __post_init__(self) -> None:
        given = cast(object, self.error)
        if not isinstance(given, Exception):
            raise DefinitionError(
                f"Abort({given!r}): it takes an exception instance, such as Abort(ValueError('no stock'))."
            )


def as_transition(raw: object) -> Transition[Any]:
    """Return what a node returned as a transition: a bare value is `Next` of it."""
    return raw if is_transition(raw) else Next(raw)


def is_transition(raw: object) -> TypeIs[Transition[Any]]:
    """Say whether what a node returned is a transition, and no bare value."""
    return isinstance(raw, Transition)


def _hold_time(given: timedelta | float | None, what: str) -> timedelta | None:
    if given is None:
        return None
    seconds = given.total_seconds() if isinstance(given, timedelta) else float(given)
    if not math.isfinite(seconds) or not 0 <= seconds <= MAX_HOLD.total_seconds():
        raise DefinitionError(f"Hold({what}={given!r}): the time must be from 0 seconds to {MAX_HOLD.days} days.")
    return timedelta(seconds=seconds)
