"""What the next step of a process is given without decoding is what decoding would have given it, and nobody else's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PrivateAttr, RootModel, field_validator
from typing_extensions import TypedDict

from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.payload_members import Member
from floxide_amqp.core.plain import flatten, is_same_plain
from floxide_amqp.exceptions import CodecError
from floxide_amqp.stores.encoding import decode_payload, encode_checked, encode_payload, pack
from floxide_amqp.stores.fresh import NOTHING, Fresh


class Text(str):
    __slots__ = ()


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


class Line(BaseModel):
    article: str
    price: float = Field(ge=0)
    tags: list[str] = []


class Rounded(BaseModel):
    amount: float
    _seen: list[float] = PrivateAttr(default_factory=list[float])

    @field_validator("amount")
    @classmethod
    def rounded(cls, amount: float) -> float:
        return round(amount, 2) if math.isfinite(amount) else amount


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"
    amount: int


class Card(BaseModel):
    kind: Literal["card"] = "card"
    amount: int
    number: str = ""


class Row(TypedDict, total=False):
    x: int
    lines: list[Line]


@dataclass
class Basket:
    owner: str
    lines: list[Line]
    paid: Cash | Card | None = None
    by_place: dict[int, dict[str, bool]] = field(default_factory=dict[int, dict[str, bool]])
    raw: bytes = b""
    rows: list[Row] = field(default_factory=list[Row])


class Order(BaseModel):
    number: int
    basket: Basket
    rounded: Rounded
    note: str | None
    ratio: int | float


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    card: str = "none"


class Shouted(BaseModel):
    level: Annotated[int, PlainSerializer(Level)] = 1


class Names(RootModel[list[str]]):
    pass


class Point(NamedTuple):
    x: int


texts = st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), st.builds(Text, st.just("odd")))
integers = st.one_of(st.integers(-(2**70), 2**70), st.booleans(), st.just(Level.LOW))
floats = st.one_of(st.floats(), st.integers(-5, 5))
lines = st.builds(
    Line.model_construct, article=texts, price=st.floats(0, 1e9), tags=st.lists(st.one_of(texts, st.just(Word.YES)))
)
payments = st.one_of(st.builds(Cash, amount=st.integers()), st.builds(Card, amount=st.integers(), number=texts))
rows = st.fixed_dictionaries({}, optional={"x": integers, "lines": st.lists(lines, max_size=2)})
baskets = st.builds(
    Basket, texts, st.lists(lines, max_size=2), st.none() | payments,
    st.dictionaries(st.integers(), st.dictionaries(texts, st.booleans(), max_size=2), max_size=2),
    st.binary(max_size=4), st.lists(rows, max_size=2),
)  # fmt: skip
orders = st.builds(
    Order.model_construct, number=integers, basket=baskets, rounded=st.builds(Rounded, amount=st.floats()),
    note=st.none() | texts, ratio=floats,
)  # fmt: skip
typed_values: st.SearchStrategy[tuple[Any, Any]] = st.one_of(
    st.tuples(st.just(int), integers),
    st.tuples(st.just(float), floats),
    st.tuples(st.just(str), texts),
    st.tuples(st.just(bytes), st.binary(max_size=4)),
    st.tuples(st.just(None), st.none()),
    st.tuples(st.just(list[int | None]), st.lists(st.none() | integers, max_size=3)),
    st.tuples(st.just(dict[str, list[Line]]), st.dictionaries(texts, st.lists(lines, max_size=2), max_size=2)),
    st.tuples(st.just(Literal["a", 1]), st.sampled_from(["a", 1])),
    st.tuples(st.just(Row), rows),
    st.tuples(st.just(Basket), baskets),
    st.tuples(st.just(Order), orders),
    st.tuples(st.just(Cash | Card | Order | None), st.one_of(payments, orders, st.none())),
)


def kind_of(annotation: Any) -> PayloadType:
    return PayloadType.of(annotation, where="a test")


def as_tree(value: Any) -> object:
    """A value with the class of everything in it, floats by their text."""
    kind = type(value)
    if isinstance(value, BaseModel):
        private = value.__pydantic_private__
        return kind, as_tree(value.__dict__), sorted(value.model_fields_set), value.model_extra, as_tree(private)
    if is_dataclass(value):
        return kind, [(each.name, as_tree(getattr(value, each.name))) for each in fields(value)]
    if isinstance(value, dict):
        return kind, [(as_tree(key), as_tree(inner)) for key, inner in value.items()]
    if isinstance(value, list | tuple):
        return kind, [as_tree(inner) for inner in value]
    return kind, repr(value)


def changeable(value: Any) -> Iterator[int]:
    """The identities of all in a value that somebody could change."""
    if isinstance(value, BaseModel):
        yield id(value)
        yield from changeable(value.__dict__)
        yield from changeable(value.__pydantic_private__)
    elif is_dataclass(value) and not isinstance(value, type):
        yield id(value)
        for each in fields(value):
            yield from changeable(getattr(value, each.name))
    elif isinstance(value, dict | list):
        yield id(value)
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from changeable(inner)


@given(typed_values)
def test_what_checking_a_value_gives_is_what_decoding_its_bytes_gives(typed: tuple[Any, Any]) -> None:
    kind, value = kind_of(typed[0]), typed[1]
    try:
        data, checked = encode_checked(kind, value)
    except CodecError:  # beside a TypedDict, members of enums are refused where no enum is declared
        return
    assert data == encode_payload(kind, value)
    if checked is not NOTHING:
        assert as_tree(checked) == as_tree(decode_payload(kind, data))
        assert not {*changeable(checked)} & {*changeable(value)}


@given(typed_values)
def test_a_payload_has_the_bytes_of_its_flattened_form_and_needs_no_flattening(typed: tuple[Any, Any]) -> None:
    member = kind_of(typed[0]).member_of(typed[1])
    assert member.is_bare
    try:
        plain = member.dump(typed[1])
    except CodecError:
        return
    assert pack(plain) == pack(flatten(plain))


@pytest.mark.parametrize("value", [1, 2.5, "text", b"raw", None, [1, 2], Order.model_construct(
    number=1, basket=Basket("me", [Line(article="a", price=1)], Cash(amount=1)), rounded=Rounded(amount=1), note=None,
    ratio=1,
)])  # fmt: skip
def test_values_of_plain_and_of_modelled_types_are_handed_on(value: Any) -> None:
    kind = kind_of(list[int] if isinstance(value, list) else type(value))
    assert encode_checked(kind, value)[1] == value


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Any, [1]),
        (dict[str, Any], {"a": [1]}),
        (Loose, Loose.model_validate({"card": "a", "more": [1]})),
        (Shouted, Shouted()),
        (Names, Names(["a"])),
        (Point, Point(1)),
        (tuple[int, ...], (1,)),
        (set[int], {1}),
        (Sequence[int], [1]),
        (Sequence[int], (1,)),
        (datetime, datetime(2020, 1, 1, tzinfo=UTC)),
        (Word, Word.YES),
        (str, Text("a")),
        (int, Level.LOW),
        (int, 2**70),
    ],
    ids=repr,
)
def test_values_of_which_more_than_their_bytes_may_be_left_are_decoded(annotation: Any, value: Any) -> None:
    assert encode_checked(kind_of(annotation), value)[1] is NOTHING


@pytest.mark.parametrize(("value", "plain"), [
    (Loose.model_validate({"card": "a", "word": Word.YES, "text": Text("b")}),
     {"card": "a", "word": "yes", "text": "b"}),
    (Shouted(), {"level": 1}),
])  # fmt: skip
def test_what_no_annotation_tells_of_is_flattened(value: BaseModel, plain: object) -> None:
    member = kind_of(type(value)).member_of(value)
    assert isinstance(member, Member)
    assert is_same_plain(member.dump(value), plain)


def test_a_fresh_payload_gives_its_value_once_and_then_values_of_their_own() -> None:
    kind = kind_of(Line)
    data, checked = encode_checked(kind, Line(article="a", price=1, tags=["x"]))
    fresh = Fresh(data)
    fresh.hold(kind, checked)
    first, second, third = (decode_payload(kind, fresh) for _ in range(3))
    assert first is checked
    assert first == second == third
    assert len({id(first), id(second), id(third)}) == 3


def test_a_fresh_payload_gives_its_value_to_nobody_who_reads_it_as_another_type() -> None:
    kind, other = kind_of(Line), kind_of(Line | None)
    data, checked = encode_checked(kind, Line(article="a", price=1))
    fresh = Fresh(data)
    fresh.hold(kind, checked)
    assert decode_payload(other, fresh) == checked
    assert decode_payload(other, fresh) is not checked
    assert decode_payload(kind, fresh) is checked


def test_a_fresh_payload_is_the_same_bytes() -> None:
    data = pack(["int", 1])
    assert Fresh(data) == data
    assert decode_payload(kind_of(int), Fresh(data)) == 1
