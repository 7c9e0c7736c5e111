"""On the way to the store: a decision's changes with every payload and every text of an error sealed for its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from floxide_amqp.core import changes as c
from floxide_amqp.core.compensation import undoing_id
from floxide_amqp.core.failure import ErrorInfo, FailureInfo
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.kin_changes import PutChild
from floxide_amqp.core.log_changes import AppendCompensable, AppendDelta, AppendError
from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.stores import keys
from floxide_amqp.stores.fresh import Fresh
from floxide_amqp.stores.large_inputs import Carried, is_put
from floxide_amqp.stores.sealed import Place, Sealed, SealedText, Unsealed, sealed_payload
from floxide_amqp.stores.sealed_places import (
    CHILD,
    CHILD_OUTPUT,
    DELTA,
    ERROR,
    GIVEN,
    INPUT,
    ITEM_FAILURE,
    LETTER,
    NOTE,
    RUN_CONTEXT,
    RUN_FAILURE,
    RUN_INPUT,
    arrival_place,
    join_place,
    name_of_error,
    page_place,
    text_places,
)
from floxide_amqp.stores.sealing import Sealing


def sealed_changes(sealing: Sealing, run_id: RunId, changes: Iterable[c.Change]) -> tuple[c.Change, ...]:
    """Return changes as they are stored: every payload and every text of an error sealed for its place.

    Raises:
        MissingKeyError: An item takes over what was sealed for another one, and this process lacks the key.
        CodecError: A codec fails.
    """
    table = _SEALED if sealing.is_on else _TAKEN_OVER
    sealed: list[c.Change] = []
    for change in changes:
        seal = table.get(type(change))
        sealed.append(change if seal is None else seal(sealing, run_id, change))
    return tuple(sealed)


def bytes_carried(changes: Iterable[c.Change]) -> int:
    """Return about how many bytes there are to seal: inputs, outputs and changes of contexts, those of errors not."""
    total = 0
    for change in changes:
        if isinstance(change, c.PutItem):
            total += len(change.item.input.payload)
        elif isinstance(change, AppendDelta):
            total += len(change.delta)
        elif isinstance(change, c.Arrive | c.ArriveAt):
            total += len(change.payload)
        elif isinstance(change, c.PutPage):
            total += sum(len(route.payload) for route in change.routes)
        elif isinstance(change, c.PutHeader):
            total += len(change.header.input) + len(change.header.context)
        elif isinstance(change, c.WhenScope | c.WhenCount | c.WhenJoins):
            total += bytes_carried(change.then) + bytes_carried(change.otherwise)
    return total


_NEVER_SEALED: Final = frozenset({bytes, Carried, Fresh})
"""Classes of payloads that no codec has made anything of."""


def _put_item(sealing: Sealing, run_id: RunId, change: c.PutItem) -> c.Change:
    if not sealing.is_on and change.item.failure is None and type(change.item.input.payload) in _NEVER_SEALED:
        return change  # as of nearly all items where nothing is sealed
    item, dropped, payload = _sealed_item(sealing, run_id, change.item), change.dropped, change.item.input.payload
    if isinstance(dropped, Unsealed) and dropped.envelope is not None:
        dropped = dropped.envelope  # as the store has it
    elif item.input.payload is not payload and is_put(payload, item.item_id):
        dropped = payload  # it lies there as it was before there was a codec
    if item is change.item and dropped is change.dropped:
        return change
    return c.PutItem(item, change.is_listed, dropped)


def _sealed_item(sealing: Sealing, run_id: RunId, item: WorkItem) -> WorkItem:
    if not sealing.is_on and type(item.input.payload) is bytes and item.failure is None and not item.note:
        return item  # as nearly every item of a store that nothing is sealed in
    payload = _sealed_input(sealing, run_id, item)
    failure = None if item.failure is None else _sealed_failure(sealing, run_id, item, item.failure)
    note = item.note
    if item.status is WorkItemStatus.FAILED:  # the beginning of its error; all other notes are the engine's own
        note = sealing.seal_text(note, Place(run_id, NOTE, item.item_id), item.item_id)
    given = item.given
    if given is not None and sealing.is_on and not isinstance(given, Sealed):
        given = sealed_payload(sealing.seal(given, Place(run_id, GIVEN, item.item_id)), item.item_id)
    if payload is item.input.payload and failure is item.failure and note is item.note and given is item.given:
        return item
    return replace(item, input=replace(item.input, payload=payload), failure=failure, note=note, given=given)


def _sealed_input(sealing: Sealing, run_id: RunId, item: WorkItem) -> bytes:
    """Return an item's input sealed for it; what was sealed for it before comes back as it was.

    Raises:
        MissingKeyError: It was sealed for another item, whose input this one takes over, and the key is missing.
        UnreadableRecordError: The same, and it cannot be opened.
    """
    payload, item_id = item.input.payload, item.item_id
    if not payload or not (sealing.is_on or isinstance(payload, Sealed | Unsealed)):
        return payload
    if isinstance(payload, Sealed) and payload.item_id == item_id:
        return payload
    if isinstance(payload, Unsealed) and payload.envelope is not None and payload.item_id == item_id:
        return payload.envelope
    plain = sealing.open(payload, Place(run_id, INPUT, payload.item_id)) if isinstance(payload, Sealed) else payload
    sealed = sealed_payload(sealing.seal(plain, Place(run_id, INPUT, item_id)), item_id)
    if isinstance(payload, Unsealed):
        if not isinstance(sealed, Sealed):
            return payload  # no codec made anything of it
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
    message, traceback = text_places(run_id, kind, name)
    return replace(
        error,
        message=sealing.seal_text(error.message, message),
        traceback=sealing.seal_text(error.traceback, traceback),
    )


def _append_error(sealing: Sealing, run_id: RunId, change: AppendError) -> c.Change:
    record = change.record
    return AppendError(
        replace(record, error=_sealed_error(sealing, run_id, ERROR, name_of_error(record), record.error))
    )


def _append_delta(sealing: Sealing, run_id: RunId, change: AppendDelta) -> c.Change:
    return AppendDelta(change.item_id, sealing.seal(change.delta, Place(run_id, DELTA, change.item_id)))


def _append_compensable(sealing: Sealing, run_id: RunId, change: AppendCompensable) -> c.Change:
    step = change.step
    if step.output is None:
        return change
    place = Place(run_id, INPUT, undoing_id(run_id, step.item_id))  # there it goes as it is, without a key
    return AppendCompensable(replace(step, output=sealing.seal(step.output, place)))


def _arrive(sealing: Sealing, run_id: RunId, change: c.Arrive) -> c.Change:
    place = arrival_place(run_id, change.opener, keys.arrival_entry(change.order, change.item_id))
    return replace(change, payload=sealing.seal(change.payload, place))


def _arrive_at(sealing: Sealing, run_id: RunId, change: c.ArriveAt) -> c.Change:
    place = join_place(run_id, change.join_id, change.position, change.item_id)
    return replace(change, payload=sealing.seal(change.payload, place))


def _put_page(sealing: Sealing, run_id: RunId, change: c.PutPage) -> c.Change:
    opener, number = change.opener, change.number
    routes = tuple(
        [
            replace(route, payload=sealing.seal(route.payload, page_place(run_id, opener, number, place)))
            for place, route in enumerate(change.routes)
        ]
    )
    return c.PutPage(opener, number, routes)


def _post_letter(sealing: Sealing, run_id: RunId, change: c.PostLetter) -> c.Change:
    letter = change.letter
    if not letter.payload:
        return change
    payload = sealing.seal(letter.payload, Place(run_id, LETTER, letter.letter_id))
    return c.PostLetter(replace(letter, payload=payload))


def _put_child(sealing: Sealing, run_id: RunId, change: PutChild) -> c.Change:
    child = change.child
    error = None if child.error is None else _sealed_error(sealing, run_id, CHILD, child.run_id, child.error)
    output = sealing.seal(child.output, Place(run_id, CHILD_OUTPUT, child.run_id)) if child.output else b""
    return PutChild(replace(child, output=output, error=error), is_new=change.is_new)


def _put_scope(sealing: Sealing, run_id: RunId, change: c.OpenScope | c.CloseScope) -> c.Change:
    then = _sealed_item(sealing, run_id, change.scope.then)
    return change if then is change.scope.then else replace(change, scope=replace(change.scope, then=then))


def _when(sealing: Sealing, run_id: RunId, change: c.WhenScope | c.WhenCount | c.WhenJoins) -> c.Change:
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
        AppendError: _append_error,
        AppendDelta: _append_delta,
        AppendCompensable: _append_compensable,
        c.Arrive: _arrive,
        c.ArriveAt: _arrive_at,
        c.PutPage: _put_page,
        c.OpenScope: _put_scope,
        c.CloseScope: _put_scope,
        c.PostLetter: _post_letter,
        PutChild: _put_child,
        c.WhenScope: _when,
        c.WhenCount: _when,
        c.WhenJoins: _when,
    },
)
_TAKEN_OVER: Final[dict[type, Callable[[Sealing, RunId, Any], c.Change]]] = {
    kind: _SEALED[kind] for kind in (c.PutItem, c.OpenScope, c.CloseScope, c.WhenScope, c.WhenCount, c.WhenJoins)
}
"""What matters even where nothing is sealed: an item may take over what was sealed for another one."""
