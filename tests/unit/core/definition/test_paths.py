from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from floxide_amqp.core.conditions import Always, OnFailure, Otherwise, WhenMember, WhenTrue, WhenType
from floxide_amqp.core.entering import fan_out, gather, repeat
from floxide_amqp.core.function_node import node
from floxide_amqp.core.path import Path
from floxide_amqp.exceptions import DefinitionError


class Color(Enum):
    RED = 1


@node
async def a(value: int) -> int:
    return value


@node
async def b(value: int) -> int:
    return value


@node
async def c(value: int) -> int:
    return value


@node
async def join(values: list[int]) -> int:
    return sum(values)


def links(path: Path[Any, Any]) -> list[str]:
    return [f"{link.source.spell()}>{link.target.node.name}" for link in path.connections().links]


def is_odd(value: int) -> bool:
    return value % 2 == 1


async def is_odd_soon(value: int) -> bool:
    return value % 2 == 1


def test_a_chain_links_each_node_to_the_next() -> None:
    assert links(a >> b >> c) == ["a>b", "b>c"]
    assert links(a >> (b >> c)) == ["b>c", "a>b"]


def test_a_tuple_links_to_each_and_goes_on_from_each() -> None:
    assert links(a >> (b, c) >> a) == ["a>b", "a>c", "b>a", "c>a"]


def test_tuples_may_nest_and_hold_paths() -> None:
    assert links(a >> (b >> c, (a, c))) == ["b>c", "a>b", "a>a", "a>c"]


def test_fan_out_is_a_tuple_for_generated_paths() -> None:
    assert links(a >> fan_out(n for n in (b, c))) == ["a>b", "a>c"]


def test_a_path_never_changes_when_it_is_used_again() -> None:
    start = a >> b
    first, second = start >> c, start >> a
    assert links(first) == ["a>b", "b>c"]
    assert links(second) == ["a>b", "b>a"]
    assert links(start) == ["a>b"]


def test_a_path_used_on_both_sides_is_told_once() -> None:
    shared = a >> b
    path: Path[Any, Any] = shared
    for _ in range(60):  # 2**60 links if shared parts were told again
        path = fan_out([path, path])
    assert links(path) == ["a>b"]


@pytest.mark.parametrize(
    ("path", "condition"),
    [
        (a, Always()),
        (a.when(int), WhenType(int)),
        (a.when(None), WhenType(None)),
        (a.when(list[int]), WhenType(list[int])),
        (a.when(int | str), WhenType(int | str)),  # type: ignore[call-overload]
        (a.when(Color.RED), WhenMember(Color.RED)),
        (a.when(is_odd), WhenTrue(is_odd)),
        (a.when(int, is_odd), WhenType(int, is_odd)),
        (a.when(Color.RED, is_odd), WhenMember(Color.RED, is_odd)),  # type: ignore[arg-type]
        (a.otherwise, Otherwise()),
        (a.on_failure, OnFailure()),
        (a.on_failure(ValueError, KeyError), OnFailure((ValueError, KeyError))),
    ],
)
def test_a_condition_is_kept_where_the_path_goes_on(path: Path[Any, Any], condition: object) -> None:
    assert [out.condition for out in path.connections().exits] == [condition]


def test_a_condition_after_a_tuple_is_one_for_each_branch() -> None:
    assert links((a >> (b, c)).when(is_odd) >> a) == ["a>b", "a>c", "b.when(is_odd)>a", "c.when(is_odd)>a"]


def test_gather_and_repeat_mark_how_a_node_is_entered() -> None:
    assert gather(join).connections().entries[0].is_gather
    assert repeat(a, max_iterations=3).connections().entries[0].max_iterations == 3
    assert repeat(a, max_iterations=3).connections().exits == ()


def test_a_path_shows_where_it_starts_and_ends() -> None:
    assert repr(a >> b.when(is_odd)) == "<Path a >> ... >> b.when(is_odd)>"
    assert repr(a >> repeat(b, max_iterations=2)) == "<Path a >> ... >> repeat>"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: a >> [b, c], "Parallel branches are written as a tuple, a >> (b, c), or as fan_out([...])"),
        (lambda: a >> (), "A tuple of parallel branches is empty: give at least one path."),
        (lambda: fan_out([]), "fan_out(...) is empty: give at least one path."),
        (lambda: a >> is_odd, "The function is_odd is not a node: put @node above it."),
        (lambda: a >> Color, "Color is a class: connect a node of it, such as Color(...)."),
        (lambda: a >> "b", "'b' cannot be connected with >>: it is neither a node nor a path."),
        (
            lambda: a.when(int).when(is_odd),
            "a.when(int).when(is_odd): a condition cannot follow another. Give .when a guard, or a predicate",
        ),
        (lambda: a.when(3), "a.when(...): 3 is neither a type, an enum member nor a function from a value"),
        (lambda: a.when(int, "x"), "a.when(..., guard): 'x' is neither a type, an enum member nor a function"),
        (
            lambda: a.when(is_odd, is_odd),
            "a.when(predicate, guard): a predicate takes no guard. Ask both in the predicate",
        ),
        (lambda: a.when(is_odd_soon), "a.when(...): is_odd_soon is async. Conditions are decided between steps"),
        (lambda: (a >> b).on_failure, ".on_failure belongs to a node, not to a path: write b.on_failure >> ..."),
        (lambda: gather(join).on_failure, ".on_failure belongs to a node, not to a path: write join.on_failure"),
        (lambda: a.on_failure(), "a.on_failure(): it takes exception classes, such as on_failure(ValueError)"),
        (lambda: a.on_failure(int), "a.on_failure(int): it takes exception classes"),
        (lambda: a.on_failure(KeyboardInterrupt), "a.on_failure(KeyboardInterrupt): it takes exception classes"),
        (lambda: gather((b, c)), "gather(...) takes one node that takes a list, such as gather(pack)."),
        (lambda: gather(gather(join)), "gather(...) takes one node"),
        (lambda: repeat(a >> b, max_iterations=2), "repeat(...) takes one node to go back to, such as repeat(draft"),
        (
            lambda: repeat(a, max_iterations=0),
            "repeat(a, max_iterations=0): the bound must be a whole number, 1 or more.",
        ),
        (lambda: repeat(a, max_iterations=True), "max_iterations=True): the bound must be a whole number"),
        (
            lambda: a >> repeat(b, max_iterations=2) >> c,
            (
                "a leads back with repeat(...), so nothing can follow it. Write the way out of the loop as a path of "
                "its own"
            ),
        ),
        (lambda: repeat(b, max_iterations=2).when(int), "b leads back with repeat(...), so it has no output to test."),
    ],
)
def test_a_path_that_makes_no_sense_is_an_error_with_the_cure(make: Any, sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        make()
    assert sentence in str(caught.value)
