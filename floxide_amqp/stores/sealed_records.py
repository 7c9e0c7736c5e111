"""On the way back: texts are opened at once, so that people see them or why they cannot; payloads when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from floxide_amqp.core.failure import ErrorInfo
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.kin import ChildRecord
from floxide_amqp.core.log_records import ErrorRecord
from floxide_amqp.core.records import Mail, Routed, RunHeader, RunState, Scope, WorkItem
from floxide_amqp.exceptions import CodecError
from floxide_amqp.stores.sealed import Layer, Place, Sealed, SealedText, Unsealed, unwrap
from floxide_amqp.stores.sealed_places import (
    CHILD,
    CHILD_OUTPUT,
    DELTA,
    ERROR,
    GIVEN,
    INPUT,
    ITEM_FAILURE,
    NOTE,
    RUN_CONTEXT,
    RUN_FAILURE,
    RUN_INPUT,
    mail_place,
    name_of_error,
    page_place,
    text_places,
)
from floxide_amqp.stores.sealing import Sealing


def input_of(sealing: Sealing, run_id: RunId, item: WorkItem) -> bytes:
    """Return an item's input, opened.

    Raises:
        MissingKeyError: This process lacks the key or the codec.
        UnreadableRecordError: It was changed, it belongs elsewhere, or it is not encrypted and has to be.
    """
    payload = item.input.payload
    if isinstance(payload, Unsealed) or not sealing.must_open(payload):  # made in this process, or by nobody sealed
        return payload
    sealed_for = payload.item_id if isinstance(payload, Sealed) else item.item_id  # another's input, taken over
    return sealing.open(payload, Place(run_id, INPUT, sealed_for))


def given_of(sealing: Sealing, run_id: RunId, item: WorkItem) -> bytes:
    """Return the output that somebody gave an item by hand, opened; empty where nobody did.

    Raises:
        MissingKeyError, UnreadableRecordError: As `Sealing.open`.
    """
    return b"" if item.given is None else sealing.open(item.given, Place(run_id, GIVEN, item.item_id))


def check_failure(sealing: Sealing, run_id: RunId, item: WorkItem) -> None:
    """Make sure that the node which runs an item sees why its branch runs, where it is a fallback's.

    Raises:
        MissingKeyError, UnreadableRecordError: It cannot be opened.
    """
    if item.failure is not None and isinstance(item.failure.message, SealedText):
        sealing.open_text(item.failure.message, Place(run_id, ITEM_FAILURE, item.item_id))


def check_mail(sealing: Sealing, run_id: RunId, unread: Iterable[Mail]) -> None:
    """Make sure that this process can open the values a step may receive, before its body begins.

    Raises:
        MissingKeyError: It lacks a key or a codec.
    """
    for mail in unread:
        if sealing.lacks(mail.payload) is not None:
            sealing.open(mail.payload, mail_place(run_id, mail.name, mail.signal_id))


def readable_item(sealing: Sealing, run_id: RunId, item: WorkItem) -> WorkItem:
    """Return an item with its texts opened, or with notes in their place that say why not; its input stays sealed."""
    failure = item.failure
    if isinstance(item.note, SealedText):
        item = replace(item, note=sealing.readable(item.note, Place(run_id, NOTE, item.item_id)))
    if failure is not None and isinstance(failure.message, SealedText):
        text = sealing.readable(failure.message, Place(run_id, ITEM_FAILURE, item.item_id))
        item = replace(item, failure=replace(failure, message=text))
    return item


def readable_scope(sealing: Sealing, run_id: RunId, scope: Scope) -> Scope:
    """Return a scope with the texts of its item opened."""
    then = readable_item(sealing, run_id, scope.then)
    return scope if then is scope.then else replace(scope, then=then)


def readable_state(sealing: Sealing, run_id: RunId, state: RunState) -> RunState:
    """Return a run's state with the texts of its failure opened."""
    if state.failure is None:
        return state
    error = _readable_error(sealing, run_id, RUN_FAILURE, "", state.failure.error)
    return replace(state, failure=replace(state.failure, error=error))


def readable_record(sealing: Sealing, run_id: RunId, record: ErrorRecord) -> ErrorRecord:
    """Return a failed attempt with the texts of its error opened."""
    return replace(record, error=_readable_error(sealing, run_id, ERROR, name_of_error(record), record.error))


def readable_child(sealing: Sealing, run_id: RunId, child: ChildRecord) -> ChildRecord:
    """Return what a run knows of a child with the texts of its error opened; its output stays sealed."""
    if child.error is None:
        return child
    return replace(child, error=_readable_error(sealing, run_id, CHILD, child.run_id, child.error))


def child_output(sealing: Sealing, run_id: RunId, child: ChildRecord) -> bytes:
    """Return the output of a child as its parent keeps it, opened.

    Raises:
        MissingKeyError, UnreadableRecordError: As `Sealing.open`.
    """
    return sealing.open(child.output, Place(run_id, CHILD_OUTPUT, child.run_id))


def _readable_error(sealing: Sealing, run_id: RunId, kind: str, name: str, error: ErrorInfo) -> ErrorInfo:
    if not isinstance(error.message, SealedText) and not isinstance(error.traceback, SealedText):
        return error
    message, traceback = text_places(run_id, kind, name)
    return replace(
        error,
        message=sealing.readable(error.message, message),
        traceback=sealing.readable(error.traceback, traceback),
    )


def opened_page(
    sealing: Sealing, run_id: RunId, opener: str, number: int, routes: tuple[Routed, ...]
) -> tuple[Routed, ...]:
    """Return a page of a fan-out, opened.

    Raises:
        MissingKeyError, UnreadableRecordError: As `Sealing.open`.
    """
    return tuple(
        [
            replace(route, payload=Unsealed(sealing.open(route.payload, page_place(run_id, opener, number, place))))
            for place, route in enumerate(routes)
        ]
    )


def start_of(sealing: Sealing, header: RunHeader) -> tuple[bytes, bytes]:
    """Return a run's input and its initial context, opened.

    Raises:
        MissingKeyError, UnreadableRecordError: As `Sealing.open`.
    """
    return (
        sealing.open(header.input, Place(header.run_id, RUN_INPUT)),
        context_of(sealing, header),
    )


def context_of(sealing: Sealing, header: RunHeader) -> bytes:
    """Return a run's initial context, opened.

    Raises:
        MissingKeyError, UnreadableRecordError: As `Sealing.open`.
    """
    return sealing.open(header.context, Place(header.run_id, RUN_CONTEXT))


def delta_opener(sealing: Sealing, run_id: RunId) -> Callable[[str, bytes], bytes]:
    """Return a function that opens what an item changed of a run's context; raises as `Sealing.open`."""

    def opened(item_id: str, delta: bytes) -> bytes:
        return sealing.open(delta, Place(run_id, DELTA, item_id)) if sealing.must_open(delta) else delta

    return opened


def lacked_for(sealing: Sealing, item: WorkItem) -> Layer | None:
    """Return what this process lacks to run an item: the layer that it cannot open; None if nothing."""
    found = sealing.lacks(item.input.payload)
    if found is None and item.failure is not None and isinstance(item.failure.message, SealedText):
        found = sealing.lacks(item.failure.message.envelope)
    if found is None and item.mail is not None:
        found = sealing.lacks(item.mail.payload)
    return found


def key_of(item: WorkItem) -> Layer | None:
    """Return what it takes to open an item's input; None where it is not sealed, or damaged."""
    payload = item.input.payload
    if not isinstance(payload, Sealed):
        return None
    try:
        return unwrap(payload)
    except CodecError:
        return None
