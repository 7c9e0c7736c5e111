"""Records and work item messages as bytes: the fields in a fixed order, led by the format's number.

A field added later goes to the end and gets a default when an older record is read. Whatever bytes a decoder gets, it
returns a record whose fields have their types or raises `CodecError`, within the limits of `packing`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, TypeVar

from floxide_amqp.core.failure import ErrorInfo, FailureInfo
from floxide_amqp.core.joins import JoinInstance
from floxide_amqp.core.kin import ParentLink
from floxide_amqp.core.log_records import AuditRecord, ErrorRecord, HistoryEntry
from floxide_amqp.core.message_records import Envelope, Probe, make_envelope
from floxide_amqp.core.records import (
    Compensable,
    InputKind,
    Mail,
    Routed,
    RunFailure,
    RunHeader,
    RunState,
    Scope,
    Tombstone,
    WorkItem,
    make_header,
    make_input,
    make_item,
    make_state,
)
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.timers import TimerKind
from floxide_amqp.core.worker_records import StuckBody, WorkerRecord
from floxide_amqp.exceptions import CodecError, NewerFormatError
from floxide_amqp.stores.large_inputs import APART
from floxide_amqp.stores.packing import (
    ARRAY,
    BOOL,
    BYTES,
    INT,
    NONE,
    STR,
    Shape,
    pack_record,
    pack_values,
    texts,
    unpack_record,
    whole_numbers,
)
from floxide_amqp.stores.sealed import sealed_payload, text_in, text_out

MAX_ENVELOPE_BYTES: Final = 64 * 1024
"""Largest message that is decoded at all: an envelope holds ids, not payloads."""

MAX_ENVELOPE_LENGTH: Final = 256
"""Longest array in a message: its scopes, one per fan-out around the item."""

HEADER = Shape(
    "run header", 10, run_id=STR, workflow=STR, version=STR, input=BYTES, input_digest=STR, context=BYTES,
    created_at_ms=INT, deadline_ms=INT | NONE, reply_to=STR, start_item=STR, parent=ARRAY | NONE,
    starts_at_ms=INT, forked_from=ARRAY | NONE, priority=INT,
)  # fmt: skip
STATE = Shape(
    "run state", 6, status=STR, updated_at_ms=INT, finished_at_ms=INT | NONE, failure=ARRAY | NONE, reason=STR,
    deadline_ms=INT | NONE, ends_as=STR, was_undone=BOOL, is_by_hand=BOOL, version=STR,
)  # fmt: skip
TOMBSTONE = Shape(
    "tombstone", 8, run_id=STR, workflow=STR, version=STR, input_digest=STR, status=STR, ended_at_ms=INT,
    deleted_at_ms=INT, is_cleared=BOOL, openers=ARRAY,
)  # fmt: skip
ITEM = Shape(
    "work item", 21, item_id=STR, node=STR, queue=STR, status=INT, input=ARRAY, scope=ARRAY, order=ARRAY, parent=STR,
    attempt=INT, owner=STR, anchored=BOOL, deaths=INT, loops=ARRAY, failure=ARRAY | NONE, due_ms=INT, successors=ARRAY,
    kept=STR | NONE, token=BYTES, note=STR | BYTES, spared=BOOL, lost=INT, parked_ms=INT, waits_for=STR,
    begun=BOOL, given=BYTES | NONE, mail=ARRAY | NONE, timed_out=BOOL,
    ticket=STR,
)  # fmt: skip
SCOPE = Shape("scope", 3, scope_id=STR, parent=ARRAY, then=ARRAY)
PAGE = Shape("page of a fan-out", 1, routes=ARRAY)
JOIN_ARRIVAL = Shape("arrival at a join", 3, position=INT, item_id=STR, payload=BYTES)
AWAITED_JOIN = Shape("join that waits", 4, join_id=STR, node=STR, order=ARRAY, loops=ARRAY)
DELTA = Shape("context delta", 2, item_id=STR, delta=BYTES)
ERROR = Shape(
    "error record", 7, item_id=STR, node=STR, attempt=INT, at_ms=INT, error=ARRAY, worker=STR, will_retry=BOOL
)
HISTORY = Shape(
    "history entry", 8, item_id=STR, node=STR, status=INT, attempts=INT, ended_at_ms=INT, duration_us=INT, worker=STR,
    parent=STR, context_length=INT,
)  # fmt: skip
COMPENSABLE = Shape("step to undo", 4, item_id=STR, node=STR, queue=STR, output=BYTES | NONE)
AUDIT = Shape("audit record", 5, at_ms=INT, action=STR, by=STR, reason=STR, detail=STR)
WORKER = Shape(
    "worker record", 12, worker_id=STR, beat=INT, at_ms=INT, started_at_ms=INT, host=STR, boot=STR, pid=INT,
    process_started=STR, status=STR, queues=ARRAY, workflows=ARRAY, concurrency=INT, current_items=ARRAY,
    items_done=INT, errors=INT, life=STR, stuck=ARRAY, loop_lag_ms=INT, threads_lost=INT, late_commits=INT,
    labels=ARRAY,
)  # fmt: skip
TIMER = Shape("timer", 3, kind=STR, turn=INT, after=STR)
TIMER_SET_ASIDE = Shape("timer set aside", 3, timer=BYTES, failures=INT, reason=STR)
MESSAGE_NOTE = Shape("message note", 4, run_id=STR, item_id=STR, turn=INT, publisher=STR, tries=INT)
MESSAGE = Shape("work item message", 2, max_bytes=MAX_ENVELOPE_BYTES, max_length=MAX_ENVELOPE_LENGTH, kind=STR)
ENVELOPE = Shape(
    "work item message", 14, kind=STR, run_id=STR, item_id=STR, node=STR, workflow=STR, version=STR, queue=STR,
    turn=INT, scope=ARRAY, position=INT | NONE, entry=STR, trace=STR, recovered=INT, store=STR,
)  # fmt: skip
PROBE = Shape("probe", 6, kind=STR, queue=STR, number=INT, before=STR, store=STR, shard=STR)

# Parts of records.
PARENT = Shape("parent of a run", 2, run_id=STR, item_id=STR)
INPUT = Shape("input of a work item", 5, kind=INT, payload=BYTES, opener=STR, number=INT, pages=INT)
LOOP = Shape("loop", 2, edge=STR, count=INT)
FAILURE = Shape("failure of a work item", 4, node=STR, error_type=STR, message=STR | BYTES, attempts=INT)
RUN_FAILURE = Shape("failure of a run", 4, node=STR, item_id=STR, error=ARRAY, attempts=INT)
ERROR_INFO = Shape("error", 3, kinds=ARRAY, message=STR | BYTES, traceback=STR | BYTES)
ROUTE = Shape("route", 3, edge=STR, payload=BYTES, suffix=ARRAY)
MAIL = Shape("value of a signal", 5, signal_id=STR, name=STR, payload=BYTES, sent_at_ms=INT, number=INT)
SIGNAL_MARK = Shape("mark of a signal", 2, digest=STR, token=BYTES)
STUCK = Shape("stuck body", 7, run_id=STR, item_id=STR, node=STR, since_ms=INT, attempt=INT, lost=INT, is_given_up=BOOL)

T = TypeVar("T")


def _refusing(decode: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """Make a decoder refuse well-formed bytes that are something else, whatever it stumbled over."""

    @functools.wraps(decode)
    def decoding(data: bytes) -> T:
        try:
            return decode(data)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            what = decode.__name__.removeprefix("decode_").replace("_", " ")
            raise CodecError(f"This is not a {what}: {type(error).__name__} in one of its fields.") from error

    return decoding


def error_out(error: ErrorInfo) -> tuple[Any, ...]:
    """Return an error as a part of a record."""
    return (error.kinds, text_out(error.message), text_out(error.traceback))


def error_in(values: Any) -> ErrorInfo:
    """Return the error that a part of a record says.

    Raises:
        CodecError: It is none.
    """
    kinds, message, traceback = ERROR_INFO.part(values)
    if not kinds:
        raise CodecError("An error is of no class.")
    return ErrorInfo(kinds=texts(kinds, "error's classes"), message=text_in(message), traceback=text_in(traceback))


def encode_header(header: RunHeader) -> bytes:
    """Encode a run's header."""
    return pack_record(
        HEADER, header.run_id, header.workflow, header.version, header.input, header.input_digest, header.context,
        header.created_at_ms, header.deadline_ms, header.reply_to, header.start_item,
        None if header.parent is None else (header.parent.run_id, header.parent.item_id), header.starts_at_ms,
        None if header.forked_from is None else (header.forked_from.run_id, header.forked_from.item_id),
        header.priority,
    )  # fmt: skip


