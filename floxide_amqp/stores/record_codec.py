"""Records as bytes: msgpack arrays, the fields in a fixed order, led by the format's number.

A field added later goes to the end and gets a default when an older record is read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs]  # it publishes none

from floxide_amqp.core.failure import ErrorInfo, FailureInfo
from floxide_amqp.core.records import (
    Envelope,
    ErrorRecord,
    HistoryEntry,
    InputKind,
    ItemInput,
    Probe,
    Routed,
    RunFailure,
    RunHeader,
    RunState,
    Scope,
    TimerKind,
    WorkerRecord,
    WorkItem,
)
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.exceptions import CodecError

FORMAT = 1
"""Number of this format, the first element of every record."""

MAX_ENVELOPE_BYTES = 64 * 1024
"""Largest message that is decoded at all: an envelope holds ids, not payloads."""

_msgpack: Any = msgpack

T = TypeVar("T")


def _pack(*values: Any) -> bytes:
    return cast("bytes", _msgpack.packb((FORMAT, *values)))


def _unpack(data: bytes, what: str, least: int) -> Sequence[Any]:
    try:
        values: Any = _msgpack.unpackb(data, use_list=False)
    except Exception as error:  # msgpack raises ValueError, TypeError, OverflowError and its own
        raise CodecError(f"This is not a {what}: {type(error).__name__} while decoding {len(data)} bytes.") from error
    if not isinstance(values, tuple):
        raise CodecError(f"This is not a {what} of format {FORMAT}.")
    found = cast("Sequence[Any]", values)
    if len(found) <= least or found[0] != FORMAT:
        raise CodecError(f"This is not a {what} of format {FORMAT}.")
    return found[1:]


def _refusing(decode: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """Make a decoder refuse well-formed bytes that are something else, whatever it stumbled over."""

    @functools.wraps(decode)
    def decoding(data: bytes) -> T:
        try:
            return decode(data)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            what = decode.__name__.removeprefix("decode_").replace("_", " ")
            raise CodecError(f"This is not a {what}: {type(error).__name__} in one of its fields.") from error

    return decoding


def _error_out(error: ErrorInfo) -> tuple[Any, ...]:
    return (error.kinds, error.message, error.traceback)


def _error_in(values: Any) -> ErrorInfo:
    return ErrorInfo(kinds=values[0], message=values[1], traceback=values[2])


def encode_header(header: RunHeader) -> bytes:
    """Encode a run's header."""
    return _pack(
        header.run_id, header.workflow, header.version, header.input, header.input_digest, header.context,
        header.created_at_ms, header.deadline_ms, header.reply_to, header.start_item,
    )  # fmt: skip


@_refusing
def decode_header(data: bytes) -> RunHeader:
    """Decode a run's header.

    Raises:
        CodecError: The bytes are none.
    """
    v = _unpack(data, "run header", 10)
    return RunHeader(
        run_id=v[0], workflow=v[1], version=v[2], input=v[3], input_digest=v[4], context=v[5], created_at_ms=v[6],
        deadline_ms=v[7], reply_to=v[8], start_item=v[9],
    )  # fmt: skip


def encode_state(state: RunState) -> bytes:
    """Encode a run's state."""
    failure = state.failure
    failed = None if failure is None else (failure.node, failure.item_id, _error_out(failure.error), failure.attempts)
    return _pack(
        state.status.value, state.updated_at_ms, state.finished_at_ms, failed, state.reason, state.deadline_ms
    )  # fmt: skip


@_refusing
def decode_state(data: bytes) -> RunState:
    """Decode a run's state.

    Raises:
        CodecError: The bytes are none.
    """
    v = _unpack(data, "run state", 6)
    failed = v[3]
    failure = None
    if failed is not None:
        failure = RunFailure(node=failed[0], item_id=failed[1], error=_error_in(failed[2]), attempts=failed[3])
    return RunState(
        status=RunStatus(str(v[0])), updated_at_ms=v[1], finished_at_ms=v[2], failure=failure, reason=v[4],
        deadline_ms=v[5],
    )  # fmt: skip


_ITEM_STATUSES = dict(enumerate(WorkItemStatus))
_ITEM_STATUS_NUMBER = {status: number for number, status in _ITEM_STATUSES.items()}


