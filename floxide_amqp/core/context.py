"""The run's shared state: what users declare, what a node receives, and what it changed.

A node works on a *view*: a context of its own over the committed cells, which materialises only the fields it
touches. `delta_of` says what it did; `ContextState.apply` merges deltas in commit order. Nothing here ever writes a
whole context because one field changed.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    TypeAlias,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
)

from floxide_amqp.core.context_fields import AppendField, ContextField, FixedField, LogField, ValueField
from floxide_amqp.core.event_log import EventLog
from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.payload_shapes import type_hints, unwrap
from floxide_amqp.core.plain import type_name
from floxide_amqp.core.reducers import (
    Append,
    ChangeRefusedError,
    LastWrite,
    Max,
    Min,
    Reducer,
    Sum,
    Union,
    problem_of_field,
    problem_without_reducer,
)
from floxide_amqp.exceptions import CodecError, ContextChangeError, DefinitionError, UndecodableError

T = TypeVar("T")
C = TypeVar("C", bound="Context")
D = TypeVar("D", bound="Context")  # of a class method: pyright does not solve the class's own there

INITIAL_ORIGIN: Final = "initial"
"""Origin of the events that a run's context starts with."""

Cells: TypeAlias = Mapping[str, object]


class _Fixed:
    """The note that `Fixed` leaves in an annotation."""

    def __repr__(self) -> str:
        return "Fixed"


Fixed = Annotated[T, _Fixed()]
"""``customer: Fixed[str]``: given at start, the same for the whole run."""


@dataclass_transform(kw_only_default=True)
class Context:
    """The shared state of a run: a class with annotated fields, given by keyword, defaults copied per run.

    A field is ``Fixed[T]``, an ``EventLog[T]``, another `Context`, or a value with a reducer:
    ``Annotated[int, Sum()]``. A field without a reducer keeps the last value written, as with `LastWrite`; a list, set,
    frozenset or dict must name its reducer, since the last write would lose what other nodes added at the same time.

        class OrderContext(Context):
            customer: Fixed[str]
            log: EventLog[str] = EventLog()
            packed: Annotated[list[str], Append()] = []
            spent: Annotated[int, Sum()] = 0

    Raises:
        DefinitionError: When a subclass is created: a field's type cannot be carried, its reducer cannot merge it, or a
            collection names no reducer.
        CodecError: A value given is not of its field's type.
        TypeError: A field without default is not given, or there is no such field.
    """

    __slots__ = ("_cells", "_origin")
    _cells: Cells  # what is committed; set by _open, past __setattr__
    _origin: str
    __context_fields__: ClassVar[Mapping[str, ContextField]] = MappingProxyType({})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        inherited = dict(cls.__context_fields__)
        cls.__context_fields__ = MappingProxyType(inherited | _read_fields(cls))

    def __init__(self, **values: Any) -> None:
        fields = type(self).__context_fields__
        _check_names(type(self).__name__, fields, values)
        cells = {name: f.cell_of(values[name]) if name in values else f.default for name, f in fields.items()}
        _open(self, cells, INITIAL_ORIGIN)

    if not TYPE_CHECKING:  # type checkers would take it as leave for any name

        def __getattr__(self, name: str) -> Any:
            field = type(self).__context_fields__.get(name)
            if field is None:
                raise AttributeError(_no_field(type(self), name))
            try:
                value = field.value_of(self._cells[name], self._origin)
            except UndecodableError:
                raise
            except CodecError as error:
                raise UndecodableError(what=f"{type(self).__name__}.{name}", problem=str(error)) from error
            self.__dict__[name] = value
            return value

    def __setattr__(self, name: str, value: Any) -> None:
        field = type(self).__context_fields__.get(name)
        if field is None:
            raise AttributeError(_no_field(type(self), name))
        try:
            field.refuse_assignment()
        except ChangeRefusedError as error:
            raise _change_error(self, name, error) from None
        self.__dict__[name] = value

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted; set it to a value that means nothing.")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in type(self).__context_fields__)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), context_to_plain(self))

    __hash__ = None  # type: ignore[assignment]  # a context changes

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in type(self).__context_fields__)
        return f"{type(self).__name__}({fields})"


