"""Which shapes can be told apart by the plain data that values of them become."""

from __future__ import annotations

from enum import Enum
from types import NoneType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from floxide_amqp.core.shapes import Shape


def are_distinguishable(first: Shape, second: Shape) -> bool:
    """Say whether a value of either shape, decoded as the union of both, comes back as what it was."""
    return (first.is_pure and second.is_pure) or _excludes(first, second, set())


def _excludes(a: Shape, b: Shape, seen: set[tuple[int, int]]) -> bool:
    """Say whether no plain form of either is accepted as the other, or only with fewer of its fields."""
    if (id(a), id(b)) in seen:
        return False
    seen.add((id(a), id(b)))
    for one, other in ((a, b), (b, a)):
        if one.kind == "union":
            return all(_excludes(member, other, seen) for member in one.items)
    if "any" in {a.kind, b.kind}:
        return False
    for one, other in ((a, b), (b, a)):
        if one.kind in {"enum", "literal"}:
            return _no_choice_fits(one, other)
    if NoneType in {a.runtime, b.runtime}:
        return a.runtime is not b.runtime
    if "opaque" in {a.kind, b.kind}:
        return False
    return _excludes_by_structure(a, b, seen)


def _excludes_by_structure(a: Shape, b: Shape, seen: set[tuple[int, int]]) -> bool:
    if _is_single(a) or _is_single(b):
        return _is_single(a) != _is_single(b)
    if "dict" in {a.kind, b.kind}:
        if a.kind == b.kind:
            return any(_excludes(x, y, seen) for x, y in zip(a.items, b.items, strict=True))
        return "record" not in {a.kind, b.kind} and not (a.fields or b.fields)
    if a.fields and b.fields:
        if a.kind == b.kind == "tuple":
            return _positions_exclude(a, b, seen)
        return _fields_exclude(a, b, seen)
    if "record" in {a.kind, b.kind}:
        return a.kind != b.kind
    return _positions_exclude(a, b, seen)


def _is_single(shape: Shape) -> bool:
    return shape.kind in {"scalar", "path"}


def _no_choice_fits(choice: Shape, other: Shape) -> bool:
    adapter: TypeAdapter[Any] = TypeAdapter(other.annotation)
    for value in choice.choices:
        try:
            adapter.validate_python(value.value if isinstance(value, Enum) else value)
        except ValidationError:
            continue
        return False
    return True


def _fields_exclude(a: Shape, b: Shape, seen: set[tuple[int, int]]) -> bool:
    for name in a.fields.keys() & b.fields.keys():
        (mine, i_need), (other, it_needs) = a.fields[name], b.fields[name]
        is_always_there = (i_need and it_needs) or {mine.kind, other.kind} <= {"literal", "enum"}
        if is_always_there and _excludes(mine, other, seen):
            return True
    return _beats(a, b) and _beats(b, a)


def _beats(a: Shape, b: Shape) -> bool:
    """Say whether data of `a` is refused by `b`, or fills more fields of `a` than of `b`."""
    needed = {name for name, (_, required) in b.fields.items() if required}
    return bool(needed - a.fields.keys()) or bool(a.fields.keys() - b.fields.keys())


def _positions_exclude(a: Shape, b: Shape, seen: set[tuple[int, int]]) -> bool:
    if a.is_fixed and b.is_fixed:
        optional = any(not required for _, required in (*a.fields.values(), *b.fields.values()))
        if len(a.items) != len(b.items) and not optional:
            return True
        return any(_excludes(x, y, seen) for x, y in zip(a.items, b.items, strict=False))
    if not (a.is_fixed or b.is_fixed):
        return _excludes(a.items[0], b.items[0], seen)
    fixed, other = (a, b) if a.is_fixed else (b, a)
    return any(_excludes(item, other.items[0], seen) for item in fixed.items)
