from __future__ import annotations

import collections
import enum
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, datetime
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    Never,
    NewType,
    NotRequired,
    Optional,
    Protocol,
    TypeVar,
    Union,
)

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from typing_extensions import TypeAliasType, TypedDict

from floxide_amqp.core.type_args import (
    arguments_for,
    free_type_vars,
    make_union,
    plain_type,
    runtime_class,
    substitute,
    union_members,
)
from floxide_amqp.core.type_names import describe_both, describe_type
from floxide_amqp.core.typing_rules import assignable, covers

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)
Number = TypeVar("Number", bound=int)
Text = TypeVar("Text", str, bytes)


class Animal: ...


class Dog(Animal): ...


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


@dataclass(frozen=True)
class Box(Generic[T]):
    value: T


@dataclass(frozen=True)
class Source(Generic[T_co]):
    value: T_co


class Sink(Generic[T_contra]): ...


class IntBox(Box[int]): ...


class Point(NamedTuple):
    x: int
    y: str


class Movie(TypedDict):
    title: str


class LongMovie(Movie):
    minutes: int


class LooseMovie(TypedDict):
    title: NotRequired[str]


class Model(BaseModel, Generic[T]):
    value: T


class Named(Protocol):
    name: str

    def greet(self) -> str: ...


class Greets(Protocol):
    def greet(self) -> str: ...


@dataclass
class Shouty:
    name: str = ""

    def greet(self) -> str:
        return self.name.upper()


class Greeter:
    name = "x"

    def greet(self) -> str:
        return self.name


UserId = NewType("UserId", int)
Alias = TypeAliasType("Alias", int | str)
ListOf = TypeAliasType("ListOf", list[T], type_params=(T,))

YES: list[tuple[object, object]] = [
    (int, int),
    (int, object),
    (int, Any),
    (Any, int),
    (bool, int),
    (int, float),
    (int, complex),
    (bool, float),
    (Dog, Animal),
    (Never, int),
    (None, None),
    (None, type(None)),
    (None, Optional[int]),  # noqa: UP045  # the other spelling
    (int, int | None),
    (int | str, str | int),
    (int | str, Union[int, str, None]),  # noqa: UP007  # the other spelling
    (bool | str, int | str),
    (Annotated[int, "note"], int),
    (int, Annotated[int, "note"]),
    (Alias, int | str),
    (int, Alias),
    (ListOf[int], list[int]),
    (Literal["a"], str),
    (Literal["a"], Literal["a", "b"]),
    (Literal["a", 1], str | int),
    (Literal[Color.RED], Color),
    (Color, Literal[Color.RED, Color.BLUE]),
    (bool, Literal[True, False]),
    (Level, int),
    (UserId, int),
    (UserId, UserId),
    (list[int], list[int]),
    (list, list[int]),
    (list[int], list),
    (list[int], Sequence[int]),
    (list[Dog], Sequence[Animal]),
    (list[int], Sequence[float]),
    (list[int], Iterable[object]),
    (list[Any], list[int]),
    (tuple[int, str], tuple[int, str]),
    (tuple[int, ...], tuple[float, ...]),
    (tuple[int, int], tuple[int, ...]),
    (tuple[int, str], Sequence[int | str]),
    (tuple[()], tuple[int, ...]),
    (Point, tuple[int, str]),
    (Point, tuple[Any, ...]),
    (str, Sequence[str]),
    (bytes, Sequence[int]),
    (dict[str, int], Mapping[str, int]),
    (dict[str, Dog], Mapping[str, Animal]),
    (dict[str, int], Iterable[str]),
    (set[int], AbstractSet[float]),
    (frozenset[Dog], frozenset[Animal]),
    (Box[int], Box[int]),
    (Box, Box[int]),
    (IntBox, Box[int]),
    (Source[Dog], Source[Animal]),
    (Sink[Animal], Sink[Dog]),
    (LongMovie, Movie),
    (Model[int], Model[int]),
    (Model[int], BaseModel),
    (Greeter, Named),
    (datetime, date),
    (type[Dog], type[Animal]),
    (int, Number),
    (Number, int),
    (Text, str | bytes),
    (bytearray, Sequence[int]),
    (typing.LiteralString, str),
    (Callable[[int], str], Callable[[int], str]),
    (tuple, tuple[int, int]),
    (Named, Greets),
    (type(Shouty()), Named),
    (collections.deque[int], collections.deque[int]),
    (collections.UserList, Sequence[int]),
]
NO: list[tuple[object, object]] = [
    (str, int),
    (object, int),
    (float, int),
    (Animal, Dog),
    (int, None),
    (int | None, int),
    (int | str, int),
    (str, Literal["a"]),
    (Literal["c"], Literal["a", "b"]),
    (Literal[1], Literal[True]),
    (Color, Literal[Color.RED]),
    (int, UserId),
    (list[int], list[str]),
    (list[Dog], list[Animal]),
    (list[int], list[float]),
    (Sequence[int], list[int]),
    (tuple[int, str], tuple[int, int]),
    (tuple[int], tuple[int, int]),
    (tuple[int, ...], tuple[int, int]),
    (tuple[int, str], Sequence[int]),
    (Point, tuple[int, int]),
    (str, Sequence[int]),
    (dict[str, int], Mapping[int, int]),
    (dict[str, Dog], dict[str, Animal]),
    (dict[str, int], Iterable[int]),
    (set[int], frozenset[int]),
    (Box[int], Box[str]),
    (IntBox, Box[str]),
    (Source[Animal], Source[Dog]),
    (Sink[Dog], Sink[Animal]),
    (Movie, LongMovie),
    (Movie, LooseMovie),
    (dict[str, str], Movie),
    (Model[int], Model[str]),
    (Animal, Named),
    (date, datetime),
    (str, Number),
    (int, Text),
    (Animal, Movie),
    (collections.deque[int], collections.deque[str]),
]