class NestedField:
    """A context inside a context, merged field by field."""

    def __init__(self, name: str, context: type[Context]) -> None:
        self.name = name
        self.context = context
        self.default: object = None
        self.has_default = False

    def cell_of(self, value: Any) -> object:
        """Return the cells of a context given at start."""
        if type(value) is not self.context:
            raise CodecError(f"{self.name} is a {self.context.__name__}, but got {type_name(value)}.")
        return _current_cells(value)

    def value_of(self, cell: Any, origin: str) -> object:
        """Return a view of the nested context."""
        return _open(object.__new__(self.context), cell, origin)

    def refuse_assignment(self) -> None:
        """Refuse it: what it had would be lost."""
        raise ChangeRefusedError("was assigned, and a nested context is merged field by field", "assign its fields")

    def delta_of(self, cell: Any, value: Any) -> object:
        """Return the changes of its fields."""
        return delta_of(value)

    def merged(self, cell: Any, delta: Any) -> object:
        """Return the cells with the changes of its fields on top."""
        return _merge(self.context, cell, delta)

    def to_plain(self, cell: Any) -> object:
        """Return its fields as plain data."""
        return _cells_to_plain(self.context, cell)

    def from_plain(self, plain: Any) -> object:
        """Return its cells."""
        return _cells_from_plain(self.context, plain)


class ContextState(Generic[C]):
    """The merged context of one run at one position of its log, as a worker keeps it.

    One owner applies deltas, in commit order. Views made before keep showing what they showed.
    """

    __slots__ = ("_cells", "_cls")

    def __init__(self, cls: type[C], cells: Cells) -> None:
        self._cls = cls
        self._cells = cells

    @classmethod
    def load(cls, context: type[D], plain: object) -> ContextState[D]:
        """Return the state that `context_to_plain` or `to_plain` was given.

        A field that the data lacks gets its default: an older version of the class wrote it.

        Raises:
            CodecError: The data is no context, or lacks a field that has no default.
        """
        return ContextState(context, _cells_from_plain(context, plain))

    def view(self, origin: str) -> C:
        """Return a context for one attempt of one node; its cost does not depend on the size of the state.

        Args:
            origin: Prefix of the ids of the events it appends: unique per commit, so that an item that commits several
                times (it held, and was woken) does not repeat an id.
        """
        return _open(object.__new__(self._cls), self._cells, origin)

    def apply(self, delta: object) -> None:
        """Merge one committed delta; None changes nothing. The state is as before when it raises.

        Raises:
            CodecError: The delta is damaged, or names a field that the class does not have.
        """
        if delta is not None:
            self._cells = _merge(self._cls, self._cells, delta)

    def to_plain(self) -> dict[str, object]:
        """Return all of it as plain data."""
        return _cells_to_plain(self._cls, self._cells)

    @property
    def parts(self) -> tuple[type[C], Cells]:
        """The class, and the cells as they are now: what is applied later does not show in them."""
        return self._cls, self._cells


def context_to_plain(context: Context) -> dict[str, object]:
    """Return a context as it stands as plain data, to start a run with.

    Raises:
        CodecError: A field was assigned a value of another type.
    """
    return _cells_to_plain(type(context), _current_cells(context))


def delta_of(view: Context) -> dict[str, object] | None:
    """Return what was done to a view as plain data; None where nothing was.

    Raises:
        ContextChangeError: A change that cannot be merged: a Fixed field, the beginning of an Append field, a member
            removed from a Union field. Names the field and the cure.
        CodecError: A field was assigned a value of another type.
    """
    cells = view._cells  # pyright: ignore[reportPrivateUsage]  # this module's own class
    fields = type(view).__context_fields__
    changes: dict[str, object] = {}
    for name, value in view.__dict__.items():
        try:
            delta = fields[name].delta_of(cells[name], value)
        except ChangeRefusedError as error:
            raise _change_error(view, name, error) from None
        if delta is not None:
            changes[name] = delta
    return changes or None


def _restored(context: type[C], plain: object) -> C:
    return _open(object.__new__(context), _cells_from_plain(context, plain), INITIAL_ORIGIN)