@_refusing
def decode_header(data: bytes) -> RunHeader:
    """Decode a run's header.

    Raises:
        CodecError: The bytes are none.
    """
    v = unpack_record(HEADER, data)
    return make_header(
        run_id=v[0], workflow=v[1], version=v[2], input=v[3], input_digest=v[4], context=v[5], created_at_ms=v[6],
        deadline_ms=v[7], reply_to=v[8], start_item=v[9],
        parent=None if len(v) < 11 or v[10] is None else ParentLink(*PARENT.part(v[10])),
        starts_at_ms=v[11] if len(v) > 11 else 0,
        forked_from=None if len(v) < 13 or v[12] is None else ParentLink(*PARENT.part(v[12])),
        priority=v[13] if len(v) > 13 else 0,
    )  # fmt: skip


def encode_state(state: RunState) -> bytes:
    """Encode a run's state."""
    failure = state.failure
    failed = None if failure is None else (failure.node, failure.item_id, error_out(failure.error), failure.attempts)
    return pack_record(
        STATE, state.status.value, state.updated_at_ms, state.finished_at_ms, failed, state.reason, state.deadline_ms,
        "" if state.ends_as is None else state.ends_as.value, state.was_undone, state.is_by_hand,
        state.version,
    )  # fmt: skip


@_refusing
def decode_state(data: bytes) -> RunState:
    """Decode a run's state.

    Raises:
        CodecError: The bytes are none.
    """
    v = unpack_record(STATE, data)
    ends_as, was_undone, is_by_hand = v[6:9] if len(v) > 8 else ("", False, False)
    failed = v[3]
    failure = None
    if failed is not None:
        node, item_id, error, attempts = RUN_FAILURE.part(failed)
        failure = RunFailure(node=node, item_id=item_id, error=error_in(error), attempts=attempts)
    return make_state(
        status=_known(_RUN_STATUSES, v[0], STATE, "status"), updated_at_ms=v[1], finished_at_ms=v[2], failure=failure,
        reason=v[4], deadline_ms=v[5],
        ends_as=_known(_RUN_STATUSES, ends_as, STATE, "status") if ends_as else None,
        was_undone=was_undone, is_by_hand=is_by_hand, version=v[9] if len(v) > 9 else "",
    )  # fmt: skip


