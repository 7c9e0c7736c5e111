"""Stored payloads and deltas of any bytes: a value of the type, or one kind of error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.core.payload import PayloadType
from floxide_amqp.exceptions import CodecError
from floxide_amqp.stores.encoding import decode_payload, encode_payload, pack, unpack
from tests.fuzz.hostile import FEW, damaged, hostile, raises_nothing_but, values
from tests.unit.core.data.test_payload_properties import typed_values

seeds = st.integers(0, 2**32)


@pytest.mark.fault(35)
@FEW
@given(typed_values, st.data())
def test_hostile_bytes_give_a_value_of_the_declared_type_or_a_codec_error(
    typed: tuple[Any, Any], data: st.DataObject
) -> None:
    carried = PayloadType.of(typed[0], where="a test")
    body = data.draw(hostile(st.just(encode_payload(carried, typed[1]))))
    value = raises_nothing_but(CodecError, lambda: decode_payload(carried, body))
    if value is not None:
        carried.member_of(value)


@FEW
@given(st.one_of(hostile(st.builds(pack, st.lists(st.tuples(st.integers(), st.sets(st.integers()))))), st.binary()))
def test_hostile_bytes_are_plain_data_that_can_be_packed_again_or_a_codec_error(body: bytes) -> None:
    value = raises_nothing_but(CodecError, lambda: unpack(body))
    if value is not None:
        unpack(raises_nothing_but(CodecError, lambda: pack(value)) or pack(None))


@FEW
@given(typed_values, seeds, values)
def test_the_tag_of_a_payload_may_be_anything(typed: tuple[Any, Any], seed: int, tag: Any) -> None:
    carried = PayloadType.of(typed[0], where="a test")
    plain = carried.dump(typed[1])[1]
    for wrong in (tag, str(tag), carried.members[0].tag[: seed % 9]):
        body = raises_nothing_but(CodecError, lambda wrong=wrong: pack([wrong, plain]))
        if body is not None:
            raises_nothing_but(CodecError, lambda body=body: decode_payload(carried, body))
            raises_nothing_but(CodecError, lambda body=body: decode_payload(carried, damaged(body, seed)))