def _item_values(item: WorkItem, token: bytes) -> tuple[Any, ...]:
    failure, input_ = item.failure, item.input
    return (
        item.item_id, item.node, item.queue, _ITEM_STATUS_NUMBER[item.status],
        (input_.kind.value, input_.payload, input_.opener, input_.number, input_.pages),
        item.scope, item.order, item.parent, item.attempt, item.owner, item.anchored, item.deaths, item.loops,
        None if failure is None else (failure.node, failure.error_type, failure.message, failure.attempts),
        item.due_ms, item.successors, item.kept, token or item.token, item.note, item.spared, item.lost,
    )  # fmt: skip


def _item_from(v: Sequence[Any]) -> WorkItem:
    failure = v[13]
    return WorkItem(
        item_id=v[0], node=v[1], queue=v[2], status=_ITEM_STATUSES[v[3]],
        input=ItemInput(kind=InputKind(v[4][0]), payload=v[4][1], opener=v[4][2], number=v[4][3], pages=v[4][4]),
        scope=v[5], order=v[6], parent=v[7], attempt=v[8], owner=v[9], anchored=v[10], deaths=v[11], loops=v[12],
        failure=None if failure is None
        else FailureInfo(node=failure[0], error_type=failure[1], message=failure[2], attempts=failure[3]),
        due_ms=v[14], successors=v[15], kept=v[16], token=v[17], note=v[18],
        spared=v[19], lost=v[20],
    )  # fmt: skip


def encode_item(item: WorkItem, token: bytes = b"") -> bytes:
    """Encode an item; `token`, if given, is the commit that writes it."""
    return _pack(*_item_values(item, token))


@_refusing
def decode_item(data: bytes) -> WorkItem:
    """Decode an item.

    Raises:
        CodecError: The bytes are none.
    """
    return _item_from(_unpack(data, "work item", 19))


def encode_scope(scope: Scope) -> bytes:
    """Encode a scope."""
    return _pack(scope.scope_id, scope.parent, _item_values(scope.then, b""))


@_refusing
def decode_scope(data: bytes) -> Scope:
    """Decode a scope.

    Raises:
        CodecError: The bytes are none.
    """
    v = _unpack(data, "scope", 3)
    return Scope(scope_id=v[0], parent=v[1], then=_item_from(v[2]))


def encode_page(routes: tuple[Routed, ...]) -> bytes:
    """Encode a page of a large fan-out."""
    return _pack(tuple((route.edge, route.payload, route.suffix) for route in routes))


@_refusing
def decode_page(data: bytes) -> tuple[Routed, ...]:
    """Decode a page of a large fan-out.

    Raises:
        CodecError: The bytes are none.
    """
    (routes,) = _unpack(data, "page of a fan-out", 1)
    return tuple(Routed(edge=edge, payload=payload, suffix=suffix) for edge, payload, suffix in routes)


def encode_delta(item_id: str, delta: bytes) -> bytes:
    """Encode an entry of the context log."""
    return _pack(item_id, delta)


@_refusing
def decode_delta(data: bytes) -> tuple[str, bytes]:
    """Decode an entry of the context log into the item that caused it and the delta.

    Raises:
        CodecError: The bytes are none.
    """
    item_id, delta = _unpack(data, "context delta", 2)
    return item_id, delta


def encode_error(record: ErrorRecord) -> bytes:
    """Encode a failed attempt."""
    return _pack(
        record.item_id, record.node, record.attempt, record.at_ms, _error_out(record.error), record.worker,
        record.will_retry
    )  # fmt: skip


@_refusing
def decode_error(data: bytes) -> ErrorRecord:
    """Decode a failed attempt.

    Raises:
        CodecError: The bytes are none.
    """
    v = _unpack(data, "error record", 7)
    return ErrorRecord(
        item_id=v[0], node=v[1], attempt=v[2], at_ms=v[3], error=_error_in(v[4]), worker=v[5], will_retry=v[6]
    )


def encode_history(entry: HistoryEntry) -> bytes:
    """Encode a line of history."""
    return _pack(
        entry.item_id, entry.node, _ITEM_STATUS_NUMBER[entry.status], entry.attempts, entry.ended_at_ms,
        entry.duration_us, entry.worker, entry.parent,
    )  # fmt: skip