_RUN_STATUSES = {status.value: status for status in RunStatus}
_INPUT_KINDS = {kind.value: kind for kind in InputKind}
_APART_KIND: Final = 100
"""In place of the kind of a payload that lies apart, so that no older release takes the input for an empty one."""
_TIMER_KINDS = {kind.value: kind for kind in TimerKind}
_ITEM_STATUSES = dict(enumerate(WorkItemStatus))
_ITEM_STATUS_NUMBER = {status: number for number, status in _ITEM_STATUSES.items()}


def _known(choices: Mapping[Any, T], value: Any, shape: Shape, name: str) -> T:
    """Return what a value stands for; one this release does not know is no damage, a newer one may have added it."""
    try:
        return choices[value]
    except KeyError:
        raise NewerFormatError(what=shape.what, found=f"the {name} {value!r:.40}") from None


def _item_values(item: WorkItem, token: bytes) -> tuple[Any, ...]:
    failure, input_ = item.failure, item.input
    return (
        item.item_id, item.node, item.queue, _ITEM_STATUS_NUMBER[item.status],
        (
            input_.kind.value if input_.payload is not APART else _APART_KIND,
            input_.payload, input_.opener, input_.number, input_.pages,
        ),
        item.scope, item.order, item.parent, item.attempt, item.owner, item.anchored, item.deaths, item.loops,
        None if failure is None else (failure.node, failure.error_type, text_out(failure.message), failure.attempts),
        item.due_ms, item.successors, item.kept, token or item.token, text_out(item.note), item.spared, item.lost,
        item.parked_ms, item.waits_for, item.begun, item.given, None if item.mail is None else _mail_out(item.mail),
        item.timed_out, item.ticket,
    )  # fmt: skip


