"""A context in parts, for the store: the long fields piece by piece, and the rest.

What an `EventLog` or an `Append` field holds stays there, so what was written of it once need not be written again. A
context that stands still gives out any piece of a long field, and what is left without the pieces that were kept.
Fields are named by their path: ``log``, or ``billing.log`` in a nested context.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from floxide_amqp.core.context import Cells, Context, ContextState, NestedField
from floxide_amqp.core.growing_fields import GROWING, AppendField, LogField
from floxide_amqp.exceptions import CodecError

C = TypeVar("C", bound=Context)


class StillContext:
    """A context as it stood at one moment; what is applied to its state later does not show.

    Attributes:
        lengths: How many elements each long field has, by its path.
    """

    def __init__(self, state: ContextState[Any]) -> None:
        self._context, self._cells = state.parts
        self._long = {path: (field, cell) for path, field, cell in _long_cells(self._context, self._cells)}
        self.lengths = {path: field.length_of(cell) for path, (field, cell) in self._long.items()}

    def elements(self, path: str, first: int, last: int) -> list[object]:
        """Return the elements of a long field from a position to before another, as plain data."""
        field, cell = self._long[path]
        return field.elements(cell, first, last)

    def rest(self, kept: Mapping[str, int]) -> dict[str, object]:
        """Return all of it as plain data, without so many of the first elements of each long field."""
        return _rest(self._context, self._cells, kept, "")


def put_together(context: type[C], rest: object, beginnings: Mapping[str, Sequence[object]]) -> ContextState[C]:
    """Return the state of a context from its rest and the elements left out of that.

    A beginning of a field that the class does not have any more is left out, like the field itself.

    Raises:
        CodecError: They are no such things, or lack a field that has no default.
    """
    return ContextState.load(context, _whole(context, rest, beginnings, "") if beginnings else rest)


def _long_cells(
    context: type[Context], cells: Cells, above: str = ""
) -> Iterator[tuple[str, LogField | AppendField, Any]]:
    for name, field in context.__context_fields__.items():
        if isinstance(field, NestedField):
            yield from _long_cells(field.context, cast("Cells", cells[name]), f"{above}{name}.")
        elif isinstance(field, GROWING):
            yield above + name, field, cells[name]


def _rest(context: type[Context], cells: Cells, kept: Mapping[str, int], above: str) -> dict[str, object]:
    plain: dict[str, object] = {}
    for name, field in context.__context_fields__.items():
        if isinstance(field, NestedField):
            plain[name] = _rest(field.context, cast("Cells", cells[name]), kept, f"{above}{name}.")
        elif isinstance(field, GROWING):
            plain[name] = field.to_plain(cast("Any", cells[name]), kept.get(above + name, 0))
        else:
            plain[name] = field.to_plain(cells[name])
    return plain


def _whole(context: type[Context], rest: object, beginnings: Mapping[str, Sequence[object]], above: str) -> object:
    if not isinstance(rest, dict):
        raise CodecError("A stored context, or what is nested in one, is no dict.")
    plain = dict(cast("dict[str, object]", rest))
    for name, field in context.__context_fields__.items():
        path = above + name
        if name in plain and isinstance(field, NestedField):
            plain[name] = _whole(field.context, plain[name], beginnings, f"{path}.")
        elif name in plain and path in beginnings and isinstance(field, GROWING):
            plain[name] = field.led_by(beginnings[path], plain[name])
        elif path in beginnings:
            raise CodecError(f"The stored context keeps a beginning of {path!r}, which has another form now.")
    return plain
