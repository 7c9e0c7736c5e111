"""Which parts of which records are sealed: payloads, contexts, notes and texts of errors; names and numbers never.

On the way to the store whole decisions pass `sealed_changes`. On the way back each store opens what it reads: texts at
once, so that people see them or why they cannot, payloads when somebody needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final, TypeVar, cast

from floxide_amqp.core import changes as c
from floxide_amqp.core.failure import ErrorInfo, FailureInfo
from floxide_amqp.core.ids import RunId, WorkItemId
from floxide_amqp.core.records import ErrorRecord, Routed, RunHeader, RunState, Scope, WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.exceptions import CodecError
from floxide_amqp.stores import keys
from floxide_amqp.stores.sealed import Layer, Place, Sealed, SealedText, Unsealed, sealed_payload, unwrap
from floxide_amqp.stores.sealing import Sealing

RUN_INPUT: Final = "input of the run"
RUN_CONTEXT: Final = "initial context"
RUN_FAILURE: Final = "failure of the run"
INPUT: Final = "input"
ITEM_FAILURE: Final = "failure"
NOTE: Final = "note"
OUTPUT: Final = "output"
ARRIVAL: Final = "arrival"
PAGE: Final = "page"
DELTA: Final = "context change"
SNAPSHOT: Final = "context snapshot"
ERROR: Final = "error"

T = TypeVar("T")


# --- on the way to the store


def sealed_changes(sealing: Sealing, run_id: RunId, changes: Iterable[c.Change]) -> tuple[c.Change, ...]:
    """Return changes as they are stored: every payload and every text of an error sealed for its place.

    Raises:
        MissingKeyError: An item takes over what was sealed for another one, and this process lacks the key.
        CodecError: A codec fails.
    """
    table = _SEALED if sealing.is_on else _TAKEN_OVER
    return tuple([table[type(each)](sealing, run_id, each) if type(each) in table else each for each in changes])


def _put_item(sealing: Sealing, run_id: RunId, change: c.PutItem) -> c.Change:
    item = _sealed_item(sealing, run_id, change.item)
    return change if item is change.item else c.PutItem(item, change.is_listed)


def _sealed_item(sealing: Sealing, run_id: RunId, item: WorkItem) -> WorkItem:
    payload = _sealed_input(sealing, run_id, item)
    failure = None if item.failure is None else _sealed_failure(sealing, run_id, item, item.failure)
    note = item.note
    if item.status is WorkItemStatus.FAILED:  # the beginning of its error; all other notes are the engine's own
        note = sealing.seal_text(note, Place(run_id, NOTE, item.item_id), item.item_id)
    if payload is item.input.payload and failure is item.failure and note is item.note:
        return item
    return replace(item, input=replace(item.input, payload=payload), failure=failure, note=note)


def _sealed_input(sealing: Sealing, run_id: RunId, item: WorkItem) -> bytes:
    """Return an item's input sealed for it; what was sealed for it before comes back as it was.

    Raises:
        MissingKeyError: It was sealed for another item, whose input this one takes over, and the key is missing.
        UnreadableRecordError: The same, and it cannot be opened.
    """
    payload, item_id = item.input.payload, item.item_id
    if not payload or (type(payload) is bytes and not sealing.is_on):
        return payload
    if isinstance(payload, Sealed) and payload.item_id == item_id:
        return payload
    if isinstance(payload, Unsealed) and payload.envelope is not None and payload.item_id == item_id:
        return payload.envelope
    plain = sealing.open(payload, Place(run_id, INPUT, payload.item_id)) if isinstance(payload, Sealed) else payload
    sealed = sealed_payload(sealing.seal(plain, Place(run_id, INPUT, item_id)), item_id)
    if isinstance(payload, Unsealed) and isinstance(sealed, Sealed):
        payload.item_id, payload.envelope = item_id, sealed
    return sealed


def _sealed_failure(sealing: Sealing, run_id: RunId, item: WorkItem, failure: FailureInfo) -> FailureInfo:
    text = failure.message
    if isinstance(text, SealedText) and text.item_id != item.item_id:  # of the item whose branch this one goes on
        text = sealing.open_text(text, Place(run_id, ITEM_FAILURE, text.item_id))
    text = sealing.seal_text(text, Place(run_id, ITEM_FAILURE, item.item_id), item.item_id)
    return failure if text is failure.message else replace(failure, message=text)


def _put_header(sealing: Sealing, run_id: RunId, change: c.PutHeader) -> c.Change:
    header = change.header
    return c.PutHeader(
        replace(
            header,
            input=sealing.seal(header.input, Place(run_id, RUN_INPUT)),
            context=sealing.seal(header.context, Place(run_id, RUN_CONTEXT)),
        )
    )


def _put_run(sealing: Sealing, run_id: RunId, change: c.PutRun) -> c.Change:
    failure = change.state.failure
    if failure is None:
        return change
    error = _sealed_error(sealing, run_id, RUN_FAILURE, "", failure.error)
    return c.PutRun(replace(change.state, failure=replace(failure, error=error)), change.was)


def _sealed_error(sealing: Sealing, run_id: RunId, kind: str, name: str, error: ErrorInfo) -> ErrorInfo:
    message, traceback = _text_places(run_id, kind, name)
    return replace(
        error,
        message=sealing.seal_text(error.message, message),
        traceback=sealing.seal_text(error.traceback, traceback),
    )


def _append_error(sealing: Sealing, run_id: RunId, change: c.AppendError) -> c.Change:
    record = change.record
    return c.AppendError(
        replace(record, error=_sealed_error(sealing, run_id, ERROR, _name_of_error(record), record.error))
    )


def _append_delta(sealing: Sealing, run_id: RunId, change: c.AppendDelta) -> c.Change:
    return c.AppendDelta(change.item_id, sealing.seal(change.delta, Place(run_id, DELTA, change.item_id)))


def _arrive(sealing: Sealing, run_id: RunId, change: c.Arrive) -> c.Change:
    place = arrival_place(run_id, change.opener, keys.arrival_entry(change.order, change.item_id))
    return replace(change, payload=sealing.seal(change.payload, place))


def _put_page(sealing: Sealing, run_id: RunId, change: c.PutPage) -> c.Change:
    opener, number = change.opener, change.number
    routes = tuple(
        [
            replace(route, payload=sealing.seal(route.payload, _page_place(run_id, opener, number, place)))
            for place, route in enumerate(change.routes)
        ]
    )
    return c.PutPage(opener, number, routes)


def _open_scope(sealing: Sealing, run_id: RunId, change: c.OpenScope) -> c.Change:
    then = _sealed_item(sealing, run_id, change.scope.then)
    return change if then is change.scope.then else c.OpenScope(replace(change.scope, then=then))


def _when(sealing: Sealing, run_id: RunId, change: c.WhenScope | c.WhenCount) -> c.Change:
    return replace(
        change,
        then=sealed_changes(sealing, run_id, change.then),
        otherwise=sealed_changes(sealing, run_id, change.otherwise),
    )


_SEALED: Final = cast(
    "dict[type, Callable[[Sealing, RunId, Any], c.Change]]",
    {
        c.PutItem: _put_item,
        c.PutHeader: _put_header,
        c.PutRun: _put_run,
        c.AppendError: _append_error,
        c.AppendDelta: _append_delta,
        c.Arrive: _arrive,
        c.PutPage: _put_page,
        c.OpenScope: _open_scope,
        c.WhenScope: _when,
        c.WhenCount: _when,
    },
)
_TAKEN_OVER: Final[dict[type, Callable[[Sealing, RunId, Any], c.Change]]] = {
    kind: _SEALED[kind] for kind in (c.PutItem, c.OpenScope, c.WhenScope, c.WhenCount)
}
"""What matters even where nothing is sealed: an item may take over what was sealed for another one."""


# --- on the way back


def input_of(sealing: Sealing, run_id: RunId, item: WorkItem) -> bytes:
    """Return an item's input, opened.

    Raises:
        MissingKeyError: This process lacks the key or the codec.
        UnreadableRecordError: It was changed, it belongs elsewhere, or it is not encrypted and has to be.
    """
    payload = item.input.payload
    if isinstance(payload, Unsealed):  # made in this process
        return payload
    sealed_for = payload.item_id if isinstance(payload, Sealed) else item.item_id  # another's input, taken over
    return sealing.open(payload, Place(run_id, INPUT, sealed_for))


def check_failure(sealing: Sealing, run_id: RunId, item: WorkItem) -> None:
    """Make sure that the node which runs an item sees why its branch runs, where it is a fallback's.

    Raises:
        MissingKeyError, UnreadableRecordError: It cannot be opened.
    """
    if item.failure is not None and isinstance(item.failure.message, SealedText):
        sealing.open_text(item.failure.message, Place(run_id, ITEM_FAILURE, item.item_id))


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
    return replace(record, error=_readable_error(sealing, run_id, ERROR, _name_of_error(record), record.error))


def _readable_error(sealing: Sealing, run_id: RunId, kind: str, name: str, error: ErrorInfo) -> ErrorInfo:
    if not isinstance(error.message, SealedText) and not isinstance(error.traceback, SealedText):
        return error
    message, traceback = _text_places(run_id, kind, name)
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
            replace(route, payload=Unsealed(sealing.open(route.payload, _page_place(run_id, opener, number, place))))
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


# --- places


def arrival_place(run_id: RunId, opener: str, entry: str) -> Place:
    """Return where a value belongs that reached a join, or with no opener an output of the run."""
    return Place(run_id, ARRIVAL, f"{opener} {entry}") if opener else Place(run_id, OUTPUT, entry)


def _page_place(run_id: RunId, opener: WorkItemId | str, number: int, place: int) -> Place:
    return Place(run_id, PAGE, f"{opener} {number} {place}")


def _text_places(run_id: RunId, kind: str, name: str) -> tuple[Place, Place]:
    return Place(run_id, f"message of the {kind}", name), Place(run_id, f"traceback of the {kind}", name)


def _name_of_error(record: ErrorRecord) -> str:
    return f"{record.item_id} {record.attempt}"