_LATER_ITEM_FIELDS: Final[tuple[Any, ...]] = (0, "", False, None, None, False, "")
"""What an item has for the fields from `parked_ms` on, where an older release wrote it."""


def _item_from(values: Sequence[Any]) -> WorkItem:
    if len(values) < ITEM.length:
        values = (*values, *_LATER_ITEM_FIELDS[len(values) - ITEM.length :])
    (
        item_id, node, queue, status, input_, scope, order, parent, attempt, owner, anchored, deaths, loops, failure,
        due_ms, successors, kept, token, note, spared, lost, parked_ms, waits_for, begun, given, mail, timed_out,
        ticket,
    ) = values[: ITEM.length]  # fmt: skip
    kind, payload, opener, number, pages = INPUT.part(input_)
    if kind == _APART_KIND:
        kind, payload = InputKind.PAYLOAD.value, APART
    return make_item(
        item_id, node, queue, _known(_ITEM_STATUSES, status, ITEM, "status"),
        make_input(
            kind=_known(_INPUT_KINDS, kind, ITEM, "input kind"), payload=sealed_payload(payload, item_id),
            opener=opener, number=number, pages=pages,
        ),
        texts(scope, "scope"), whole_numbers(order, "order"), parent, attempt, owner, anchored, deaths, spared,
        lost=lost, loops=tuple([LOOP.part(loop) for loop in loops]) if loops else (),
        failure=None if failure is None else _failure_in(failure, item_id), due_ms=due_ms,
        successors=texts(successors, "successors"), kept=kept, token=token, note=text_in(note, item_id),
        parked_ms=parked_ms, waits_for=waits_for, begun=begun,
        given=None if given is None else sealed_payload(given, item_id), mail=None if mail is None else _mail_in(mail),
        timed_out=timed_out, ticket=ticket,
    )  # fmt: skip


def _failure_in(values: Any, item_id: str) -> FailureInfo:
    node, error_type, message, attempts = FAILURE.part(values)
    return FailureInfo(node=node, error_type=error_type, message=text_in(message, item_id), attempts=attempts)


def _mail_out(mail: Mail) -> tuple[Any, ...]:
    return (mail.signal_id, mail.name, mail.payload, mail.sent_at_ms, mail.number)


def _mail_in(values: Any) -> Mail:
    signal_id, name, payload, sent_at_ms, number = MAIL.part(values)
    return Mail(signal_id=signal_id, name=name, payload=payload, sent_at_ms=sent_at_ms, number=number)


def encode_mail(mail: Mail) -> bytes:
    """Encode a value that a run keeps until an item takes it."""
    return pack_values(MAIL, _mail_out(mail))


@_refusing
def decode_mail(data: bytes) -> Mail:
    """Decode a value that a run keeps.

    Raises:
        CodecError: The bytes are none.
    """
    return _mail_in(unpack_record(MAIL, data)[: MAIL.required])


def encode_signal_mark(digest: str, token: bytes) -> bytes:
    """Encode what marks an accepted signal: what tells it from another one, and the commit that accepted it."""
    return pack_record(SIGNAL_MARK, digest, token)


