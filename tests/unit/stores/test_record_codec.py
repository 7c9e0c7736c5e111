"""Records survive the way to bytes and back; bytes that are something else are refused with one kind of error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.core.failure import ErrorInfo, FailureInfo
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import WorkItemId
from floxide_amqp.core.kin import ChildRecord, OnClose, ParentLink
from floxide_amqp.core.letters import Letter
from floxide_amqp.core.log_records import ErrorRecord, HistoryEntry
from floxide_amqp.core.message_records import Envelope, Probe
from floxide_amqp.core.records import ItemInput, Mail, Routed, RunFailure, RunHeader, RunState, Scope, WorkItem
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind
from floxide_amqp.core.worker_records import WorkerRecord
from floxide_amqp.exceptions import CodecError
from floxide_amqp.stores import keys
from floxide_amqp.stores import record_codec as codec
from floxide_amqp.stores.children import decode_child, encode_child
from floxide_amqp.stores.letters import decode_letter as letter_of
from floxide_amqp.stores.letters import encode_letter

text = st.text(max_size=8)
ids = st.text(min_size=1, max_size=8)
whole = st.integers(0, 2**40)
words = st.tuples(ids, ids)
errors = st.builds(ErrorInfo, kinds=words, message=text, traceback=text)
failures = st.none() | st.builds(FailureInfo, node=text, error_type=text, message=text, attempts=whole)
inputs = st.builds(ItemInput, payload=st.binary(max_size=8), opener=text)
items = st.builds(
    WorkItem, item_id=ids, node=text, queue=text, input=inputs,
    scope=words, order=st.tuples(whole, whole), parent=text, attempt=whole, owner=text, deaths=whole,
    loops=st.tuples(st.tuples(text, whole)), failure=failures, due_ms=whole, successors=words, kept=st.none() | ids,
    token=st.binary(max_size=16), note=text,
)  # fmt: skip
states = st.builds(
    RunState, updated_at_ms=whole, finished_at_ms=st.none() | whole, reason=text,
    failure=st.none() | st.builds(RunFailure, node=text, item_id=ids, error=errors, attempts=whole),
)  # fmt: skip
envelopes = st.builds(
    Envelope, run_id=ids, item_id=ids, node=text, workflow=text, version=text, queue=text, turn=whole, scope=words,
    position=st.none() | whole, entry=text, recovered=st.booleans(), trace=text,
)  # fmt: skip
workers = st.builds(
    WorkerRecord, worker_id=ids, beat=whole, at_ms=whole, started_at_ms=whole, host=text, boot=text, pid=whole,
    process_started=text, status=text, queues=words, workflows=words, concurrency=whole, current_items=words,
    items_done=whole, errors=whole,
)  # fmt: skip
headers = st.builds(
    RunHeader, run_id=ids, workflow=text, version=text, input=st.binary(), input_digest=text, context=st.binary(),
    created_at_ms=whole, deadline_ms=st.none() | whole, reply_to=text, start_item=ids,
    parent=st.none() | st.builds(ParentLink, run_id=ids, item_id=ids),
)  # fmt: skip
children = st.builds(
    ChildRecord, run_id=ids, workflow=text, version=text, item_id=ids, node=text, attempt=whole, turn=whole,
    epoch=whole, started_at_ms=whole, ended_at_ms=whole, is_closing=st.booleans(), output=st.binary(max_size=8),
    error=st.none() | errors, failed_node=text, reason=text,
    status=st.none() | st.sampled_from((RunStatus.COMPLETED, RunStatus.FAILED)), on_close=st.sampled_from(OnClose),
)  # fmt: skip
letters = st.builds(
    Letter, letter_id=st.just("letter"), kind=text, to_run=ids, from_run=ids, posted_at_ms=whole,
    body=st.binary(max_size=8), payload=st.binary(max_size=8),
)  # fmt: skip


def decode_letter(data: bytes) -> Letter:
    return letter_of("letter", data)


pages = st.lists(st.builds(Routed, edge=text, payload=st.binary(max_size=4), suffix=st.tuples(whole))).map(tuple)

ROUND_TRIPS: list[tuple[st.SearchStrategy[Any], Callable[[Any], bytes], Callable[[bytes], Any]]] = [
    (headers, codec.encode_header, codec.decode_header),
    (states, codec.encode_state, codec.decode_state),
    (items, codec.encode_item, codec.decode_item),
    (st.builds(Scope, scope_id=ids, parent=words, then=items), codec.encode_scope, codec.decode_scope),
    (pages, codec.encode_page, codec.decode_page),
    (children, encode_child, decode_child),
    (letters, encode_letter, decode_letter),
    (
        st.builds(ErrorRecord, item_id=ids, node=text, attempt=whole, at_ms=whole, error=errors, worker=text,
                  will_retry=st.booleans()),
        codec.encode_error,
        codec.decode_error,
    ),
    (
        st.builds(HistoryEntry, item_id=ids, node=text, attempts=whole, ended_at_ms=whole, duration_us=whole,
                  worker=text, parent=text),
        codec.encode_history,
        codec.decode_history,
    ),
    (workers, codec.encode_worker, codec.decode_worker),
    (envelopes, codec.encode_envelope, codec.decode_message),
    (st.builds(Probe, queue=text, number=whole, before=text), codec.encode_probe, codec.decode_message),
]  # fmt: skip


BARE_ITEM = WorkItem(item_id=WorkItemId("i"), node="n", queue="q", status=WorkItemStatus.PENDING, input=ItemInput())


def packed(values: list[Any]) -> bytes:
    data: Any = msgpack.packb(values)
    return bytes(data)


def texts_and_numbers() -> st.SearchStrategy[tuple[str, int]]:
    """Pairs for encoders that take fields one by one."""
    return st.tuples(ids, whole)


DECODERS = [getattr(codec, name) for name in dir(codec) if name.startswith("decode_")]

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=True) | text | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(text, inner, max_size=3),
    max_leaves=30,
)


@given(st.data())
def test_every_record_survives_the_way_to_bytes_and_back(data: st.DataObject) -> None:
    strategy, encode, decode = data.draw(st.sampled_from(ROUND_TRIPS))
    record = data.draw(strategy)
    assert decode(encode(record)) == record


full_items = st.builds(
    WorkItem, item_id=ids, node=text, queue=text, input=inputs, status=st.sampled_from(WorkItemStatus), owner=text,
    scope=words, order=st.tuples(whole, whole), parent=text, attempt=whole, anchored=st.booleans(), deaths=whole,
    loops=st.tuples(st.tuples(text, whole)), failure=failures, due_ms=whole, successors=words, kept=st.none() | ids,
    token=st.binary(max_size=16), note=text, spared=st.booleans(), lost=whole, parked_ms=whole, waits_for=text,
    begun=st.booleans(), given=st.none() | st.binary(max_size=8), timed_out=st.booleans(), ticket=text,
    mail=st.none() | st.builds(Mail, signal_id=ids, name=text, payload=st.binary(max_size=8), sent_at_ms=whole),
)  # fmt: skip
ADDED_LATER = ("parked_ms", "waits_for", "begun", "given", "mail", "timed_out", "ticket")


@given(full_items, st.integers(0, len(ADDED_LATER)))
def test_an_item_without_the_fields_that_were_added_later_has_their_defaults(item: WorkItem, missing: int) -> None:
    values = msgpack.unpackb(codec.encode_item(item))
    older = codec.decode_item(packed(values[: len(values) - missing]))
    absent = {name: getattr(BARE_ITEM, name) for name in ADDED_LATER[len(ADDED_LATER) - missing :]}
    assert older == replace(item, **absent)


@given(full_items, st.lists(whole | text, min_size=1, max_size=3))
def test_fields_of_an_item_that_a_newer_release_added_are_of_no_account(item: WorkItem, added: list[Any]) -> None:
    assert codec.decode_item(packed([*msgpack.unpackb(codec.encode_item(item)), *added])) == item


def test_a_value_that_cannot_be_packed_leaves_nothing_behind_for_the_next_record() -> None:
    item = replace(BARE_ITEM, note="whole")
    before = codec.encode_item(item)
    with pytest.raises(CodecError, match="cannot be packed"):
        codec.encode_item(replace(item, ticket="\ud800"))
    assert codec.encode_item(item) == before


def test_after_a_very_large_record_small_ones_are_as_they_were() -> None:
    before = codec.encode_item(BARE_ITEM)
    large = replace(BARE_ITEM, input=ItemInput(payload=bytes(2 * 1024 * 1024)))
    assert codec.decode_item(codec.encode_item(large)) == large
    assert codec.encode_item(BARE_ITEM) == before


@given(st.binary(max_size=64))
def test_arbitrary_bytes_are_refused(body: bytes) -> None:
    for decode in DECODERS:
        with pytest.raises(CodecError):
            decode(body)


@given(st.lists(plain, max_size=20))
def test_well_formed_bytes_of_another_shape_are_refused_or_read_but_never_another_error(values: list[Any]) -> None:
    for head in (1, 2, "work", True):
        body = msgpack.packb([head, *values])
        for decode in DECODERS:
            try:
                decode(body)
            except CodecError:
                continue


@given(envelopes, st.integers(0, 12), plain)
def test_a_message_with_one_field_changed_is_refused_or_still_an_envelope(
    envelope: Envelope, field: int, value: Any
) -> None:
    values = list(msgpack.unpackb(codec.encode_envelope(envelope), use_list=False))
    values[field] = value
    try:
        codec.decode_message(packed(values))
    except CodecError:
        return


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x90" * 100_000,
        b"\x91" * 60_000,
        b"\x93\x01" + b"\x91" * 900 + b"\x00\x02",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        msgpack.packb([1, "work"]),
        msgpack.packb([1, "probe", "q", "number", "before"]),
        msgpack.packb([1, {"a": 1}, 2, 3]),
    ],
)
def test_hostile_messages_are_refused_at_once(body: bytes) -> None:
    with pytest.raises(CodecError):
        codec.decode_message(body)


@given(st.integers(0, 10**13), ids, st.sampled_from(TimerKind), whole)
def test_timers_of_one_item_have_an_entry_each_and_sort_by_time(
    due: int, item: str, kind: TimerKind, turn: int
) -> None:
    entries = [
        keys.timer_entry(Timer(due_ms=at, run_id="run", item_id=item, kind=kind, turn=t))  # type: ignore[arg-type]
        for at, t in ((due, turn), (due, turn + 1), (due + 1, 0))
    ]
    assert len(set(entries)) == 3
    assert max(entries[:2]) < entries[2]
    assert max(entries[:2]) < keys.timers_until(due)
    assert codec.decode_timer_value(codec.encode_timer_value(kind, turn, "a1")) == (kind, turn, "a1")
