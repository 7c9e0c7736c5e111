"""Fields of a context that only grow: appended lists and event logs, whose deltas are what was added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

from floxide_amqp.core.context_fields import NamedField, ValueField, pair_of
from floxide_amqp.core.event_log import EventLog, EventStore, StoredEvent, is_event_log, new_events, view_of
from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.plain import is_same_plain, type_name
from floxide_amqp.core.reducers import Append, ChangeRefusedError
from floxide_amqp.exceptions import CodecError


class AppendCell(NamedTuple):
    """The first `length` elements of a list that grows only at its end."""

    elements: list[object]
    length: int
    tag: str


class AppendField(ValueField):
    """A list or tuple to which nodes append: committing costs what was appended, not what was there."""

    def __init__(self, name: str, payload: PayloadType) -> None:
        super().__init__(name, payload, Append())
        self._is_tuple = payload.shape.kind == "tuple"

    def cell_of(self, value: Any) -> AppendCell:  # type: ignore[override]  # a cell is private to its kind of field
        """Return the elements as plain data."""
        tag, plain = self.payload.dump(value)
        return _append_cell(tag, plain)

    def value_of(self, cell: AppendCell, origin: str) -> object:  # type: ignore[override]  # as above
        """Return a fresh list or tuple of all elements."""
        return self.payload.load(cell.tag, self._plain_of(cell))

    def delta_of(self, cell: AppendCell, value: Any) -> object:  # type: ignore[override]  # as above
        """Return the elements appended.

        Raises:
            ChangeRefusedError: An element that was there before is gone or differs.
        """
        tag, plain = self.payload.dump(value)
        elements = _elements(plain)
        if not (_starts_with(elements, cell.elements[: cell.length]) or self._starts_normally(elements, cell)):
            raise ChangeRefusedError(
                "changed elements that were there before, and Append() only ever adds at the end",
                "append only, or use LastWrite()",
            )
        added = elements[cell.length :]
        return [tag, tuple(added) if self._is_tuple else list(added)] if added else None

    def merged(self, cell: AppendCell, delta: Any) -> AppendCell:  # type: ignore[override]  # as above
        """Return the cell with the elements at its end."""
        tag, plain = pair_of(delta)
        self.payload.load(tag, plain)
        elements = cell.elements
        if len(elements) != cell.length:  # another state has grown this list further: from here on it is not shared
            elements = elements[: cell.length]
        elements.extend(_elements(plain))
        return AppendCell(elements, len(elements), cell.tag)

    def to_plain(self, cell: AppendCell, first: int = 0) -> object:  # type: ignore[override]  # as above
        """Return ``[tag, elements]``, the elements from a position on."""
        return [cell.tag, self._plain_of(cell, first)]

    def length_of(self, cell: AppendCell) -> int:
        """Return how many elements there are."""
        return cell.length

    def elements(self, cell: AppendCell, first: int, last: int) -> list[object]:
        """Return the elements from a position to before another."""
        return cell.elements[first : min(last, cell.length)]

    def led_by(self, elements: Sequence[object], plain: Any) -> object:
        """Return what `to_plain` would have given, of what it gave from a position on and the elements before it."""
        tag, rest = pair_of(plain)
        together = [*elements, *_elements(rest)]
        return [tag, tuple(together) if self._is_tuple else together]

    def from_plain(self, plain: Any) -> AppendCell:  # type: ignore[override]  # as above
        """Return the cell, with a list of its own."""
        return _append_cell(*pair_of(plain))

    def _starts_normally(self, elements: Sequence[object], cell: AppendCell) -> bool:
        _, before = self.payload.dump(self.payload.load(cell.tag, self._plain_of(cell)))
        return _starts_with(elements, _elements(before))

    def _plain_of(self, cell: AppendCell, first: int = 0) -> object:
        elements = cell.elements[first : cell.length]
        return tuple(elements) if self._is_tuple else elements


class LogCell(NamedTuple):
    """The first `length` events of a store."""

    store: EventStore
    length: int


class LogField(NamedField):
    """An `EventLog`: everything a node or a commit does costs what was appended."""

    def cell_of(self, value: Any) -> LogCell:
        """Return the log's events under their ids.

        Raises:
            CodecError: The value is no event log, or an event is not of its type.
        """
        if not is_event_log(value):
            raise CodecError(f"{self.name} is an EventLog[{self.payload.description}], but got {type_name(value)}.")
        store = EventStore()
        for event_id, event in value.items():
            store.add((event_id, *self.payload.dump(event)))
        return LogCell(store, len(store.entries))

    def value_of(self, cell: LogCell, origin: str) -> EventLog[Any]:
        """Return a log that shows the committed events and keeps what is appended to itself."""
        return view_of(cell.store, cell.length, self.payload, origin)

    def refuse_assignment(self) -> None:
        """Refuse it: a log is appended to, not replaced.

        Raises:
            ChangeRefusedError: Always.
        """
        raise ChangeRefusedError("was assigned, and an EventLog only ever grows", "call append() or merge() on it")

    def delta_of(self, cell: LogCell, value: Any) -> object:
        """Return the events appended."""
        added = new_events(value, self.payload)
        return [list(entry) for entry in added] or None

    def merged(self, cell: LogCell, delta: Any) -> LogCell:
        """Return the cell with the events whose ids are new."""
        store = cell.store
        if len(store.entries) != cell.length:  # another state has grown this store further
            store = _store_of(store.entries[: cell.length])
        for event_id, tag, plain in _entries(delta):
            store.add((event_id, tag, plain))
        return LogCell(store, len(store.entries))

    def to_plain(self, cell: LogCell, first: int = 0) -> object:
        """Return ``[[id, tag, plain], …]``, the events from a position on."""
        return self.elements(cell, first, cell.length)

    def length_of(self, cell: LogCell) -> int:
        """Return how many events there are."""
        return cell.length

    def elements(self, cell: LogCell, first: int, last: int) -> list[object]:
        """Return the events from a position to before another, as `to_plain` does."""
        return [list(entry) for entry in cell.store.entries[first : min(last, cell.length)]]

    def led_by(self, elements: Sequence[object], plain: Any) -> object:
        """Return what `to_plain` would have given, of what it gave from a position on and the events before it.

        Raises:
            CodecError: What was stored is no event log.
        """
        if not isinstance(plain, list | tuple):
            raise CodecError("A stored event log is no list.")
        return [*elements, *cast("list[object]", plain)]

    def from_plain(self, plain: Any) -> LogCell:
        """Return the cell; events are checked when they are read."""
        store = _store_of(_entries(plain))
        return LogCell(store, len(store.entries))


GROWING: Final = (LogField, AppendField)
"""Fields that only ever grow at their end: what is there stays there."""


def _starts_with(elements: Sequence[object], beginning: Sequence[object]) -> bool:
    return len(elements) >= len(beginning) and all(map(is_same_plain, elements, beginning))


def _elements(plain: Any) -> list[object] | tuple[object, ...]:
    if not isinstance(plain, list | tuple):
        raise CodecError("A stored Append() field is no list.")
    return cast("list[object] | tuple[object, ...]", plain)


def _append_cell(tag: str, plain: object) -> AppendCell:
    elements = list(_elements(plain))
    return AppendCell(elements, len(elements), tag)


def _entries(plain: Any) -> list[StoredEvent]:
    entries: list[StoredEvent] = []
    if not isinstance(plain, list | tuple):
        raise CodecError("A stored event log is no list.")
    for entry in cast("list[Any]", plain):
        found = tuple(cast("list[Any]", entry)) if isinstance(entry, list | tuple) else ()
        if len(found) != 3 or type(found[0]) is not str or type(found[1]) is not str:
            raise CodecError("A stored event is no triple of id, tag and data.")
        entries.append(cast("StoredEvent", found))
    return entries


def _store_of(entries: Sequence[StoredEvent]) -> EventStore:
    store = EventStore()
    for entry in entries:
        store.add(entry)
    return store
