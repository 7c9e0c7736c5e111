"""Every supported type, as properties: dump, pack, unpack and load give back what was there."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter
from typing_extensions import TypedDict

from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.plain import is_same_plain
from floxide_amqp.exceptions import CodecError
from floxide_amqp.stores.encoding import decode_payload, encode_payload

T = TypeVar("T")


class Colour(Enum):
    RED = 1
    BLUE = "b"


@dataclass(frozen=True, slots=True)
class Approved:
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Rejected:
    by: str
    at: datetime


@dataclass
class Box(Generic[T]):
    content: T
    labels: list[str] = field(default_factory=list)


class Point(NamedTuple):
    x: float
    colour: Colour


class Row(TypedDict, total=False):
    x: int
    owner: Approved


class Circle(BaseModel):
    kind: Literal["circle"] = "circle"
    radius: Decimal


class Square(BaseModel):
    kind: Literal["square"] = "square"
    side: Decimal


@dataclass
class Drawing:
    shapes: list[Circle | Square]
    by_name: dict[str, Point]
    seen: set[tuple[int, str]]
    owner: Approved | None
    size: tuple[int, int] | None
    extra: dict[str, Any]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
finite = st.floats(allow_nan=False)
decimals = st.decimals(allow_nan=False, allow_infinity=False)
moments = st.datetimes(timezones=st.sampled_from([None, UTC]))
approvals = st.builds(Approved, texts, moments)
rejections = st.builds(Rejected, texts, moments)
points = st.builds(Point, finite, st.sampled_from(Colour))
shapes = st.one_of(st.builds(Circle, radius=decimals), st.builds(Square, side=decimals))
free_form = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), finite, texts, moments, st.uuids()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3), st.tuples(inner)),
    max_leaves=5,
)
drawings = st.builds(
    Drawing,
    st.lists(shapes, max_size=3),
    st.dictionaries(texts, points, max_size=2),
    st.sets(st.tuples(st.integers(), texts), max_size=3),
    st.none() | approvals,
    st.none() | st.tuples(st.integers(), st.integers()),
    st.dictionaries(texts, free_form, max_size=2),
)
rows = st.fixed_dictionaries({}, optional={"x": st.integers(), "owner": approvals})

typed_values: st.SearchStrategy[tuple[Any, Any]] = st.one_of(
    st.tuples(st.just(bool), st.booleans()),
    st.tuples(st.just(int), st.integers()),
    st.tuples(st.just(int), st.integers(-(2**200), 2**200)),
    st.tuples(st.just(float), finite),
    st.tuples(st.just(str), texts),
    st.tuples(st.just(bytes), st.binary(max_size=8)),
    st.tuples(st.just(None), st.none()),
    st.tuples(st.just(datetime), st.datetimes(timezones=st.none() | st.timezones())),
    st.tuples(st.just(date), st.dates()),
    st.tuples(st.just(time), st.times()),
    st.tuples(st.just(timedelta), st.timedeltas()),
    st.tuples(st.just(UUID), st.uuids()),
    st.tuples(st.just(Decimal), decimals),
    st.tuples(st.just(Colour), st.sampled_from(Colour)),
    st.tuples(st.just(Literal["a", 1, True]), st.sampled_from(["a", 1, True])),
    st.tuples(st.just(PurePosixPath), texts.map(lambda t: PurePosixPath("/", t.replace("\0", "")))),
    st.tuples(st.just(Approved), approvals),
    st.tuples(st.just(Box[int]), st.builds(Box, st.integers(), st.lists(texts))),
    st.tuples(st.just(Box[Approved | None]), st.builds(Box, st.none() | approvals)),
    st.tuples(st.just(Point), points),
    st.tuples(st.just(Row), rows),
    st.tuples(st.just(Circle), st.builds(Circle, radius=decimals)),
    st.tuples(st.just(Drawing), drawings),
    st.tuples(st.just(list[Drawing]), st.lists(drawings, max_size=2)),
    st.tuples(st.just(set[int]), st.sets(st.integers())),
    st.tuples(st.just(frozenset[str]), st.frozensets(texts)),
    st.tuples(st.just(tuple[int, ...]), st.lists(st.integers()).map(tuple)),
    st.tuples(st.just(tuple[str, Colour]), st.tuples(texts, st.sampled_from(Colour))),
    st.tuples(st.just(dict[UUID, tuple[date, ...]]), st.dictionaries(st.uuids(), st.lists(st.dates()).map(tuple))),
    st.tuples(st.just(dict[str, Any]), st.dictionaries(texts, free_form, max_size=3)),
    st.tuples(st.just(Approved | Rejected), st.one_of(approvals, rejections)),
    st.tuples(st.just(Rejected | Approved | Colour | str | int | None),
              st.one_of(approvals, rejections, st.sampled_from(Colour), texts, st.integers(), st.none())),
    st.tuples(st.just(Circle | Square), shapes),
    st.tuples(st.just(int | float | Decimal | bool), st.one_of(st.integers(), finite, decimals, st.booleans())),
    st.tuples(st.just(list[int | float | Decimal | str | None]),
              st.lists(st.one_of(st.integers(), finite, decimals, texts, st.none()))),
    st.tuples(st.just(date | datetime | time), st.one_of(st.dates(), moments, st.times())),
    st.tuples(st.just(list[date | datetime | UUID | bytes]),
              st.lists(st.one_of(st.dates(), moments, st.uuids(), st.binary(max_size=16)))),
)  # fmt: skip


@given(typed_values)
def test_a_value_of_any_supported_type_comes_back_equal_and_of_its_own_class(typed: tuple[Any, Any]) -> None:
    annotation, value = typed
    carried = PayloadType.of(annotation, where="a test")
    back = decode_payload(carried, encode_payload(carried, value))
    assert type(back) is type(value)
    assert back == value


@given(typed_values)
def test_loading_and_dumping_settles_at_once(typed: tuple[Any, Any]) -> None:
    annotation, value = typed
    carried = PayloadType.of(annotation, where="a test")
    tag, once = carried.dump(carried.load(*carried.dump(value)))
    again_tag, again = carried.dump(carried.load(tag, once))
    assert again_tag == tag
    assert is_same_plain(again, once)


@given(typed_values, typed_values)
def test_a_value_of_another_type_is_carried_unchanged_or_refused(
    typed: tuple[Any, Any], other: tuple[Any, Any]
) -> None:
    carried = PayloadType.of(typed[0], where="a test")
    try:
        data = encode_payload(carried, other[1])
    except CodecError:
        return
    assert decode_payload(carried, data) == other[1]


@given(typed_values, free_form)
def test_stored_data_of_any_kind_gives_a_value_of_the_type_or_a_codec_error(
    typed: tuple[Any, Any], plain: object
) -> None:
    carried = PayloadType.of(typed[0], where="a test")
    for tag in (carried.members[0].tag, "unknown"):
        try:
            value = carried.load(tag, plain)
        except CodecError:
            continue
        carried.member_of(value)


scalars = st.one_of(
    st.booleans(), st.integers(-(2**70), 2**70), st.floats(), texts, st.binary(max_size=8), st.none(), st.dates(),
    st.datetimes(timezones=st.none() | st.timezones()), st.times(), st.timedeltas(), st.uuids(), decimals,
)  # fmt: skip


@given(scalars)
def test_a_scalar_of_its_own_class_is_what_pydantic_dumps_it_as(value: object) -> None:
    member = PayloadType.of(type(value), where="a test").member_of(value)
    assert is_same_plain(member.dump(value), TypeAdapter(type(value)).dump_python(value, warnings="error"))
