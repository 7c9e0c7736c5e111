"""Reading the fields of a context from its class: annotations, reducers, defaults, and what cannot be a field."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar, get_args, get_origin

from floxide_amqp.core.context_fields import ContextField, FixedField, ValueField
from floxide_amqp.core.event_log import EventLog
from floxide_amqp.core.growing_fields import AppendField, LogField
from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.payload_shapes import type_hints, unwrap
from floxide_amqp.core.plain import type_name
from floxide_amqp.core.reducers import Append, LastWrite, Reducer, problem_of_field, problem_without_reducer
from floxide_amqp.exceptions import CodecError, DefinitionError

T = TypeVar("T")

Nested: TypeAlias = Callable[[str, object], ContextField | None]
"""Gives the field of a name and a type that is a context, which has fields of its own; None of any other type."""


class _Fixed:
    """The note that `Fixed` leaves in an annotation."""

    def __repr__(self) -> str:
        return "Fixed"


Fixed = Annotated[T, _Fixed()]
"""``customer: Fixed[str]``: given at start, the same for the whole run."""


def read_fields(cls: type[Any], nested: Nested) -> dict[str, ContextField]:
    """Return the fields that a class declares itself, by name; their defaults are taken from the class.

    Args:
        cls: A context class that is being made.
        nested: Gives the field of a nested context.

    Raises:
        DefinitionError: A field cannot be one; the message says why, and what to write in its place.
    """
    own = inspect.get_annotations(cls)
    _refuse_unannotated(cls, own)
    try:
        hints = type_hints(cls)
    except NameError as error:
        raise DefinitionError(
            f"{cls.__name__} uses the name {error.name!r} in an annotation, and it is not known when the class is "
            "made. Import it outside `if TYPE_CHECKING:`, or define it before the class."
        ) from error
    fields: dict[str, ContextField] = {}
    for name in own:
        if get_origin(hints[name]) is not ClassVar:
            fields[name] = _read_field(cls, name, hints[name], nested)
            _read_default(cls, fields[name])
    return fields


def _refuse_unannotated(cls: type[Any], own: Mapping[str, Any]) -> None:
    for name, value in cls.__dict__.items():
        is_plain_value = not callable(value) and not hasattr(value, "__get__")
        if name not in own and not name.startswith("__") and is_plain_value:
            raise DefinitionError(
                f"{cls.__name__}.{name} has a value but no annotation. Write {name}: {type_name(value)} = …, "
                "or ClassVar[...] for what is no field."
            )
    for name in own:
        if name.startswith("_"):
            raise DefinitionError(f"{cls.__name__}.{name} starts with an underscore. Give the field a public name.")


def _read_field(cls: type[Any], name: str, hint: Any, nested: Nested) -> ContextField:
    where = f"{cls.__name__}.{name}"
    notes: tuple[Any, ...] = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    bare = unwrap(hint)
    if bare is EventLog or get_origin(bare) is EventLog:
        return LogField(name, PayloadType.of((get_args(bare) or (Any,))[0], where=f"the events of {where}"))
    inner = nested(name, bare)
    if inner is not None:
        return inner
    payload = PayloadType.of(hint, where=where)
    if any(isinstance(note, _Fixed) for note in notes):
        return FixedField(name, payload)
    reducer = _reducer_of(where, notes)
    if reducer is None:
        problem_without = problem_without_reducer(name, where, payload.description, payload.shape)
        if problem_without is not None:
            raise DefinitionError(problem_without)
        reducer = LastWrite()
    problem = problem_of_field(reducer, payload.shape)
    if problem is not None:
        raise DefinitionError(
            f"{where} is {payload.description}, but {problem[0]}. Give it the type {problem[1]}, or another reducer."
        )
    return AppendField(name, payload) if isinstance(reducer, Append) else ValueField(name, payload, reducer)


def _reducer_of(where: str, notes: tuple[Any, ...]) -> Reducer[Any] | None:
    for note in notes:
        if isinstance(note, type) and hasattr(note, "merge") and hasattr(note, "diff"):
            raise DefinitionError(f"{where} names the reducer class {note.__name__}. Make one: {note.__name__}().")
    reducers: list[Reducer[Any]] = [note for note in notes if isinstance(note, Reducer)]
    if len(reducers) > 1:
        raise DefinitionError(f"{where} has {len(reducers)} reducers. Keep one.")
    return reducers[0] if reducers else None


def _read_default(cls: type[Any], field: ContextField) -> None:
    """Keep the default as a cell, so that every run gets a copy, and take it from the class."""
    if field.name not in cls.__dict__:
        return
    value = cls.__dict__[field.name]
    try:
        field.default = field.cell_of(value)
    except CodecError as error:
        raise DefinitionError(
            f"The default of {cls.__name__}.{field.name} is not of the field's type: {error} Give it one that is."
        ) from error
    field.has_default = True
    delattr(cls, field.name)
