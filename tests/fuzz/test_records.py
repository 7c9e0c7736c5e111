"""Whatever bytes lie in the store or come from a queue, a decoder returns a sound record or raises a `CodecError`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.exceptions import CodecError
from floxide_amqp.runtime import messages
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.dead_letters import decode_letter
from tests.fuzz.hostile import FEW, hostile, raises_nothing_but
from tests.unit.stores.test_record_codec import ROUND_TRIPS, ids, texts_and_numbers

controls = st.builds(
    messages.ControlMessage, kind=st.sampled_from(messages.ControlKind), runs=st.lists(ids, max_size=3).map(tuple)
)
events = st.builds(messages.RunEvent, run_id=ids, status=st.sampled_from(messages.RunStatus))

SMALL = [
    (texts_and_numbers(), lambda v: codec.encode_delta(v[0], v[0].encode()), codec.decode_delta),
    (st.integers(0, 2**40), lambda v: codec.encode_snapshot(v, b"x"), codec.decode_snapshot),
    (st.sampled_from(codec.TimerKind), lambda v: codec.encode_timer_value(v, 3), codec.decode_timer_value),
    (st.integers(0, 99), lambda v: codec.encode_set_aside(b"x", v, "because"), codec.decode_set_aside),
    (texts_and_numbers(), lambda v: codec.encode_message_note(v[0], v[0], v[1], "p"), codec.decode_message_note),
    (controls, messages.encode_control, messages.decode_control),
    (events, messages.encode_event, messages.decode_event),
]
EVERY: list[tuple[st.SearchStrategy[Any], Callable[[Any], bytes], Callable[[bytes], Any]]] = [*ROUND_TRIPS, *SMALL]
NAMES = [decode.__name__ for _, _, decode in EVERY]


@pytest.mark.fault(35)
@pytest.mark.parametrize(("records", "encode", "decode"), EVERY, ids=NAMES)
@FEW
@given(data=st.data())
def test_a_decoder_refuses_hostile_bytes_or_returns_what_can_be_stored_again(
    records: st.SearchStrategy[Any],
    encode: Callable[[Any], bytes],
    decode: Callable[[bytes], Any],
    data: st.DataObject,
) -> None:
    body = data.draw(hostile(records.map(encode)))
    found = raises_nothing_but(CodecError, lambda: decode(body))
    if found is not None and encode in {each[1] for each in ROUND_TRIPS}:
        again = codec.encode_probe if isinstance(found, codec.Probe) else encode
        again = codec.encode_envelope if isinstance(found, codec.Envelope) else again
        assert decode(again(found)) == found


@FEW
@given(hostile(st.just(b"\x91\x01")))
def test_a_dead_letter_that_is_none_is_refused(body: bytes) -> None:
    raises_nothing_but(CodecError, lambda: decode_letter(body))
