"""What payload types look like, written down, so that another version of a program can compare its own with it.

A `ShapeTable` is a list of entries that name each other by number, so that recursive types end. It is made of plain
data, kept with the description of a workflow's version, and says nothing of any value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, cast

from pydantic import BaseModel

from floxide_amqp.core.payload_shapes import describe, unwrap
from floxide_amqp.core.shapes import Shape

MAX_DEPTH: Final = 60
"""Nested types that are compared; what lies deeper is taken as it is."""


TYPED_DICT: Final = "typed dict"
"""Kind of a record whose fields may be absent."""

NAMED: Final = frozenset({"record", TYPED_DICT, "tuple", "enum", "opaque"})
"""Kinds whose values mean something by their name: one that another type of the same union reads is another value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeEntry:
    """One type.

    Attributes:
        kind: As of `Shape`, or `TYPED_DICT`.
        name: How errors print it; for a scalar its class.
        items: Elements, key and value, or members, by number.
        fields: Of a record or a named tuple: number and whether it is needed.
        choices: Of an enum or a literal.
        is_fixed: A tuple with one type per position.
        is_closed: A record that refuses fields it does not know.
    """

    kind: str
    name: str
    items: tuple[int, ...] = ()
    fields: Mapping[str, tuple[int, bool]] = field(default_factory=dict[str, tuple[int, bool]])
    choices: tuple[str, ...] = ()
    is_fixed: bool = False
    is_closed: bool = False


class ShapeTable:
    """Types by number.

    Args:
        entries: Those there are.
    """

    def __init__(self, entries: Sequence[ShapeEntry] = ()) -> None:
        self.entries: list[ShapeEntry] = list(entries)
        self._numbers: dict[int, int] = {}
        self._kept: list[Shape] = []

    def add(self, shape: Shape) -> int:
        """Return the number of a type, added with all it is made of unless it is there."""
        known = self._numbers.get(id(shape))
        if known is not None:
            return known
        number = len(self.entries)
        self._numbers[id(shape)] = number
        self._kept.append(shape)  # or another one could have its id
        self.entries.append(ShapeEntry(kind=shape.kind, name=""))
        self.entries[number] = ShapeEntry(
            kind=TYPED_DICT if shape.kind == "record" and shape.runtime is dict else shape.kind,
            name=describe(unwrap(shape.annotation)),
            items=tuple([self.add(item) for item in shape.items]),
            fields={name: (self.add(inner), needed) for name, (inner, needed) in shape.fields.items()},
            choices=tuple(sorted(repr(c.value if isinstance(c, Enum) else c) for c in shape.choices)),
            is_fixed=shape.is_fixed,
            is_closed=_is_closed(shape),
        )
        return number

    def to_plain(self) -> list[dict[str, Any]]:
        """Return it as plain data."""
        return [dataclasses.asdict(entry) for entry in self.entries]

    @classmethod
    def from_plain(cls, plain: Sequence[Mapping[str, Any]]) -> ShapeTable:
        """Return the table that `to_plain` gave."""
        return cls([
            ShapeEntry(
                kind=one["kind"], name=one["name"], items=tuple(one["items"]), choices=tuple(one["choices"]),
                fields={name: (number, needed) for name, (number, needed) in one["fields"].items()},
                is_fixed=one["is_fixed"], is_closed=one["is_closed"],
            )
            for one in plain
        ])  # fmt: skip


def _is_closed(shape: Shape) -> bool:
    """Whether a record says that it forbids fields it does not know."""
    owner: Any = shape.runtime
    config: Any = getattr(owner, "model_config" if issubclass(owner, BaseModel) else "__pydantic_config__", None)
    return (
        shape.kind == "record" and isinstance(config, dict) and cast("dict[str, Any]", config).get("extra") == "forbid"
    )


