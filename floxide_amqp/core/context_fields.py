"""The kinds of field a context has, each as four functions over its *cell*.

A cell is what is committed for one field, never changed in place, so that any number of views can share it:
``(tag, plain)`` for a value, ``(store, length)`` for an event log and for an appended list (`growing_fields`), a
mapping of cells for a nested context. A delta is what one node did to one field, as plain data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol, cast

from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.plain import is_same_plain
from floxide_amqp.core.reducers import ChangeRefusedError, LastWrite, Reducer
from floxide_amqp.core.shapes import SCALARS
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


class NamedField:
    """What all kinds of fields have: a name, a type, and perhaps a default."""

    def __init__(self, name: str, payload: PayloadType) -> None:
        self.name = name
        self.payload = payload
        self.default: object = None
        self.has_default = False

    def refuse_assignment(self) -> None:
        """Allow it."""


class ValueField(NamedField):
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
        tag, plain = pair_of(delta)
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
        return ValueCell(*pair_of(plain))


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
        """Refuse any delta.

        Raises:
            CodecError: Always: no node can have written one.
        """
        raise CodecError(f"A stored change names the field {self.name!r}, which is Fixed.")


def _fixed_changed() -> ChangeRefusedError:
    return ChangeRefusedError(
        "was changed, and it is Fixed: given at start and the same for the whole run",
        "drop Fixed[...] from its annotation, or keep the new value in another field",
    )


def _is_same(one: tuple[str, object], other: tuple[str, object]) -> bool:
    return one[0] == other[0] and is_same_plain(one[1], other[1])


def pair_of(plain: Any) -> tuple[str, object]:
    """Return a stored field's tag and data.

    Raises:
        CodecError: It is no such pair.
    """
    parts = cast("Sequence[Any]", plain)
    if not isinstance(plain, list | tuple) or len(parts) != 2 or not isinstance(parts[0], str):
        raise CodecError("A stored context field is no pair of a tag and data.")
    return parts[0], parts[1]