@_refusing
def decode_history(data: bytes) -> HistoryEntry:
    """Decode a line of history.

    Raises:
        CodecError: The bytes are none.
    """
    v = _unpack(data, "history entry", 8)
    return HistoryEntry(
        item_id=v[0], node=v[1], status=_ITEM_STATUSES[v[2]], attempts=v[3], ended_at_ms=v[4], duration_us=v[5],
        worker=v[6], parent=v[7],
    )  # fmt: skip


def encode_worker(record: WorkerRecord) -> bytes:
    """Encode a heartbeat record."""
    return _pack(*(getattr(record, field.name) for field in fields(WorkerRecord)))


@_refusing
def decode_worker(data: bytes) -> WorkerRecord:
    """Decode a heartbeat record.

    Raises:
        CodecError: The bytes are none.
    """
    names = [field.name for field in fields(WorkerRecord)]
    return WorkerRecord(**dict(zip(names, _unpack(data, "worker record", 12), strict=False)))


def encode_timer_value(kind: TimerKind, turn: int) -> bytes:
    """Encode what a timer does."""
    return _pack(kind.value, turn)


@_refusing
def decode_timer_value(data: bytes) -> tuple[TimerKind, int]:
    """Decode what a timer does.

    Raises:
        CodecError: The bytes are none.
    """
    kind, turn = _unpack(data, "timer", 2)
    return TimerKind(kind), turn


def encode_message_note(run_id: str, item_id: str, turn: int, publisher: str) -> bytes:
    """Encode what the index of messages knows of a message."""
    return _pack(run_id, item_id, turn, publisher)


@_refusing
def decode_message_note(data: bytes) -> tuple[str, str, int, str]:
    """Decode what the index of messages knows: run, item, turn, publisher.

    Raises:
        CodecError: The bytes are none.
    """
    run_id, item_id, turn, publisher = _unpack(data, "message note", 4)
    return run_id, item_id, turn, publisher


def encode_envelope(envelope: Envelope) -> bytes:
    """Encode a work item message."""
    return _pack(
        "work", envelope.run_id, envelope.item_id, envelope.node, envelope.workflow, envelope.version, envelope.queue,
        envelope.turn, envelope.scope, envelope.position, envelope.entry, envelope.trace,
        int(envelope.recovered), envelope.store,
    )  # fmt: skip


def encode_probe(probe: Probe) -> bytes:
    """Encode a probe."""
    return _pack("probe", probe.queue, probe.number, probe.before)


@_refusing
def decode_message(data: bytes) -> Envelope | Probe:
    """Decode what came from a task queue; every field is checked, since anybody may publish there.

    Raises:
        CodecError: The bytes are no message of this format; the message says why.
    """
    if len(data) > MAX_ENVELOPE_BYTES:
        raise CodecError(f"The message has {len(data)} bytes; an envelope has at most {MAX_ENVELOPE_BYTES}.")
    v = _unpack(data, "work item message", 2)
    if v[0] == "probe" and len(v) >= 4:
        _require(v[1:4], (str, int, str), "probe")
        return Probe(queue=v[1], number=v[2], before=v[3])
    if v[0] != "work" or len(v) < 14:
        raise CodecError(f"The message is of an unknown kind{f' {v[0][:40]!r}' if isinstance(v[0], str) else ''}.")
    _require(
        v[1:14], (str, str, str, str, str, str, int, tuple, (int, type(None)), str, str, int, str), "work item message"
    )
    if not v[1] or not v[2]:
        raise CodecError("The work item message names no run or no item.")
    _require(v[8], (str,) * len(v[8]), "work item message's scope")
    return Envelope(
        run_id=v[1], item_id=v[2], node=v[3], workflow=v[4], version=v[5], queue=v[6], turn=v[7], scope=v[8],
        position=v[9], entry=v[10], trace=v[11], recovered=bool(v[12]), store=v[13],
    )  # fmt: skip


def _require(values: Sequence[Any], kinds: tuple[Any, ...], what: str) -> None:
    for number, (value, kind) in enumerate(zip(values, kinds, strict=True)):
        if not isinstance(value, kind) or isinstance(value, bool):
            raise CodecError(f"Field {number} of the {what} is a {type(value).__name__}.")
