"""Plain data: what payloads are made of on their way to bytes, and how two pieces of it compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, cast

from pydantic import AnyUrl, BaseModel

from floxide_amqp.core.shapes import SCALARS
from floxide_amqp.exceptions import PayloadMismatchError

_SCALARS: Final = frozenset(SCALARS)


def flatten(value: object) -> object:
    """Return what pydantic dumped with enum members, paths and subclasses of plain types replaced by plain data.

    Raises:
        CodecError: There is something in it that has no plain form.
    """
    kind = type(value)
    if kind in _SCALARS:
        return value
    if isinstance(value, Enum):
        return flatten(cast(object, value.value))
    if isinstance(value, PurePath | AnyUrl):
        return str(value)
    if isinstance(value, Mapping):
        return {flatten(k): flatten(v) for k, v in cast("Mapping[object, object]", value).items()}
    if isinstance(value, tuple):
        return tuple([flatten(v) for v in cast("tuple[object, ...]", value)])
    if isinstance(value, list):
        return [flatten(v) for v in cast("list[object]", value)]
    if isinstance(value, set | frozenset):
        members = {flatten(v) for v in cast("set[object]", value)}
        return members if isinstance(value, set) else frozenset(members)
    return _without_subclass(value)


def _without_subclass(value: object) -> object:
    """Return a value of a subclass of a plain type as one of that type."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise PayloadMismatchError(expected="plain data", got=type_name(value))


def is_same_plain(a: object, b: object) -> bool:
    """Say whether two pieces of plain data would be stored as the same: equal, and of the same types throughout."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        mine, others = cast("list[object]", a), cast("list[object]", b)
        return len(mine) == len(others) and all(map(is_same_plain, mine, others))
    if isinstance(a, dict):
        mine_by_key, others_by_key = cast("dict[object, object]", a), cast("dict[object, object]", b)
        return len(mine_by_key) == len(others_by_key) and all(
            is_same_plain(k1, k2) and is_same_plain(v1, v2)
            for (k1, v1), (k2, v2) in zip(mine_by_key.items(), others_by_key.items(), strict=True)
        )
    if isinstance(a, float) or type(a).__name__ in {"Decimal", "datetime", "time"}:
        return repr(a) == repr(b)  # -0.0 and 0.0, 1.0 and 1.00, the two 02:30 of a changed clock: equal, not the same
    return a == b


def type_name(value: object) -> str:
    """Return the name of a value's class, as errors print it."""
    return "None" if value is None else type(value).__qualname__


def first_change(before: object, after: object, compares_scalars: bool) -> str | None:
    """Say what a round trip changed: a class, or with `compares_scalars` also the type of a plain value."""
    if type(before) is not type(after):
        is_plain = type(after) in _SCALARS and not isinstance(before, Enum)
        if is_plain and not compares_scalars:
            return None
        if isinstance(before, int | float) and type(before) in _SCALARS and isinstance(after, int | float):
            return None  # a bool where an int, an int where a float is declared: the type checkers allow it, as we do
        return f"a {type_name(before)} in it would come back as {type_name(after)}"
    if isinstance(before, dict | set | frozenset):
        lost = len(cast("AbstractSet[object]", before)) - len(cast("AbstractSet[object]", after))
        if lost:
            return f"{lost} of the members of a {type_name(after)} in it would be lost"
    for mine, other in _pairs(before, after):
        change = first_change(mine, other, compares_scalars)
        if change is not None:
            return change
    return None


def _pairs(before: Any, after: Any) -> list[tuple[object, object]]:
    if isinstance(before, BaseModel):
        return [(value, getattr(after, name, None)) for name, value in before.__dict__.items()]
    if dataclasses.is_dataclass(before):
        return [(getattr(before, f.name), getattr(after, f.name)) for f in dataclasses.fields(before)]
    if isinstance(before, dict):
        mine, others = cast("dict[object, object]", before), cast("dict[object, object]", after)
        return [*_set_pairs(mine.keys(), others.keys()), *((value, others.get(key)) for key, value in mine.items())]
    if isinstance(before, list | tuple):
        return list(zip(cast("list[object]", before), cast("list[object]", after), strict=False))
    if isinstance(before, set | frozenset):
        return _set_pairs(cast("set[object]", before), cast("set[object]", after))
    return []


def _set_pairs(before: AbstractSet[object], after: AbstractSet[object]) -> list[tuple[object, object]]:
    by_value = {value: value for value in after}
    return [(value, by_value.get(value, after)) for value in before]
