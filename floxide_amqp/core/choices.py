"""What the conditions of one node's edges mean for the type it returns: what goes where, what is left, how much.

A type is looked at in *atoms*: the members of a union, and of an enum its single members where a condition names one.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, Final, Literal, TypeGuard, cast, get_args, get_origin, get_type_hints

from typing_extensions import TypeIs

from floxide_amqp.core.conditions import Always, Otherwise, ValueCondition, WhenMember, WhenTrue, WhenType
from floxide_amqp.core.type_args import make_union, union_members
from floxide_amqp.core.typing_rules import assignable, covers

_NARROWING: Final = (TypeIs, TypeGuard, getattr(typing, "TypeIs", TypeIs))
"""The same form has two spellings where `typing` has it and typing-extensions keeps its own."""


def atoms_of(output: object, conditions: Iterable[ValueCondition]) -> tuple[Any, ...]:
    """Return the atoms of a type that conditions can tell apart."""
    named = {type(condition.member) for condition in conditions if isinstance(condition, WhenMember)}
    atoms: list[Any] = []
    for member in union_members(output):
        if isinstance(member, type) and member in named and issubclass(member, Enum):
            atoms += (cast(Any, Literal)[value] for value in member)
        elif get_origin(member) is Literal and any(type(value) in named for value in get_args(member)):
            atoms += (cast(Any, Literal)[value] for value in get_args(member))
        else:
            atoms.append(member)
    return tuple(atoms)


def is_outside(condition: ValueCondition, output: object) -> bool:
    """Say whether no value of a type can ever meet a condition."""
    if not isinstance(condition, WhenType | WhenMember):
        return False
    return not _taken_atoms(condition, output)


def taken_type(condition: ValueCondition, output: object, conditions: Sequence[ValueCondition]) -> Any:
    """Return the type of the values that meet a condition.

    Args:
        condition: One of `conditions`.
        output: What the node returns.
        conditions: All of the node, for what ``otherwise`` leaves.
    """
    match condition:
        case WhenType() | WhenMember():
            return make_union(_taken_atoms(condition, output))
        case WhenTrue(predicate):
            narrowed = narrowed_type(predicate)
            return output if narrowed is None or not assignable(narrowed, output) else narrowed
        case Otherwise():
            return make_union(left_over(output, conditions))
        case Always():
            return output


def left_over(output: object, conditions: Sequence[ValueCondition]) -> tuple[Any, ...]:
    """Return the atoms of a type of which some values meet no ``when``: guards and predicates may say no."""
    return tuple(
        atom
        for atom in atoms_of(output, conditions)
        if not any(_always_takes(condition, atom) for condition in conditions)
    )


def most_taken(edges: Sequence[ValueCondition], conditions: Sequence[ValueCondition], output: object) -> int:
    """Return how many edges one value may take at once, at most.

    Args:
        edges: The conditions of the node's edges.
        conditions: The same and those of branches that end.
        output: What the node returns.
    """
    plain = sum(isinstance(edge, Always) for edge in edges)
    if plain == len(edges):
        return plain
    otherwise = sum(isinstance(edge, Otherwise) for edge in edges)
    atoms = atoms_of(output, conditions)
    variants = [part for edge in edges if isinstance(edge, WhenType) for part in union_members(edge.variant)]
    narrower = [part for part in variants if any(covers(atom, part) for atom in atoms)]
    most = 0
    for atom in (*atoms, *narrower):
        matching = sum(_may_take(edge, atom) for edge in edges)
        rest = 0 if any(_always_takes(condition, atom) for condition in conditions) else otherwise
        most = max(most, plain + matching, plain + rest)
    return most


def narrowed_type(predicate: Callable[..., Any]) -> Any | None:
    """Return the type a ``TypeIs`` or ``TypeGuard`` predicate narrows to; None for any other predicate."""
    function = inspect.unwrap(predicate)
    try:
        returned = get_type_hints(function).get("return")
    except (NameError, AttributeError, TypeError):
        return None
    return get_args(returned)[0] if get_origin(returned) in _NARROWING else None


def _taken_atoms(condition: WhenType | WhenMember, output: object) -> tuple[Any, ...]:
    atoms = atoms_of(output, [condition])
    taken = [atom for atom in atoms if _may_take(condition, atom)]
    if isinstance(condition, WhenType):
        others = [atom for atom in atoms if atom not in taken]
        taken += (part for part in union_members(condition.variant) if any(covers(atom, part) for atom in others))
    return tuple(taken)


def _may_take(condition: ValueCondition, atom: object) -> bool:
    match condition:
        case WhenType(variant):
            return covers(variant, atom)
        case WhenMember(member):
            return get_origin(atom) is Literal and any(value is member for value in get_args(atom))
        case WhenTrue():
            return True
        case Always() | Otherwise():
            return False


def _always_takes(condition: ValueCondition, atom: object) -> bool:
    if isinstance(condition, Always):
        return True
    return isinstance(condition, WhenType | WhenMember) and condition.guard is None and _may_take(condition, atom)
