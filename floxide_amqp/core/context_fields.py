"""The kinds of field a context has, each as four functions over its *cell*.

A cell is what is committed for one field, never changed in place, so that any number of views can share it:
``(tag, plain)`` for a value, ``(store, length)`` for an event log and for an appended list, a mapping of cells for a
nested context. A delta is what one node did to one field, as plain data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol, cast

from floxide_amqp.core.event_log import EventLog, EventStore, StoredEvent, is_event_log, new_events, view_of
from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.payload_shapes import SCALARS
from floxide_amqp.core.plain import is_same_plain, type_name
from floxide_amqp.core.reducers import Append, ChangeRefusedError, LastWrite, Reducer
from floxide_amqp.exceptions import CodecError

_IMMUTABLE: Final = frozenset(SCALARS)


class ContextField(Protocol):
    """What a context asks of a field, whatever its kind."""

    name: str
    default: object
    has_default: bool

    def cell_of(self, value: Any) -> object:
        """Return the cell of a value given at start; raises `CodecError` where it is of another type."""
        ...

    def value_of(self, cell: Any, origin: str) -> object:
        """Return a value of its own for one view."""
        ...

    def delta_of(self, cell: Any, value: Any) -> object:
        """Return what turned the cell into `value`, None where nothing did."""
        ...

    def merged(self, cell: Any, delta: Any) -> object:
        """Return the cell with a delta on top."""
        ...

    def to_plain(self, cell: Any) -> object:
        """Return the cell as plain data."""
        ...

    def from_plain(self, plain: Any) -> object:
        """Return the cell that `to_plain` was given."""
        ...

    def refuse_assignment(self) -> None:
        """Raise `ChangeRefusedError` where a node must not assign to this field."""
        ...


class ValueCell(NamedTuple):
    """A committed value."""

    tag: str
    plain: object


class _Field:
    """What all kinds have."""

    def __init__(self, name: str, payload: PayloadType) -> None:
        self.name = name
        self.payload = payload
        self.default: object = None
        self.has_default = False

    def refuse_assignment(self) -> None:
        """Allow it."""


class ValueField(_Field):
    """A value merged by a reducer."""

    def __init__(self, name: str, payload: PayloadType, reducer: Reducer[Any]) -> None:
        super().__init__(name, payload)
        self.reducer = reducer
        self._is_last_write = isinstance(reducer, LastWrite)

    def cell_of(self, value: Any) -> ValueCell:
        """Return the value's tag and plain data."""
        return ValueCell(*self.payload.dump(value))

    def value_of(self, cell: ValueCell, origin: str) -> object:
        """Return a fresh copy of the value."""
        return self.payload.load(cell.tag, cell.plain)

    def delta_of(self, cell: ValueCell, value: Any) -> object:
        """Return the reducer's delta, or for LastWrite the value where it would be stored differently."""
        if self._is_last_write:
            if type(value) in _IMMUTABLE and value is cell.plain:
                return None
            dumped = self.payload.dump(value)
            return None if self._is_unchanged(cell, dumped) else list(dumped)
        before = self.payload.load(cell.tag, cell.plain)
        if type(value) is not type(before):
            self.payload.dump(value)  # a value of another type is named as such before a reducer trips over it
        delta = self.reducer.diff(before, value)
        return None if delta is None else list(self.payload.dump(delta))

    def _is_unchanged(self, cell: ValueCell, dumped: tuple[str, object]) -> bool:
        """Say whether a value is the committed one.

        Loading may put data into its normal form (the key order of a TypedDict, an int where a float is declared), and
        a node that only read must not write: what differs is compared again with the committed value in that form.
        """
        return _is_same(cell, dumped) or _is_same(self.payload.dump(self.payload.load(*cell)), dumped)

    def merged(self, cell: ValueCell, delta: Any) -> ValueCell:
        """Return the cell after the reducer's merge."""
        tag, plain = _pair(delta)
        if self._is_last_write:
            self.payload.load(tag, plain)
            return ValueCell(tag, plain)
        merged = self.reducer.merge(self.payload.load(cell.tag, cell.plain), self.payload.load(tag, plain))
        return ValueCell(*self.payload.dump(merged))

    def to_plain(self, cell: ValueCell) -> object:
        """Return ``[tag, plain]``."""
        return list(cell)

    def from_plain(self, plain: Any) -> ValueCell:
        """Return the cell; the value is checked when it is read."""
        return ValueCell(*_pair(plain))


class FixedField(ValueField):
    """A value given at start that never changes."""

    def __init__(self, name: str, payload: PayloadType) -> None:
        super().__init__(name, payload, LastWrite())

    def refuse_assignment(self) -> None:
        """Refuse it."""
        raise _fixed_changed()

    def delta_of(self, cell: ValueCell, value: Any) -> object:
        """Return None.

        Raises:
            ChangeRefusedError: The value was edited in place.
        """
        if super().delta_of(cell, value) is not None:
            raise _fixed_changed()
        return None

    def merged(self, cell: ValueCell, delta: Any) -> ValueCell:
        """Refuse any delta."""
        raise CodecError(f"A stored change names the field {self.name!r}, which is Fixed.")


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
        tag, plain = _pair(delta)
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
        tag, rest = _pair(plain)
        together = [*elements, *_elements(rest)]
        return [tag, tuple(together) if self._is_tuple else together]

    def from_plain(self, plain: Any) -> AppendCell:  # type: ignore[override]  # as above
        """Return the cell, with a list of its own."""
        return _append_cell(*_pair(plain))

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


class LogField(_Field):
    """An `EventLog`: everything a node or a commit does costs what was appended."""

    def cell_of(self, value: Any) -> LogCell:
        """Return the log's events under their ids."""
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
        """Refuse it: a log is appended to, not replaced."""
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
        """Return what `to_plain` would have given, of what it gave from a position on and the events before it."""
        if not isinstance(plain, list | tuple):
            raise CodecError("A stored event log is no list.")
        return [*elements, *cast("list[object]", plain)]

    def from_plain(self, plain: Any) -> LogCell:
        """Return the cell; events are checked when they are read."""
        store = _store_of(_entries(plain))
        return LogCell(store, len(store.entries))


GROWING: Final = (LogField, AppendField)
"""Fields that only ever grow at their end: what is there stays there."""


def _fixed_changed() -> ChangeRefusedError:
    return ChangeRefusedError(
        "was changed, and it is Fixed: given at start and the same for the whole run",
        "drop Fixed[...] from its annotation, or keep the new value in another field",
    )


def _is_same(one: tuple[str, object], other: tuple[str, object]) -> bool:
    return one[0] == other[0] and is_same_plain(one[1], other[1])


def _starts_with(elements: Sequence[object], beginning: Sequence[object]) -> bool:
    return len(elements) >= len(beginning) and all(map(is_same_plain, elements, beginning))


def _pair(plain: Any) -> tuple[str, object]:
    parts = cast("Sequence[Any]", plain)
    if not isinstance(plain, list | tuple) or len(parts) != 2 or not isinstance(parts[0], str):
        raise CodecError("A stored context field is no pair of a tag and data.")
    return parts[0], parts[1]


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
