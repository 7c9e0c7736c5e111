"""Dataclasses of the hot path behave as those of the standard library, but for what only a type checker would stop."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.core.changes import Count
from floxide_amqp.core.fast_dataclasses import copier, dataclass, maker, replace
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


def test_a_copier_sets_what_it_is_given_and_what_its_defaults_say_and_keeps_the_rest() -> None:
    @copier(Point)
    def at_origin(point: Point, *, names: tuple[str, ...], x: int = 0, y: int = 0) -> Point:
        raise NotImplementedError

    point = Point(x=1, y=2, names=("a",), notes=["kept"])
    moved = at_origin(point, names=("b",), y=7)
    assert moved == Point(x=0, y=7, names=("b",), notes=["kept"])
    assert moved.notes is point.notes
    assert (point.x, point.names) == (1, ("a",))


def test_a_copier_of_a_field_that_is_not_there_is_refused_where_it_is_made() -> None:
    def with_z(point: Point, *, z: int) -> Point:
        raise NotImplementedError

    with pytest.raises(TypeError, match="Point has no field 'z'"):
        copier(Point)(with_z)


make_point = maker(Point)


@given(
    st.fixed_dictionaries(
        {"x": st.integers()},
        optional={"y": st.integers(), "names": st.tuples(st.text()), "notes": st.lists(st.text(), max_size=1)},
    )
)
def test_a_maker_makes_the_records_that_their_class_makes(given_fields: dict[str, Any]) -> None:
    made, expected = make_point(**given_fields), Point(**given_fields)
    assert type(made) is Point
    assert dataclasses.astuple(made) == dataclasses.astuple(expected)


def test_records_of_a_maker_do_not_share_what_is_made_for_each() -> None:
    first, second = make_point(x=1), make_point(x=1)
    first.notes.append("of the first")
    assert second.notes == []


@pytest.mark.parametrize("wrong", [{}, {"x": 1, "z": 2}])
def test_a_maker_refuses_what_its_class_refuses(wrong: dict[str, Any]) -> None:
    for make in (Point, make_point):
        with pytest.raises(TypeError):
            make(**wrong)


def test_a_maker_takes_by_position_what_its_class_does() -> None:
    make_count = maker(Count)
    assert make_count("live", 2) == make_count("live", amount=2) == Count("live", 2)
    with pytest.raises(TypeError):
        make_point(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


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
