"""Which nodes of two versions of a workflow agree, and why the others do not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, NamedTuple

import pytest
from typing_extensions import TypedDict

from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.shape_tables import Reading, ShapeTable
from floxide_amqp.core.versions import is_newer


class Two(Enum):
    A = "a"
    B = "b"


class Three(Enum):
    A = "a"
    B = "b"
    C = "c"


@dataclass
class Old:
    a: int
    next: Old | None = None


@dataclass
class Longer:
    a: int
    next: Longer | None = None
    b: str = ""


@dataclass
class Needy:
    a: int
    c: str


@dataclass
class Text:
    a: str


@dataclass
class Approved:
    note: str


@dataclass
class Accepted:
    note: str


@dataclass
class AcceptedBy:
    note: str
    by: str


@dataclass
class Rejected:
    note: str


@dataclass
class Counted:
    number: int


class Pair(NamedTuple):
    a: int
    b: int


class Typed(TypedDict, total=False):
    a: int


class Whole(TypedDict):
    a: int


def problem(written: Any, read: Any, *, keeps_all: bool = False) -> str | None:
    one, other = ShapeTable(), ShapeTable()
    first = one.add(PayloadType.of(written, where="it").shape)
    second = other.add(PayloadType.of(read, where="it").shape)
    stored = ShapeTable.from_plain(one.to_plain())
    return Reading(stored, other, keeps_all=keeps_all).problem(first, second)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (Old, Longer), (Longer, Old), (Two, Three), (int, float), (list[Old], list[Longer]), (int, int | str),
        (Literal["a"], Literal["a", "b"]), (dict[str, int], dict[str, float]), (Whole, Typed), (Old, Old),
        (Literal["a"] | None, Literal["a", "b"] | None), (int | str, float | str), (int | None, float | None),
        (Approved | Counted, Accepted | Counted), (Approved | Rejected, Rejected | Approved | Counted),
        (list[Old] | None, list[Longer] | None),
    ],
)  # fmt: skip
def test_what_is_written_is_read(written: Any, read: Any) -> None:
    assert problem(written, read) is None


@pytest.mark.parametrize(
    ("written", "read", "why"),
    [
        (Old, Needy, "Needy needs 'c', which was not there"),
        (Old, Text, "Text.a: it was int, and is str"),
        (Three, Two, "Two has no 'c' any more"),
        (int | str, int, "str: it was str, and is int"),
        (Typed, Whole, "Whole needs 'a', which need not have been there"),
        (tuple[int, int], tuple[int], "it was tuple[int, int], and is tuple[int]"),
        (list[Old], list[Needy], "of list[Needy]: Needy needs 'c', which was not there"),
        (Old, int, "it was Old, and is int"),
        (Counted | Approved, Approved, "Counted: Approved needs 'note', which was not there"),
        (Approved | Counted, Counted | None, "Approved: Counted needs 'number', which was not there"),
    ],
)
def test_what_is_not_read_is_named(written: Any, read: Any, why: str) -> None:
    assert problem(written, read) == why


@pytest.mark.parametrize("keeps_all", [True, False])
@pytest.mark.parametrize(
    ("written", "read"),
    [
        (Approved | Rejected, Accepted | Rejected),
        (Approved | Rejected, AcceptedBy | Rejected),
        (AcceptedBy | Rejected, Accepted | Rejected),
        (Approved | Rejected, Rejected),
        (Approved, Accepted | Rejected),
    ],
)
def test_a_member_of_a_union_that_has_another_name_is_never_read_as_its_twin(
    written: Any, read: Any, *, keeps_all: bool
) -> None:
    assert problem(written, read, keeps_all=keeps_all) is not None


def test_a_field_that_is_gone_is_a_problem_only_for_who_keeps_all() -> None:
    assert problem(Longer, Old) is None
    assert problem(Longer, Old, keeps_all=True) == "Old has no 'b' any more"


@pytest.mark.parametrize(
    ("older", "newer"), [("1", "2"), ("9", "10"), ("1.9", "1.10"), ("1.10", "2"), ("2026-07", "2026-11"), ("1", "1.1")]
)
def test_versions_are_ordered_by_their_numbers(older: str, newer: str) -> None:
    assert is_newer(newer, older)
    assert not is_newer(older, newer)
    assert not is_newer(newer, newer)
