"""What may be an attribute of a run, and which of them are equal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from enum import Enum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.core.attributes import (
    MAX_ATTRIBUTES,
    AttributeValue,
    checked_attribute,
    checked_attributes,
    equals,
    lookup_text,
    merged_attributes,
)
from floxide_amqp.exceptions import CodecError, InvalidAttributeError
from floxide_amqp.stores.attributes import decode_attributes, encode_attributes

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=200)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
instants = st.datetimes(timezones=st.just(UTC) | st.just(timezone(timedelta(hours=-7))))
values: st.SearchStrategy[AttributeValue] = texts | numbers | st.booleans() | instants
names = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")


@given(st.dictionaries(names, values, max_size=5))
def test_attributes_survive_the_way_to_the_store_with_their_types(given_: dict[str, AttributeValue]) -> None:
    checked = checked_attributes(given_)
    found = decode_attributes(encode_attributes(checked))
    assert found == checked
    assert [type(value) for value in found.values()] == [type(value) for value in checked.values()]
    assert checked_attributes(found) == found


@given(numbers | st.booleans(), numbers | st.booleans())
def test_numbers_are_found_by_what_python_calls_equal_but_no_bool_is_a_number(
    one: AttributeValue, other: AttributeValue
) -> None:
    same = isinstance(one, bool) == isinstance(other, bool) and one == other
    assert equals(checked_attribute("n", one), checked_attribute("n", other)) is same


def test_an_instant_is_the_same_in_every_time_zone() -> None:
    here = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert equals(checked_attribute("at", here), checked_attribute("at", datetime(2026, 7, 1, 10, tzinfo=UTC)))


@given(st.lists(values, max_size=6))
def test_two_values_share_a_list_of_runs_only_where_they_are_equal(given_: list[AttributeValue]) -> None:
    checked = [checked_attribute("n", value) for value in given_]
    for one in checked:
        for other in checked:
            both = {type(one), type(other)}
            comparable = len(both) == 1 or both == {int, float}
            assert (lookup_text(one) == lookup_text(other)) is (comparable and one == other)


class Region(StrEnum):
    EAST = "east"


class OldRegion(str, Enum):  # noqa: UP042 - as people wrote them
    EAST = "east"


def test_a_member_of_an_enumeration_of_texts_is_its_text() -> None:
    for given_ in (Region.EAST, OldRegion.EAST):
        value = checked_attribute("region", given_)
        assert type(value) is str
        assert value == "east"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("", "x", "letters, digits"),
        ("a" * 65, "x", "letters, digits"),
        ("a:b", "x", "letters, digits"),
        ("-a", "x", "letters, digits"),
        ("ü", "x", "letters, digits"),
        ("a\n", "x", "letters, digits"),
        (7, "x", "letters, digits"),
        ("a", "x" * 201, "200 characters"),
        ("a", "two\nlines", "control characters"),
        ("a", "\0", "control characters"),
        ("a", "\ud800", "lone surrogates"),
        ("a", 2**63, "64 bits"),
        ("a", float("nan"), "no number"),
        ("a", float("inf"), "no number"),
        ("a", datetime(2026, 7, 1), "time zone"),  # noqa: DTZ001 - what is refused
        ("a", None, "NoneType is none of"),
        ("a", b"x", "bytes is none of"),
        ("a", ["x"], "list is none of"),
    ],
)
def test_what_cannot_be_an_attribute_is_refused_with_its_name_and_why(name: Any, value: Any, problem: str) -> None:
    with pytest.raises(InvalidAttributeError, match=problem) as caught:
        checked_attributes({name: value})
    assert caught.value.name == str(name)[:64]


def test_a_run_has_at_most_32_attributes_also_where_they_come_one_by_one() -> None:
    full = {f"a{n}": n for n in range(MAX_ATTRIBUTES)}
    assert checked_attributes(full) == full
    with pytest.raises(InvalidAttributeError, match="at most 32"):
        checked_attributes({**full, "more": 1})
    with pytest.raises(InvalidAttributeError, match="at most 32"):
        merged_attributes(full, {"more": 1})
    assert len(merged_attributes(full, {"a0": None, "more": 1})) == MAX_ATTRIBUTES


@pytest.mark.parametrize(
    "attributes",
    [
        [("a", "s", 1)], [("a", "i", "x")], [("a", "b", 1)], [("a", "t", "x")], [("a", "t", 2**62)], [("a", "?", "x")],
        [("a:b", "s", "x")], [("a", "s")], ["a"], "a", 7, [("a", "f", float("nan"))], [("a", "s", "x" * 201)],
    ],
)  # fmt: skip
def test_bytes_that_are_no_attributes_are_refused(attributes: Any) -> None:
    import msgpack

    with pytest.raises(CodecError):
        decode_attributes(msgpack.packb((1, attributes)))
