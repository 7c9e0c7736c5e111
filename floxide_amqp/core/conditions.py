"""When an edge is taken: the conditions a user writes with ``when``, ``otherwise`` and ``on_failure``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from floxide_amqp.core.failure import kind_of
from floxide_amqp.core.type_names import describe_type
from floxide_amqp.exceptions import HoldTimeoutError


@dataclass(frozen=True, slots=True)
class Always:
    """A plain edge: taken for every value."""


@dataclass(frozen=True, slots=True)
class WhenType:
    """Taken for values of one member of the output's union.

    Attributes:
        variant: The type.
        guard: Further condition on the value; None for none.
    """

    variant: Any
    guard: Callable[[Any], bool] | None = None


@dataclass(frozen=True, slots=True)
class WhenMember:
    """Taken for one member of an enum.

    Attributes:
        member: The enum member.
        guard: Further condition on the value; None for none.
    """

    member: Enum
    guard: Callable[[Any], bool] | None = None


@dataclass(frozen=True, slots=True)
class WhenTrue:
    """Taken for values the predicate says yes to."""

    predicate: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Otherwise:
    """Taken for values that no `when` of the node matched."""


@dataclass(frozen=True, slots=True)
class OnFailure:
    """Taken when the node failed for good.

    Attributes:
        errors: Exception classes; empty for every error that no typed edge of the node matched.
    """

    errors: tuple[type[BaseException], ...] = ()


ValueCondition: TypeAlias = Always | WhenType | WhenMember | WhenTrue | Otherwise
EdgeCondition: TypeAlias = ValueCondition | OnFailure

ALWAYS = Always()
OTHERWISE = Otherwise()


def describe_condition(condition: EdgeCondition) -> str:
    """Return a condition as a short label; empty for a plain edge."""
    match condition:
        case Always():
            return ""
        case WhenType(variant, guard):
            return describe_type(variant) + _describe_guard(guard)
        case WhenMember(member, guard):
            return f"{type(member).__name__}.{member.name}{_describe_guard(guard)}"
        case WhenTrue(predicate):
            return describe_function(predicate)
        case Otherwise():
            return "otherwise"
        case OnFailure((error,)) if error is HoldTimeoutError:
            return "on_timeout"
        case OnFailure(errors):
            return "on_failure" + (f"({', '.join(error.__name__ for error in errors)})" if errors else "")


def spell_condition(condition: EdgeCondition) -> str:
    """Return a condition as the user writes it after a node: ``.when(Approved)``; empty for a plain edge."""
    label = describe_condition(condition)
    if isinstance(condition, WhenType | WhenMember | WhenTrue):
        return f".when({label})"
    return f".{label}" if label else ""


def identify_condition(condition: EdgeCondition) -> str:
    """Return a text that tells conditions apart and is the same in every process."""
    match condition:
        case OnFailure(errors):
            return "on_failure:" + ",".join(kind_of(error) for error in errors)
        case WhenType(variant, guard):
            return f"when:{describe_type(variant, with_module=True)}{_describe_guard(guard)}"
        case _:
            return describe_condition(condition)


def describe_function(function: Callable[..., Any]) -> str:
    """Return the name of a function as an error prints it; ``lambda`` for a lambda."""
    name = str(getattr(function, "__name__", type(function).__name__))
    return "lambda" if name == "<lambda>" else name


def _describe_guard(guard: Callable[[Any], bool] | None) -> str:
    return "" if guard is None else f", {describe_function(guard)}"