@_refusing
def decode_signal_mark(data: bytes) -> str:
    """Decode what marks an accepted signal into its digest.

    Raises:
        CodecError: The bytes are none.
    """
    digest: str = unpack_record(SIGNAL_MARK, data)[0]
    return digest


def encode_item(item: WorkItem, token: bytes = b"") -> bytes:
    """Encode an item; `token`, if given, is the commit that writes it."""
    return pack_values(ITEM, _item_values(item, token))


@_refusing
def decode_item(data: bytes) -> WorkItem:
    """Decode an item.

    Raises:
        CodecError: The bytes are none.
    """
    return _item_from(unpack_record(ITEM, data))


def encode_scope(scope: Scope) -> bytes:
    """Encode a scope."""
    return pack_record(SCOPE, scope.scope_id, scope.parent, _item_values(scope.then, b""))


@_refusing
def decode_scope(data: bytes) -> Scope:
    """Decode a scope.

    Raises:
        CodecError: The bytes are none.
    """
    v = unpack_record(SCOPE, data)
    if len(v[2]) < ITEM.required:
        raise CodecError("The scope's item lacks fields.")
    ITEM.check(v[2])
    return Scope(scope_id=v[0], parent=texts(v[1], "scope's parent"), then=_item_from(v[2]))


def encode_page(routes: tuple[Routed, ...]) -> bytes:
    """Encode a page of a large fan-out."""
    return pack_record(PAGE, tuple((route.edge, route.payload, route.suffix) for route in routes))


@_refusing
def decode_page(data: bytes) -> tuple[Routed, ...]:
    """Decode a page of a large fan-out.

    Raises:
        CodecError: The bytes are none.
    """
    routes = [ROUTE.part(route) for route in unpack_record(PAGE, data)[0]]
    return tuple(
        [Routed(edge=edge, payload=payload, suffix=whole_numbers(suffix, "suffix")) for edge, payload, suffix in routes]
    )


def encode_join_arrival(position: int, item_id: str, payload: bytes) -> bytes:
    """Encode a value that reached a join of edges."""
    return pack_record(JOIN_ARRIVAL, position, item_id, payload)


@_refusing
def decode_join_arrival(data: bytes) -> tuple[int, str, bytes]:
    """Decode a value that reached a join of edges: its place among the sources, the item it is from, and it.

    Raises:
        CodecError: The bytes are none.
    """
    position, item_id, payload = unpack_record(JOIN_ARRIVAL, data)[:3]
    return position, item_id, payload


def encode_awaited_join(join: JoinInstance) -> bytes:
    """Encode which join of edges waits for more."""
    return pack_record(AWAITED_JOIN, join.join_id, join.node, join.order, join.loops)


@_refusing
def decode_awaited_join(data: bytes) -> JoinInstance:
    """Decode which join of edges waits for more.

    Raises:
        CodecError: The bytes are none.
    """
    join_id, node, order, loops = unpack_record(AWAITED_JOIN, data)[:4]
    return JoinInstance(
        join_id=join_id, node=node, order=whole_numbers(order, "order"),
        loops=tuple([LOOP.part(loop) for loop in loops]),
    )  # fmt: skip


def encode_delta(item_id: str, delta: bytes) -> bytes:
    """Encode an entry of the context log."""
    return pack_record(DELTA, item_id, delta)


@_refusing
def decode_delta(data: bytes) -> tuple[str, bytes]:
    """Decode an entry of the context log into the item that caused it and the delta.

    Raises:
        CodecError: The bytes are none.
    """
    item_id, delta = unpack_record(DELTA, data)[:2]
    return item_id, delta


def encode_error(record: ErrorRecord) -> bytes:
    """Encode a failed attempt."""
    return pack_record(
        ERROR, record.item_id, record.node, record.attempt, record.at_ms, error_out(record.error), record.worker,
        record.will_retry
    )  # fmt: skip


