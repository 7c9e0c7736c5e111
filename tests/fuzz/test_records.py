"""Whatever bytes lie in the store or come from a queue, a decoder returns a sound record or raises a `CodecError`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.core.ids import RunId
from floxide_amqp.core.moments import Moment, MomentKind
from floxide_amqp.core.records import Mail
from floxide_amqp.core.schedules import Occasion, Overlap, PlannedRun, RunTemplate, ScheduleSpec, ScheduleState, Settled
from floxide_amqp.exceptions import CodecError
from floxide_amqp.runtime import messages
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.attributes import decode_attributes, encode_attributes
from floxide_amqp.stores.context_records import decode_segment, decode_snapshot, encode_segment, encode_snapshot
from floxide_amqp.stores.dead_letters import decode_letter
from floxide_amqp.stores.moments import decode_moment, encode_moment
from floxide_amqp.stores.schedules import decode_progress, decode_spec, encode_progress, encode_spec
from tests.fuzz.hostile import FEW, hostile, raises_nothing_but
from tests.unit.stores.test_record_codec import ROUND_TRIPS, ids, texts_and_numbers

controls = st.builds(
    messages.ControlMessage, kind=st.sampled_from(messages.ControlKind), runs=st.lists(ids, max_size=3).map(tuple)
)
events = st.builds(messages.RunNews, runs=st.lists(ids).map(tuple), status=st.sampled_from(messages.RunStatus))


def scheduled(of: tuple[int, str]) -> ScheduleState:
    number, run_id = of[0], RunId(of[1])
    planned = PlannedRun(run_id=run_id, at_ms=number, cancels=(run_id,))
    settled = Settled(occasion=Occasion.MISSED, at_ms=number, settled_at_ms=number)
    return ScheduleState(
        number=number, starting=(planned,), queue=(planned,), open_runs=(run_id,), recent=(settled,) * number
    )


def schedule(at_ms: int) -> ScheduleSpec:
    template = RunTemplate(
        workflow="w", version="1", start="s", queue="q", timeout_ms=None, input=b"x", context=b"y", hook=b"z"
    )
    return ScheduleSpec(
        name="n", template=template, every_ms=at_ms, cron="", timezone="UTC", jitter_ms=0, overlap=Overlap.SKIP,
        catch_up_ms=1, digest="d", created_at_ms=at_ms,
    )  # fmt: skip


SMALL = [
    (texts_and_numbers(), lambda v: codec.encode_delta(v[0], v[0].encode()), codec.decode_delta),
    (st.integers(0, 2**40), lambda v: encode_snapshot(v, b"x", 2, {"log": v}), decode_snapshot),
    (texts_and_numbers(), lambda v: encode_segment(*v, b"x"), decode_segment),
    (st.sampled_from(codec.TimerKind), lambda v: codec.encode_timer_value(v, 3), codec.decode_timer_value),
    (st.integers(0, 99), lambda v: codec.encode_set_aside(b"x", v, "because"), codec.decode_set_aside),
    (texts_and_numbers(), lambda v: codec.encode_message_note(v[0], v[0], v[1], "p"), codec.decode_message_note),
    (st.integers(0, 99), lambda v: codec.encode_signal_mark(f"digest {v}", b"token"), codec.decode_signal_mark),
    (
        st.builds(Mail, signal_id=st.text(), name=st.text(), payload=st.binary(), sent_at_ms=st.integers(0, 2**40)),
        codec.encode_mail,
        codec.decode_mail,
    ),
    (st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)), encode_attributes, decode_attributes),
    (st.builds(Moment, kind=st.sampled_from(MomentKind), at_ms=st.integers(0, 99)), encode_moment, decode_moment),
    (st.tuples(st.integers(0, 99), ids).map(scheduled), encode_progress, decode_progress),
    (st.integers(0, 2**40).map(schedule), encode_spec, decode_spec),
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
