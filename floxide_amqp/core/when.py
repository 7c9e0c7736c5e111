"""What ``.when`` makes of a type, an enum member or a predicate."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any, Literal, NewType, cast, get_origin

from typing_extensions import is_typeddict

from floxide_amqp.core.conditions import ValueCondition, WhenMember, WhenTrue, WhenType, describe_function
from floxide_amqp.core.connections import Connected
from floxide_amqp.core.type_args import union_members
from floxide_amqp.exceptions import DefinitionError


def condition_of(variant: object, guard: object, where: str) -> ValueCondition:
    """Return the condition that ``where.when(variant, guard)`` stands for.

    Raises:
        DefinitionError: The variant or the guard cannot be one.
    """
    if guard is not None:
        _check_function(guard, f"{where}.when(..., guard)")
    if isinstance(variant, Enum):
        return WhenMember(variant, cast("Callable[[Any], bool] | None", guard))
    if _is_type_form(variant):
        return WhenType(variant, cast("Callable[[Any], bool] | None", guard))
    _check_function(variant, f"{where}.when(...)")
    if guard is not None:
        raise DefinitionError(
            f"{where}.when(predicate, guard): a predicate takes no guard. Ask both in the predicate, "
            "or give a type first: .when(Approved, guard)."
        )
    return WhenTrue(cast("Callable[[Any], bool]", variant))


def _is_type_form(variant: object) -> bool:
    if variant is None or isinstance(variant, type | NewType) or is_typeddict(variant):
        return True
    return get_origin(variant) not in (None, Literal) or len(union_members(variant)) > 1


def _check_function(given: object, where: str) -> None:
    if not callable(given) or isinstance(given, Connected | type):
        raise DefinitionError(
            f"{where}: {given!r} is neither a type, an enum member nor a function from a value to True or False."
        )
    if inspect.iscoroutinefunction(given):
        raise DefinitionError(
            f"{where}: {describe_function(given)} is async. Conditions are decided between steps: use a plain "
            "function, and let a node fetch what it needs."
        )
