"""Dataclasses of the hot path behave as those of the standard library, but for what only a type checker would stop."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from floxide_amqp.core.changes import Count
from floxide_amqp.core.fast_dataclasses import dataclass, replace
from floxide_amqp.core.records import Routed


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    x: int
    y: int = 0
    names: tuple[str, ...] = ()
    notes: list[str] = dataclasses.field(default_factory=list[str], compare=False)


def test_equal_fields_make_equal_records_with_equal_hashes() -> None:
    assert Point(x=1, names=("a",)) == Point(x=1, y=0, names=("a",), notes=["not compared"])
    assert len({Point(x=1), Point(x=1), Point(x=2)}) == 2


def test_a_copy_has_the_changed_fields_and_keeps_the_others() -> None:
    point = Point(x=1, y=2, names=("a",))
    moved = replace(point, x=5)
    assert (moved, point) == (Point(x=5, y=2, names=("a",)), Point(x=1, y=2, names=("a",)))
    assert moved.notes is point.notes


def test_a_copy_with_a_field_that_is_not_there_is_refused() -> None:
    changes: dict[str, Any] = {"z": 1}
    with pytest.raises(TypeError, match="Point has no field 'z'"):
        replace(Point(x=1), **changes)


def test_dataclasses_of_the_standard_library_are_copied_too() -> None:
    @dataclasses.dataclass(frozen=True)
    class Other:
        a: int

    assert replace(Other(1), a=2) == Other(2)


def test_records_match_by_position_and_name() -> None:
    match Count("live", 2):
        case Count(name, amount):
            assert (name, amount) == ("live", 2)
    assert dataclasses.asdict(Routed(edge="e", payload=b"p", suffix=(1,))) == {
        "edge": "e", "payload": b"p", "suffix": (1,)
    }  # fmt: skip
    assert not hasattr(Count("live", 1), "__dict__")