@_refusing
def decode_error(data: bytes) -> ErrorRecord:
    """Decode a failed attempt.

    Raises:
        CodecError: The bytes are none.
    """
    v = unpack_record(ERROR, data)
    return ErrorRecord(
        item_id=v[0], node=v[1], attempt=v[2], at_ms=v[3], error=error_in(v[4]), worker=v[5], will_retry=v[6]
    )


def encode_history(entry: HistoryEntry) -> bytes:
    """Encode a line of history."""
    return pack_record(
        HISTORY, entry.item_id, entry.node, _ITEM_STATUS_NUMBER[entry.status], entry.attempts, entry.ended_at_ms,
        entry.duration_us, entry.worker, entry.parent, entry.context_length,
    )  # fmt: skip


@_refusing
def decode_history(data: bytes) -> HistoryEntry:
    """Decode a line of history.

    Raises:
        CodecError: The bytes are none.
    """
    v = unpack_record(HISTORY, data)
    return HistoryEntry(
        item_id=v[0], node=v[1], status=_known(_ITEM_STATUSES, v[2], HISTORY, "status"), attempts=v[3],
        ended_at_ms=v[4], duration_us=v[5], worker=v[6], parent=v[7], context_length=v[8] if len(v) > 8 else -1,
    )  # fmt: skip


def encode_compensable(step: Compensable) -> bytes:
    """Encode a step that is to be undone."""
    return pack_record(COMPENSABLE, step.item_id, step.node, step.queue, step.output)


@_refusing
def decode_compensable(data: bytes) -> Compensable:
    """Decode a step that is to be undone.

    Raises:
        CodecError: The bytes are none.
    """
    item_id, node, queue, output = unpack_record(COMPENSABLE, data)[:4]
    return Compensable(item_id=item_id, node=node, queue=queue, output=output)


def encode_audit(record: AuditRecord) -> bytes:
    """Encode what somebody did to a run."""
    return pack_record(AUDIT, record.at_ms, record.action, record.by, record.reason, record.detail)


@_refusing
def decode_audit(data: bytes) -> AuditRecord:
    """Decode what somebody did to a run.

    Raises:
        CodecError: The bytes are none.
    """
    at_ms, action, by, reason, detail = unpack_record(AUDIT, data)[:5]
    return AuditRecord(at_ms=at_ms, action=action, by=by, reason=reason, detail=detail)


def encode_worker(record: WorkerRecord) -> bytes:
    """Encode a heartbeat record."""
    return pack_record(WORKER, *(getattr(record, field.name) for field in fields(WorkerRecord)))


@_refusing
def decode_worker(data: bytes) -> WorkerRecord:
    """Decode a heartbeat record.

    Raises:
        CodecError: The bytes are none.
    """
    names = [field.name for field in fields(WorkerRecord)]
    values = dict(zip(names, unpack_record(WORKER, data), strict=False))
    for name in ("queues", "workflows", "current_items", "labels"):
        values[name] = texts(values.get(name, ()), f"worker's {name}")
    bodies = [STUCK.part(body) for body in values.get("stuck", ())]
    values["stuck"] = tuple([StuckBody(*body) for body in bodies])
    return WorkerRecord(**values)


def encode_tombstone(tombstone: Tombstone) -> bytes:
    """Encode what is left of a run that was deleted."""
    return pack_record(
        TOMBSTONE, tombstone.run_id, tombstone.workflow, tombstone.version, tombstone.input_digest,
        tombstone.status.value, tombstone.ended_at_ms, tombstone.deleted_at_ms, tombstone.is_cleared,
        tombstone.openers,
    )  # fmt: skip


@_refusing
def decode_tombstone(data: bytes) -> Tombstone:
    """Decode what is left of a run that was deleted.

    Raises:
        CodecError: The bytes are none.
    """
    v = unpack_record(TOMBSTONE, data)
    return Tombstone(
        run_id=v[0], workflow=v[1], version=v[2], input_digest=v[3],
        status=_known(_RUN_STATUSES, v[4], TOMBSTONE, "status"), ended_at_ms=v[5], deleted_at_ms=v[6], is_cleared=v[7],
        openers=tuple(v[8]) if len(v) > 8 else (),
    )  # fmt: skip