def _open(context: C, cells: Cells, origin: str) -> C:
    _set_cells(context, cells)
    _set_origin(context, origin)
    return context


_set_cells: Final = Context.__dict__["_cells"].__set__
_set_origin: Final = Context.__dict__["_origin"].__set__


def _current_cells(context: Context) -> Cells:
    """Return the cells with what was assigned since; fields that only were read stay as they are."""
    cells = dict(context._cells)  # pyright: ignore[reportPrivateUsage]  # this module's own class
    for name, value in context.__dict__.items():
        cells[name] = type(context).__context_fields__[name].cell_of(value)
    return cells


def _merge(context: type[Context], cells: Cells, delta: object) -> Cells:
    fields = context.__context_fields__
    merged = dict(cells)
    for name, change in _mapping(delta).items():
        field = fields.get(name)
        if field is None:
            raise CodecError(
                f"A stored change names the field {name!r}, which {context.__name__} does not have. "
                "Give a class whose fields changed a new workflow version."
            )
        merged[name] = field.merged(cells[name], change)
    return merged


def _cells_to_plain(context: type[Context], cells: Cells) -> dict[str, object]:
    return {name: field.to_plain(cells[name]) for name, field in context.__context_fields__.items()}


def _cells_from_plain(context: type[Context], plain: object) -> Cells:
    stored = _mapping(plain)
    cells: dict[str, object] = {}
    for name, field in context.__context_fields__.items():
        if name in stored:
            cells[name] = field.from_plain(stored[name])
        elif field.has_default:
            cells[name] = field.from_plain(field.to_plain(field.default))
        else:
            raise CodecError(f"The stored context lacks {name!r}, which {context.__name__} has no default for.")
    return cells


def _mapping(plain: object) -> Mapping[str, Any]:
    if not isinstance(plain, dict):
        raise CodecError(f"A stored context, or a change of one, is a {type_name(plain)} instead of a dict.")
    return cast("dict[str, Any]", plain)


def _check_names(owner: str, fields: Mapping[str, ContextField], values: Mapping[str, Any]) -> None:
    unknown = [name for name in values if name not in fields]
    if unknown:
        raise TypeError(f"{owner}() got {', '.join(unknown)}; its fields are {', '.join(fields) or 'none'}")
    missing = [name for name, field in fields.items() if name not in values and not field.has_default]
    if missing:
        raise TypeError(f"{owner}() needs {', '.join(missing)}: no default")


def _no_field(cls: type[Context], name: str) -> str:
    return f"{cls.__name__} has no field {name!r}; its fields are {', '.join(cls.__context_fields__) or 'none'}"


def _change_error(context: Context, name: str, error: ChangeRefusedError) -> ContextChangeError:
    return ContextChangeError(context=type(context).__name__, field=name, problem=error.problem, cure=error.cure)


# --- reading a class ---------------------------------------------------------------------------------------------


def _read_fields(cls: type[Context]) -> dict[str, ContextField]:
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
            fields[name] = _read_field(cls, name, hints[name])
            _read_default(cls, fields[name])
    return fields


def _refuse_unannotated(cls: type[Context], own: Mapping[str, Any]) -> None:
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


def _read_field(cls: type[Context], name: str, hint: Any) -> ContextField:
    where = f"{cls.__name__}.{name}"
    notes: tuple[Any, ...] = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    bare = unwrap(hint)
    if bare is EventLog or get_origin(bare) is EventLog:
        return LogField(name, PayloadType.of((get_args(bare) or (Any,))[0], where=f"the events of {where}"))
    if isinstance(bare, type) and issubclass(bare, Context):
        return NestedField(name, bare)
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


def _read_default(cls: type[Context], field: ContextField) -> None:
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


class NoContext(Context):
    """The context of a workflow that shares nothing."""


__all__ = [
    "Append",
    "Context",
    "ContextState",
    "EventLog",
    "Fixed",
    "LastWrite",
    "Max",
    "Min",
    "NoContext",
    "Reducer",
    "Sum",
    "Union",
    "context_to_plain",
    "delta_of",
]