@pytest.mark.parametrize(("source", "target"), YES, ids=lambda t: describe_type(t))
def test_a_value_may_go_where_its_type_is_taken(source: object, target: object) -> None:
    assert assignable(source, target)


@pytest.mark.parametrize(("source", "target"), NO, ids=lambda t: describe_type(t))
def test_a_value_may_not_go_where_another_type_is_taken(source: object, target: object) -> None:
    assert not assignable(source, target)


TYPES = st.recursive(
    st.sampled_from([int, str, bool, float, None, Animal, Dog, Color, Any, object, UserId, Literal["a"]]),
    lambda inner: st.one_of(
        st.builds(lambda a: list[a], inner),  # type: ignore[valid-type]
        st.builds(lambda a: Sequence[a], inner),  # type: ignore[valid-type]
        st.builds(lambda a, b: dict[str, a] | b, inner, inner),  # type: ignore[valid-type]
        st.builds(lambda a, b: tuple[a, b], inner, inner),  # type: ignore[valid-type]
        st.builds(lambda a, b: make_union([a, b]), inner, inner),
    ),
    max_leaves=6,
)


@given(TYPES)
def test_every_type_takes_itself_and_fits_object(annotation: object) -> None:
    assert assignable(annotation, annotation)
    assert assignable(annotation, object)


@given(TYPES, TYPES)
def test_a_union_takes_what_its_members_take(first: object, second: object) -> None:
    union = make_union([first, second])
    assert assignable(first, union)
    assert assignable(second, union)


@given(TYPES, TYPES, TYPES)
def test_a_union_fits_exactly_where_each_member_fits(first: object, second: object, target: object) -> None:
    union = make_union([first, second])
    assert assignable(union, target) == (assignable(first, target) and assignable(second, target))


def test_an_int_is_no_float_where_members_are_told_apart() -> None:
    assert covers(float, float)
    assert not covers(float, int)
    assert covers(int, bool)


def test_nothing_but_any_covers_any() -> None:
    assert not covers(int, Any)
    assert covers(object, Any)
    assert covers(Any, object)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (None, "None"),
        (int | None, "int | None"),
        (list[int | str], "list[int | str]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (tuple[()], "tuple[()]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Literal[Color.RED], "Literal[Color.RED]"),
        (Annotated[int, "note"], "int"),
        (Box[int], "Box[int]"),
        (UserId, "UserId"),
        (Any, "Any"),
        (Never, "Never"),
        (T, "T"),
        ("Later", "Later"),
        (typing.ForwardRef("Later"), "Later"),
        (Callable[[int, str], bool], "Callable[[int, str], bool]"),
        (Alias, "Alias"),
        (typing.LiteralString, "LiteralString"),
    ],
)
def test_types_print_as_users_write_them(annotation: object, text: str) -> None:
    assert describe_type(annotation) == text


def test_namesakes_print_with_their_modules() -> None:
    other = type("Animal", (), {"__module__": "zoo"})
    first, second = describe_both(Animal, other)
    assert first.endswith("test_typing_rules.Animal")
    assert second == "zoo.Animal"
    assert describe_both(int, str) == ("int", "str")


def test_arguments_are_found_through_generic_bases() -> None:
    assert arguments_for(IntBox, Box) == (int,)
    assert arguments_for(Box[str], Box) == (str,)
    assert arguments_for(Box, Box) is None
    assert arguments_for(int, Box) is None


def test_unions_open_and_close() -> None:
    assert union_members(int | None) == (int, type(None))
    assert union_members(Alias) == (int, str)
    assert union_members(Never) == ()
    assert make_union([]) is Never
    assert make_union([int, int]) is int


def test_isinstance_can_ask_about_classes_alone() -> None:
    assert runtime_class(int) is int
    assert runtime_class(list[int]) is list
    assert runtime_class(Annotated[Dog, "note"]) is Dog
    assert runtime_class(None) is type(None)
    assert [runtime_class(form) for form in (UserId, Movie, Named, int | str, Literal["a"], T)] == [None] * 6


def test_parameters_of_aliases_and_open_types_are_seen() -> None:
    assert plain_type(ListOf[int]) == list[int]
    assert free_type_vars(dict[str, T]) == (T,)
    assert free_type_vars(T) == (T,)
    assert free_type_vars(int) == ()


def test_variables_are_replaced_wherever_they_stand() -> None:
    assert substitute(T, {T: int}) is int
    assert substitute(list[T] | None, {T: int}) == list[int] | None
    assert substitute(dict[str, Box[T]], {T: int}) == dict[str, Box[int]]
    assert substitute(list[T], {}) == list[T]
    assert substitute(int, {T: int}) is int
