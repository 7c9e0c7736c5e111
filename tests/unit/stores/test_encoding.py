"""Plain data survives the way to bytes and back; whatever bytes arrive, the worst that happens is a CodecError."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.plain import is_same_plain
from floxide_amqp.exceptions import CodecError
from floxide_amqp.stores import encoding
from floxide_amqp.stores.encoding import decode_payload, encode_payload, pack, unpack

BERLIN = ZoneInfo("Europe/Berlin")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
hashable_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts, st.binary(max_size=20), st.dates(),
    st.datetimes(), st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.timezones()), st.times(),
    st.timedeltas(), st.uuids(), st.decimals(allow_nan=False),
)  # fmt: skip
hashables = st.recursive(
    hashable_scalars,
    lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)),
    max_leaves=5,
)
plain_values = st.recursive(
    hashables,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(hashables, inner, max_size=4),
        st.tuples(inner, inner),
        st.sets(hashables, max_size=4),
    ),
    max_leaves=12,
)


@given(plain_values)
def test_plain_data_of_any_shape_comes_back_with_the_same_values_and_types(value: object) -> None:
    assert is_same_plain(unpack(pack(value)), value)


@given(
    st.one_of(st.binary(max_size=200), plain_values.map(pack).flatmap(lambda b: st.permutations(list(b)).map(bytes)))
)
def test_arbitrary_bytes_give_plain_data_or_a_codec_error_and_nothing_else(data: bytes) -> None:
    try:
        value = unpack(data)
    except CodecError:
        return
    assert type(value).__module__ not in {"msgpack", "msgpack.ext", encoding.__name__}


@given(plain_values.map(pack), st.data())
def test_truncated_bytes_are_refused(data: bytes, draw: st.DataObject) -> None:
    with pytest.raises(CodecError):
        unpack(data[: draw.draw(st.integers(0, len(data) - 1))])


@given(plain_values.map(pack), st.binary(min_size=1, max_size=5))
def test_bytes_left_over_are_refused(data: bytes, rest: bytes) -> None:
    with pytest.raises(CodecError, match="cannot be unpacked"):
        unpack(data + rest)


@pytest.mark.parametrize("zone", [None, UTC, BERLIN, timezone(timedelta(hours=-3, seconds=7))])
@pytest.mark.parametrize("fold", [0, 1])
def test_a_datetime_keeps_its_zone_and_its_fold(zone: Any, fold: int) -> None:
    moment = datetime(2020, 10, 25, 2, 30, tzinfo=zone, fold=fold)
    back = unpack(pack(moment))
    assert isinstance(back, datetime)
    assert (back, back.fold, back.utcoffset(), back.tzinfo) == (moment, fold, moment.utcoffset(), moment.tzinfo)


def test_a_time_zone_this_machine_does_not_know_becomes_its_offset() -> None:
    data = msgpack.packb(msgpack.ExtType(10, b"2020-10-25T02:30:00+01:00|1|Mars/Olympus"))
    back = unpack(data)
    assert isinstance(back, datetime)
    assert back.utcoffset() == timedelta(hours=1)


@pytest.mark.parametrize("members", [["a", "b", "c", "long"], [3, 1, 2], [(1, "a"), (0, "b")], [1, "a", None, 2.5]])
def test_equal_sets_give_equal_bytes_however_they_were_built(members: list[Any]) -> None:
    backwards = members[::-1]
    assert pack(set(members)) == pack(set(backwards))
    assert pack(frozenset(members)) == pack(frozenset(backwards))


def test_sets_of_sets_give_equal_bytes() -> None:
    assert pack({frozenset({1, 2}), frozenset({3})}) == pack({frozenset({3}), frozenset({2, 1})})


class Level(IntEnum):
    LOW = 1


class Colour(Enum):
    RED = "red"


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "expected"),
    [(Level.LOW, 1), (Colour.RED, "red"), (Text("a"), "a"), ({"k": Text("a")}, {"k": "a"})],
)
def test_subclasses_of_plain_types_are_packed_as_those(value: object, expected: object) -> None:
    assert is_same_plain(unpack(pack(value)), expected)


def test_a_subclass_of_datetime_is_packed_as_one() -> None:
    class Frozen(datetime):
        pass

    assert type(unpack(pack(Frozen(2020, 1, 1)))) is datetime


def hostile_list(elements: bytes, count: int) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + elements * count


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = wrap(())
    for _ in range(depth):
        value = wrap((value,))
    return value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x93\x01",
        b"\x81\x90\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xd4\x63\x00",
        b"\xc7\x0c\xff" + b"\xff" * 12,
        b"\xc7\x00\x01",
        b"\x92\x01\xc7\x00\x01",
        b"\x81\xa1a\xc7\x00\x02",
        b"\x92\xc7\x00\x02\x90",
        b"\xd4\x0a\x00",
        b"\xd4\x0c\x00",
        b"\xd4\x0d\x00",
        b"\xd4\x0e\x00",
        b"\xd4\x0f\x78",
    ],
    ids=lambda data: data.hex() or "empty",
)
def test_malformed_input_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        unpack(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * 1_000_000,
        b"\x92\xc7\x00\x01" * 250_000,
        hostile_list(b"\x90", 999_990),
        hostile_list(b"\x91\xc7\x00\x02", 249_999),
    ],
    ids=["nested lists", "nested tuples", "empty lists", "empty sets"],
)
def test_a_megabyte_made_to_fill_the_memory_takes_less_than_eighty(data: bytes) -> None:
    assert peak_of(lambda: unpack(data)) < 80 * 1024 * 1024


def test_a_stricter_limit_stops_a_hostile_input_early() -> None:
    data = hostile_list(b"\x90", 999_990)
    assert peak_of(lambda: unpack(data, max_containers=10_000)) < 10 * 1024 * 1024


def peak_of(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
    except CodecError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def test_more_bytes_than_the_limit_are_refused_unread() -> None:
    with pytest.raises(CodecError, match="11 bytes are to be unpacked, and at most 10 are accepted"):
        unpack(pack("x" * 10), max_bytes=10)


@pytest.mark.parametrize("value", [[[]] * 3, [{}] * 3, [()] * 3, ({1},)])
def test_more_containers_than_the_limit_are_refused(value: object) -> None:
    with pytest.raises(CodecError, match="more than 2 lists"):
        unpack(pack([value, value]), max_containers=2)


@pytest.mark.parametrize("wrap", [list, tuple], ids=["lists", "tuples"])
def test_what_is_nested_too_deeply_is_refused_when_it_is_packed(wrap: Callable[[Any], Any]) -> None:
    with pytest.raises(CodecError):
        pack(nested(1_100, wrap))


@pytest.mark.parametrize("depth", [900, 1_000, 1_015, 1_018, 1_019, 1_020, 1_021, 1_022, 1_023, 1_024, 1_030])
@pytest.mark.parametrize("wrap", [list, tuple], ids=["lists", "tuples"])
def test_whatever_depth_can_be_packed_can_be_unpacked(depth: int, wrap: Callable[[Any], Any]) -> None:
    try:
        data = pack(nested(depth, wrap))
    except CodecError:
        return
    unpack(data)


def test_what_has_more_containers_than_unpack_takes_is_refused_when_it_is_packed() -> None:
    with pytest.raises(CodecError, match="more than 1000000 lists"):
        pack([[]] * 1_000_001)


def test_what_is_larger_than_the_limit_is_refused_when_it_is_packed() -> None:
    with pytest.raises(CodecError, match="at most 33554432 are accepted"):
        pack(b"x" * (encoding.MAX_PACKED_BYTES + 1))


def test_a_list_that_holds_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(CodecError):
        pack(endless)


@pytest.mark.parametrize("value", [object(), [object()], {"a": object()}, "\ud800", len, 1j])
def test_what_is_not_plain_is_refused(value: object) -> None:
    with pytest.raises(CodecError):
        pack(value)


def test_a_refused_value_does_not_spoil_the_next_one() -> None:
    with pytest.raises(CodecError):
        pack(["left over", object()])
    assert unpack(pack("clean")) == "clean"


@pytest.mark.parametrize(
    "value",
    [2**63, 2**64, -(2**63) - 1, 2**4_000, -1, Decimal("1.50"), Decimal("-Infinity"), UUID(int=7), date.max, date.min,
     time(1, 2, 3, 4, fold=1), time(1, tzinfo=BERLIN), timedelta.max, timedelta.min, datetime.max, datetime.min],  # noqa: DTZ901  # naive is a value, too
)  # fmt: skip
def test_values_at_the_edges_come_back(value: object) -> None:
    assert is_same_plain(unpack(pack(value)), value)


@dataclass(frozen=True)
class Approved:
    by: str
    at: datetime


@dataclass(frozen=True)
class Rejected:
    by: str
    at: datetime


@pytest.mark.parametrize("kind", [Approved, Rejected])
def test_a_payload_of_a_union_comes_back_as_the_member_it_was(kind: type[Approved | Rejected]) -> None:
    decision = PayloadType.of(Approved | Rejected, where="a test")
    value = kind("me", datetime(2020, 1, 1, tzinfo=UTC))
    back = decode_payload(decision, encode_payload(decision, value))
    assert (type(back), back) == (kind, value)


@pytest.mark.parametrize("plain", [1, [], ["int"], ["int", 1, 2], [1, 1], {"int": 1}])
def test_bytes_without_tag_and_data_are_no_payload(plain: object) -> None:
    with pytest.raises(CodecError, match="A int was to be decoded, but the bytes hold no tag and data"):
        decode_payload(PayloadType.of(int, where="a test"), pack(plain))