def encode_timer_value(kind: TimerKind, turn: int, after: str = "") -> bytes:
    """Encode what a timer does, and behind which item."""
    return pack_record(TIMER, kind.value, turn, after)


@_refusing
def decode_timer_value(data: bytes) -> tuple[TimerKind, int, str]:
    """Decode what a timer does, and behind which item.

    Raises:
        CodecError: The bytes are none.
    """
    kind, turn, after = unpack_record(TIMER, data)[:3]
    return _known(_TIMER_KINDS, kind, TIMER, "kind"), turn, after


def encode_set_aside(timer: bytes, failures: int, reason: str) -> bytes:
    """Encode a timer that could not be fired: its own value, how often it failed, and why."""
    return pack_record(TIMER_SET_ASIDE, timer, failures, reason)


@_refusing
def decode_set_aside(data: bytes) -> tuple[bytes, int, str]:
    """Decode a timer that could not be fired.

    Raises:
        CodecError: The bytes are none.
    """
    timer, failures, reason = unpack_record(TIMER_SET_ASIDE, data)[:3]
    return timer, failures, reason


def encode_message_note(run_id: str, item_id: str, turn: int, publisher: str, tries: int = 0) -> bytes:
    """Encode what the index of messages knows of a message."""
    return pack_record(MESSAGE_NOTE, run_id, item_id, turn, publisher, tries)


@_refusing
def decode_message_note(data: bytes) -> tuple[str, str, int, str, int]:
    """Decode what the index of messages knows: run, item, turn, publisher, tries.

    Raises:
        CodecError: The bytes are none.
    """
    v = unpack_record(MESSAGE_NOTE, data)
    return v[0], v[1], v[2], v[3], v[4] if len(v) > 4 else 0


def encode_envelope(envelope: Envelope) -> bytes:
    """Encode a work item message."""
    return pack_record(
        MESSAGE, "work", envelope.run_id, envelope.item_id, envelope.node, envelope.workflow, envelope.version,
        envelope.queue, envelope.turn, envelope.scope, envelope.position, envelope.entry, envelope.trace,
        int(envelope.recovered), envelope.store,
    )  # fmt: skip


def encode_probe(probe: Probe) -> bytes:
    """Encode a probe."""
    return pack_record(MESSAGE, "probe", probe.queue, probe.number, probe.before, probe.store, probe.shard)


@_refusing
def decode_message(data: bytes) -> Envelope | Probe:
    """Decode what came from a task queue; every field is checked, since anybody may publish there.

    Raises:
        CodecError: The bytes are no message of this format; the message says why.
    """
    v = unpack_record(MESSAGE, data)
    if v[0] == "probe":
        _complete(PROBE, v)
        return Probe(queue=v[1], number=v[2], before=v[3], store=v[4], shard=v[5])
    if v[0] != "work":
        raise CodecError(f"The message is of an unknown kind {v[0][:40]!r}.")
    _complete(ENVELOPE, v)
    if not v[1] or not v[2]:
        raise CodecError("The work item message names no run or no item.")
    return make_envelope(
        run_id=v[1], item_id=v[2], node=v[3], workflow=v[4], version=v[5], queue=v[6], turn=v[7],
        scope=texts(v[8], "scope of a work item message"), position=v[9], entry=v[10], trace=v[11],
        recovered=bool(v[12]), store=v[13],
    )  # fmt: skip


def _complete(shape: Shape, values: Sequence[Any]) -> None:
    """Refuse a message that lacks fields, or whose fields are of other types."""
    if len(values) < shape.required:
        raise CodecError(f"The {shape.what} has {len(values)} fields, and needs {shape.required}.")
    shape.check(values)