class Reading:
    """Compares what one program writes with what another one reads.

    Args:
        written: The types of the one that writes.
        read: The types of the one that reads.
        keeps_all: Whether it counts as a problem that a field is read by nobody any more.
    """

    def __init__(self, written: ShapeTable, read: ShapeTable, *, keeps_all: bool) -> None:
        self._written = written.entries
        self._read = read.entries
        self._keeps_all = keeps_all
        self._known: dict[tuple[int, int], str | None] = {}
        self._lenient: Reading | None = None if keeps_all else self

    def problem(self, written: int, read: int) -> str | None:
        """Return why values of one type cannot be read as the other; None where they can."""
        return self._problem(written, read, 0)

    def _problem(self, written: int, read: int, depth: int) -> str | None:
        pair = (written, read)
        if pair not in self._known:
            self._known[pair] = None  # while it is compared: a recursive type agrees as far as the rest of it does
            self._known[pair] = None if depth > MAX_DEPTH else self._compare(written, read, depth + 1)
        return self._known[pair]

    def _compare(self, written: int, read: int, depth: int) -> str | None:
        a, b = self._written[written], self._read[read]
        if b.kind == "any":
            return None
        if a.kind == "union" or b.kind == "union":
            return self._members(written, read, depth)
        if a.kind != b.kind:
            return f"it was {a.name}, and is {b.name}"
        match a.kind:
            case "scalar" | "path" | "opaque":
                return None if a.name == b.name or (a.name, b.name) == ("int", "float") else _changed(a, b)
            case "enum" | "literal":
                gone = sorted(set(a.choices) - set(b.choices))
                return f"{b.name} has no {', '.join(gone)} any more" if gone else None
            case "record" | "typed dict":
                return self._fields(a, b, depth)
            case "tuple":
                return self._fields(a, b, depth) if a.fields or b.fields else self._items(a, b, depth)
            case _:
                return self._items(a, b, depth)

    def _members(self, written: int, read: int, depth: int) -> str | None:
        a, b = self._written[written], self._read[read]
        members = a.items if a.kind == "union" else (written,)
        readers = b.items if b.kind == "union" else (read,)
        taken = {self._written[member].name for member in members}
        for member in members:
            entry = self._written[member]
            named = [one for one in readers if self._read[one].name == entry.name]
            fitting = named or [one for one in readers if self._fits(member, one)]
            problems = [self._problem(member, one, depth) for one in fitting or readers]
            if None not in problems:
                is_gone = b.kind == "union" and not any(self._read[one].kind == entry.kind for one in readers)
                return f"{b.name} has no {entry.name} any more" if is_gone else f"{entry.name}: {problems[0]}"
            if named:
                continue
            if len(fitting) > 1:
                names = " as well as ".join(self._read[one].name for one in fitting[:2])
                return f"{b.name} has no {entry.name} any more, and {names} would read it"
            if entry.kind in NAMED and self._read[fitting[0]].name in taken:
                return f"{b.name} has no {entry.name} any more, and would read it as {self._read[fitting[0]].name}"
        return None

    def _fits(self, written: int, read: int) -> bool:
        """Whether values of a member that has no reader of its name would be taken for another's: fields may lack."""
        if self._lenient is None:
            self._lenient = Reading(ShapeTable(self._written), ShapeTable(self._read), keeps_all=False)
        return self._lenient.problem(written, read) is None

    def _items(self, a: ShapeEntry, b: ShapeEntry, depth: int) -> str | None:
        if (a.is_fixed or b.is_fixed) and (a.is_fixed, len(a.items)) != (b.is_fixed, len(b.items)):
            return _changed(a, b)
        for mine, other in zip(a.items, b.items, strict=False):
            problem = self._problem(mine, other, depth)
            if problem is not None:
                return f"of {b.name}: {problem}"
        return None

    def _fields(self, a: ShapeEntry, b: ShapeEntry, depth: int) -> str | None:
        for name, (number, needed) in b.fields.items():
            there = a.fields.get(name)
            if needed and (there is None or (a.kind == TYPED_DICT and not there[1])):
                return f"{b.name} needs {name!r}, which {'was not' if there is None else 'need not have been'} there"
            if there is None:
                continue
            problem = self._problem(there[0], number, depth)
            if problem is not None:
                return f"{b.name}.{name}: {problem}"
        gone = [name for name in a.fields if name not in b.fields]
        if gone and (self._keeps_all or b.is_closed or b.kind == "tuple"):
            return f"{b.name} has no {', '.join(map(repr, gone))} any more"
        return None


def _changed(a: ShapeEntry, b: ShapeEntry) -> str:
    return f"it was {a.name}, and is {b.name}"
