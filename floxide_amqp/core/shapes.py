"""Shapes: what values of a type are made of, as far as storing them is concerned."""

from __future__ import annotations

import dataclasses
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel

SCALARS: Final[tuple[type, ...]] = (
    bool, int, float, str, bytes, datetime, date, time, timedelta, UUID, Decimal, NoneType,
)  # fmt: skip
"""Types whose values are plain data already."""


@dataclasses.dataclass(eq=False, slots=True)
class Shape:
    """One node of an annotation.

    Attributes:
        kind: ``scalar``, ``path``, ``literal``, ``enum``, ``list``, ``set``, ``frozenset``, ``sequence``, ``tuple``,
            ``dict``, ``record``, ``union``, ``any`` or ``opaque`` (pydantic carries it, its plain form is not known).
        annotation: What was written.
        runtime: The class a value of this shape has at run time; `object` where there is none.
        items: Shapes of the elements, of a dict's key and value, or of a union's members.
        fields: Of a record or a named tuple: shape and whether it is required.
        choices: Values of a literal or an enum.
        is_fixed: A tuple with one shape per position.
    """

    kind: str
    annotation: Any
    runtime: type
    items: tuple[Shape, ...] = ()
    fields: dict[str, tuple[Shape, bool]] = dataclasses.field(default_factory=dict[str, tuple["Shape", bool]])
    choices: tuple[Any, ...] = ()
    is_fixed: bool = False

    def walk(self) -> list[Shape]:
        """Return this shape and everything below it, each once, recursive types included."""
        seen: dict[int, Shape] = {}
        todo: list[Shape] = [self]
        while todo:
            shape = todo.pop()
            if id(shape) not in seen:
                seen[id(shape)] = shape
                todo.extend(shape.items)
                todo.extend(inner for inner, _ in shape.fields.values())
        return list(seen.values())

    @property
    def is_pure(self) -> bool:
        """Whether every value is its own plain form, so that decoding by type cannot go astray."""
        return all(
            s.kind in {"scalar", "literal", "list", "set", "frozenset", "sequence", "dict", "union", "any"}
            or (s.kind == "tuple" and s.runtime is tuple)
            for s in self.walk()
        )


def record_classes(shape: Shape) -> tuple[type, ...]:
    """Return the classes below a shape whose subclasses could slip in and lose their own fields."""
    found = {s.runtime: None for s in shape.walk() if s.kind in {"record", "opaque"} and s.runtime is not dict}
    return tuple(found)


def contains_any(shape: Shape) -> bool:
    """Say whether some part of the annotation accepts everything."""
    return any(s.kind == "any" for s in shape.walk())


def has_typed_dict(shape: Shape) -> bool:
    """Say whether there is a TypedDict in it, which drops the keys that it does not declare."""
    return any(s.kind == "record" and s.runtime is dict for s in shape.walk())


def needs_flattening(shape: Shape) -> bool:
    """Say whether values of a shape are dumped with something in them that is not plain yet: enum members, paths."""
    return any(s.kind in {"enum", "path", "opaque", "any"} for s in shape.walk())


_BARE: Final = frozenset({"scalar", "literal", "list", "dict", "record", "union"})
_BARE_SCALARS: Final = frozenset({bool, int, float, str, bytes, NoneType})


def is_bare(shape: Shape) -> bool:
    """Say whether the plain form of every value is of None, bool, int, float, str, bytes, lists and dicts alone.

    What is decoded of it is then made anew throughout, out of what any encoding brings back as it was.
    """
    return all(
        s.kind in _BARE
        and (s.kind != "scalar" or s.runtime in _BARE_SCALARS)
        and all(type(choice) in _BARE_SCALARS for choice in s.choices)
        for s in shape.walk()
    )


def has_aliases(shape: Shape) -> bool:
    """Say whether a model below has fields that are validated under another name than their own."""
    models = [s.runtime for s in shape.walk() if issubclass(s.runtime, BaseModel)]
    return any(f.validation_alias is not None or f.alias is not None for m in models for f in m.model_fields.values())
