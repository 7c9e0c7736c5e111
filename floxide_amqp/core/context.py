"""The run's shared state: what users declare, what a node receives, and what it changed.

A node works on a *view*: a context of its own over the committed cells, which materialises only the fields it
touches. `delta_of` says what it did; `ContextState.apply` merges deltas in commit order. Nothing here ever writes a
whole context because one field changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeAlias, TypeVar, cast, dataclass_transform

from floxide_amqp.core.context_declaration import read_fields
from floxide_amqp.core.context_fields import ContextField, ValueField
from floxide_amqp.core.plain import type_name
from floxide_amqp.core.reducers import ChangeRefusedError
from floxide_amqp.exceptions import CodecError, ContextChangeError, PayloadMismatchError, UndecodableError

C = TypeVar("C", bound="Context")
D = TypeVar("D", bound="Context")  # of a class method: pyright does not solve the class's own there

INITIAL_ORIGIN: Final = "initial"
"""Origin of the events that a run's context starts with."""

Cells: TypeAlias = Mapping[str, object]


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
        cls.__context_fields__ = MappingProxyType(inherited | read_fields(cls, _nested_field))

    def __init__(self, **values: Any) -> None:
        fields, what = type(self).__context_fields__, type(self).__name__
        _check_names(what, fields, values)
        cells = {
            name: _given_cell(what, name, f, values[name]) if name in values else f.default
            for name, f in fields.items()
        }  # fmt: skip
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


def _given_cell(what: str, name: str, field: ContextField, value: Any) -> object:
    try:
        return field.cell_of(value)
    except PayloadMismatchError as error:
        raise error.at(f"{what}.{name}" if isinstance(field, ValueField) else f"An event of {what}.{name}") from error


class NestedField:
    """A context inside a context, merged field by field."""

    def __init__(self, name: str, context: type[Context]) -> None:
        self.name = name
        self.context = context
        self.default: object = None
        self.has_default = False

    def cell_of(self, value: Any) -> object:
        """Return the cells of a context given at start.

        Raises:
            CodecError: The value is not of the context's class.
        """
        if type(value) is not self.context:
            raise CodecError(f"{self.name} is a {self.context.__name__}, but got {type_name(value)}.")
        return _current_cells(value)

    def value_of(self, cell: Any, origin: str) -> object:
        """Return a view of the nested context."""
        return _open(object.__new__(self.context), cell, origin)

    def refuse_assignment(self) -> None:
        """Refuse it: what it had would be lost.

        Raises:
            ChangeRefusedError: Always.
        """
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


def _nested_field(name: str, annotation: object) -> NestedField | None:
    if isinstance(annotation, type) and issubclass(annotation, Context):
        return NestedField(name, annotation)
    return None


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


class NoContext(Context):
    """The context of a workflow that shares nothing."""
