"""Reducers: how what several nodes did to one field of the run's state becomes one value.

A node works on a copy. When it commits, `diff` says what it did as a delta, a value of the field's own type, and
`merge` puts deltas on top of the committed value in commit order. Laws every reducer keeps: ``diff(a, a)`` is None, and
``merge(a, diff(a, b)) == b`` for every change it allows. Sum, Max, Min and Union commute: the order of concurrent
commits does not show. Append and LastWrite follow the commit order.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Protocol, TypeVar, cast, runtime_checkable

from floxide_amqp.core.shapes import Shape

T = TypeVar("T")

_ADDABLE: Final = (int, float, Decimal, timedelta)
_ORDERED: Final = (*_ADDABLE, str, bytes, date, datetime, time)

_COLLECTIONS: Final = frozenset({"list", "sequence", "set", "frozenset", "dict"})
_FITTING: Final = {
    "list": ("Append(), a reducer of your own, an EventLog[...] instead", "Append()", "[]"),
    "set": ("Union(), a reducer of your own", "Union()", "set()"),
    "frozenset": ("Union(), a reducer of your own", "Union()", "frozenset()"),
    "dict": ("a reducer of your own", "LastWrite()", "{}"),
}
"""What fits a collection, by its kind: what to offer, what to show, and a default."""


@runtime_checkable
class Reducer(Protocol[T]):
    """What a field's note must offer to decide how its changes are merged: ``field: Annotated[T, MyReducer()]``."""

    def diff(self, before: T, after: T) -> T | None:
        """Return what turned `before` into `after`, as a value of the field's type; None where nothing did.

        Raises:
            ChangeRefusedError: The change cannot be merged with the changes of others.
        """
        ...

    def merge(self, base: T, delta: T) -> T:
        """Return `base` with a delta on top; must not change either."""
        ...


class ChangeRefusedError(Exception):
    """Raised by a reducer's `diff`; the engine adds the class and the field and raises `ContextChangeError`."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(f"{problem}; {cure}")
        self.problem = problem
        self.cure = cure


@dataclass(frozen=True, slots=True)
class Sum:
    """Adds up what each node added: ``int``, ``float``, ``Decimal``, ``timedelta``."""

    def diff(self, before: Any, after: Any) -> Any:
        """Return ``after - before``; None where it is zero."""
        return (after - before) or None

    def merge(self, base: Any, delta: Any) -> Any:
        """Return ``base + delta``."""
        return base + delta


@dataclass(frozen=True, slots=True)
class Max:
    """Keeps the largest value any node set; a smaller one has no effect."""

    def diff(self, before: Any, after: Any) -> Any:
        """Return `after` where it is larger."""
        return after if after > before else None

    def merge(self, base: Any, delta: Any) -> Any:
        """Return the larger of the two."""
        return max(delta, base)


@dataclass(frozen=True, slots=True)
class Min:
    """Keeps the smallest value any node set; a larger one has no effect."""

    def diff(self, before: Any, after: Any) -> Any:
        """Return `after` where it is smaller."""
        return after if after < before else None

    def merge(self, base: Any, delta: Any) -> Any:
        """Return the smaller of the two."""
        return min(delta, base)


@dataclass(frozen=True, slots=True)
class Union:
    """Collects members of a ``set`` or ``frozenset``; removing one is an error, since another node may count on it."""

    def diff(self, before: Any, after: Any) -> Any:
        """Return the members added.

        Raises:
            ChangeRefusedError: Members were removed.
        """
        mine, others = cast("AbstractSet[object]", after), cast("AbstractSet[object]", before)
        removed = len(others - mine)
        if removed:
            raise ChangeRefusedError(
                f"lost {removed} of its members, and Union() only ever adds",
                "mark what is over with a second set, or use LastWrite()",
            )
        return (mine - others) or None

    def merge(self, base: Any, delta: Any) -> Any:
        """Return the members of both."""
        return base | delta


@dataclass(frozen=True, slots=True)
class Append:
    """Appends what each node appended to a ``list`` or ``tuple``; changing what was there before is an error.

    Reading or appending costs as much as the list is long, since the node receives a real list; committing costs as
    much as was appended. For long histories use `EventLog`, which is flat in both.
    """

    def diff(self, before: Any, after: Any) -> Any:
        """Return the elements after those of `before`."""
        count = len(before)
        if len(after) < count or after[:count] != before:
            raise _prefix_changed()
        return after[count:] or None

    def merge(self, base: Any, delta: Any) -> Any:
        """Return the elements of both."""
        return base + delta


@dataclass(frozen=True, slots=True)
class LastWrite:
    """Keeps what was committed last; what a field without a reducer gets, unless it is a list, a set or a dict."""

    def diff(self, before: Any, after: Any) -> Any:
        """Return `after` where it differs."""
        return after if after != before else None

    def merge(self, base: Any, delta: Any) -> Any:
        """Return the delta."""
        return delta


def _prefix_changed() -> ChangeRefusedError:
    return ChangeRefusedError(
        "changed elements that were there before, and Append() only ever adds at the end",
        "append only, or use LastWrite()",
    )


def problem_of_field(reducer: object, shape: Shape) -> tuple[str, str] | None:
    """Say why a reducer cannot serve a field of this type, and the cure; None where it can, or is the user's own."""
    if isinstance(reducer, Sum):
        return None if _is_one_of(shape, _ADDABLE) else ("Sum() adds numbers", "int, float, Decimal or timedelta")
    if isinstance(reducer, Max | Min):
        name = type(reducer).__name__
        return None if _is_one_of(shape, _ORDERED) else (f"{name}() compares", "a number, a text or a date")
    if isinstance(reducer, Union):
        return (
            None if shape.kind in {"set", "frozenset"} else ("Union() collects members", "set[...] or frozenset[...]")
        )
    if isinstance(reducer, Append):
        is_list = shape.kind == "list" or (shape.kind == "tuple" and not shape.is_fixed)
        return None if is_list else ("Append() adds elements", "list[...] or tuple[..., ...]")
    return None


def problem_without_reducer(name: str, where: str, written: str, shape: Shape) -> str | None:
    """Say why a field needs a reducer written out; None where the last write is what anybody expects.

    A node adds to a collection, and the last write would silently drop what others added at the same time.

    Args:
        name: The field's name.
        where: Its class and name.
        written: Its type, as errors print it.
        shape: What its values look like.
    """
    parts = shape.items if shape.kind == "union" else (shape,)
    if not any(part.kind in _COLLECTIONS for part in parts):
        return None
    fitting, reducer, default = _FITTING.get(shape.kind, ("a reducer of your own", "LastWrite()", "…"))
    return (
        f"{where} is {written} without a reducer, so that of what several nodes add to it at the same time only the "
        f"last write would be kept. Say how it is merged: {fitting}, or LastWrite() if the last write shall win. "
        f"Write {name}: Annotated[{written}, {reducer}] = {default}."
    )


def _is_one_of(shape: Shape, classes: Sequence[type]) -> bool:
    return shape.kind == "scalar" and shape.runtime in classes
