"""What a workflow's `migrate` is given: a run of an older version, to be changed until the newer one can go on with it.

It is a run on paper: nothing is written before `migrate` has returned and everything was checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from floxide_amqp.core.payload import PayloadType

if TYPE_CHECKING:  # it is needed to define a workflow, and that is needed to define a context
    from floxide_amqp.core.context import Context
    from floxide_amqp.core.context_fields import ContextField

T = TypeVar("T")
C = TypeVar("C", bound="Context")


class StepToMigrate:
    """One step of a run that has not ended, with the input it will run with.

    Attributes:
        item_id: The item's id.
        node: The node it is of, by the older version's graph; `move_to` changes it.
        plain: Its input as plain data, which may be changed or replaced: dicts, lists, numbers, texts.
    """

    def __init__(self, item_id: str, node: str, tag: str, plain: object) -> None:
        self.item_id = item_id
        self.node = node
        self.plain: Any = plain
        self._tag = tag
        self._before = deepcopy(plain)
        self._node_before = node
        self._value: tuple[object] | None = None

    def read(self, kind: type[T]) -> T:
        """Return the input, decoded as the type it was stored as or as another that fits.

        Args:
            kind: The type, as the older version declared it.

        Raises:
            CodecError: The input does not fit the type.
        """
        return cast(T, PayloadType.of(kind, where=f"the input of node {self.node!r}").load(self._tag, self.plain))

    def write(self, value: object) -> None:
        """Give the step another input, a value of the type that its node takes now."""
        self._value = (value,)

    def move_to(self, node: str, value: object) -> None:
        """Let another node of the new graph run in its place.

        Args:
            node: Its name in the new version's graph.
            value: Its input, a value of the type that it takes.
        """
        self.node = node
        self.write(value)

    @property
    def shown(self) -> str:
        """What was changed, for the audit log."""
        was = self._node_before
        return f"{was if self.node == was else f'{was} to {self.node}'} ({self.item_id})"

    @property
    def is_changed(self) -> bool:
        """Whether anything of it is not as it was."""
        return self._value is not None or self.node != self._node_before or self.plain != self._before

    def value_for(self, kind: PayloadType) -> object:
        """Return the input as a value of the type that its node takes now.

        Raises:
            CodecError: It is none.
        """
        return kind.load(self._tag, self.plain) if self._value is None else self._value[0]


class RunToMigrate:
    """A run of an older version of a workflow.

    Attributes:
        run_id: Its id.
        version: The version that it has.
        steps: Its steps that have not ended and that have an input of their own. What arrived at joins is not among
            them: there the types must have stayed such that the newer version reads them.
        context: The fields of its context as plain data, which may be changed, renamed, taken out and added; what is
            left is read by the new version's context. A nested context is a dict of its fields, an event log a list of
            events, each as it is stored: its id, the tag of its type, its plain data.
    """

    def __init__(
        self, run_id: str, version: str, steps: Sequence[StepToMigrate], context: Mapping[str, object]
    ) -> None:
        self.run_id = run_id
        self.version = version
        self.steps = tuple(steps)
        self._stored = dict(context)
        self._shown = {name: _show(plain) for name, plain in context.items()}
        self.context: dict[str, Any] = {name: each.value for name, each in self._shown.items()}
        self._written: Context | None = None

    def read_context(self, kind: type[C]) -> C:
        """Return the context, read as a class that fits it: the older version's, for instance.

        Raises:
            CodecError: It does not fit.
        """
        from floxide_amqp.core.context import ContextState  # noqa: PLC0415 - see above

        return ContextState.load(kind, dict(self._stored)).view("migrate")

    def write_context(self, context: Context) -> None:
        """Give the run another context, of the class that the new version declares."""
        self._written = context

    @property
    def is_context_changed(self) -> bool:
        """Whether anything of the context is not as it was."""
        return self._written is not None or self.context != {name: each.copy for name, each in self._shown.items()}

    def context_for(self, kind: type[Context]) -> Mapping[str, object]:
        """Return the context as plain data, as the new version's class stores it.

        Raises:
            CodecError: It is none of this class: a field lacks that has no default, is of another type, or is left that
                the class does not have.
        """
        from floxide_amqp.core.context import ContextState, context_to_plain  # noqa: PLC0415 - see above
        from floxide_amqp.exceptions import CodecError  # noqa: PLC0415

        if self._written is not None:
            if not isinstance(self._written, kind):
                raise CodecError(f"migrate wrote a {type(self._written).__name__}, and the context is {kind.__name__}.")
            return context_to_plain(self._written)
        fields = _stored_fields(kind, self.context, self._shown, "")
        state = ContextState.load(kind, fields)
        _read_whole(state.view("migrate"))
        return state.to_plain()


class _Shown(NamedTuple):
    """A field as it was given to `migrate`.

    Attributes:
        value: The very object, which may be changed since, and may lie under another name.
        copy: What it was then.
        stored: As it is stored.
        fields: Those of a nested context.
    """

    value: Any
    copy: object
    stored: object
    fields: Mapping[str, _Shown]


def _show(stored: object) -> _Shown:
    """Return a stored field as it is shown: without tags, but for the events of a log."""
    if isinstance(stored, dict):
        fields = {name: _show(each) for name, each in cast("dict[str, object]", stored).items()}
        value: object = {name: each.value for name, each in fields.items()}
        return _Shown(value, deepcopy(value), stored, fields)
    plain = cast("Sequence[object]", stored)[1] if _is_tagged(stored) else stored
    return _Shown(deepcopy(plain), plain, stored, {})


def _stored_fields(
    kind: type[Context], values: Mapping[str, object], shown: Mapping[str, _Shown], path: str
) -> dict[str, object]:
    """Return the fields of a context, as `migrate` left them, in the form in which they are stored.

    Args:
        kind: The context's class from now on.
        values: The fields as they were left.
        shown: The fields as they were given to `migrate`.
        path: What stands before their names in errors.

    Raises:
        CodecError: The class lacks one, or one that is a context is none.
    """
    from floxide_amqp.exceptions import CodecError  # noqa: PLC0415 - see above

    left = [f"{path}{name}" for name in values if name not in kind.__context_fields__]
    if left:
        names = ", ".join(map(repr, left))
        raise CodecError(f"{kind.__name__} has no {names}: let migrate take that out of the context.")
    gone = [each for name, each in shown.items() if name not in values]
    moved = {id(each.value): each for each in shown.values() if type(each.value) in (dict, list)}  # not of all alike
    return {
        name: _stored_field(
            kind.__context_fields__[name], value, moved.get(id(value)) or shown.get(name) or _equal(gone, value),
            f"{path}{name}",
        )
        for name, value in values.items()
    }  # fmt: skip


def _equal(gone: Sequence[_Shown], value: object) -> _Shown | None:
    """Return which field that is gone a value was of: what it was stored as is known then."""
    return next((each for each in gone if type(each.copy) is type(value) and each.copy == value), None)


def _stored_field(field: ContextField, value: object, shown: _Shown | None, path: str) -> object:
    from floxide_amqp.core.context import NestedField  # noqa: PLC0415 - see above
    from floxide_amqp.core.growing_fields import LogField  # noqa: PLC0415
    from floxide_amqp.exceptions import CodecError  # noqa: PLC0415

    if isinstance(field, NestedField):
        if not isinstance(value, dict):
            raise CodecError(f"The context's field {path!r} is a {field.context.__name__}: give a dict of its fields.")
        inner: Mapping[str, _Shown] = {} if shown is None else shown.fields
        return _stored_fields(field.context, cast("dict[str, object]", value), inner, f"{path}.")
    if isinstance(field, LogField):
        return value
    if shown is None or not _is_tagged(shown.stored):
        return ["", value]
    return shown.stored if value == shown.copy else [cast("Sequence[Any]", shown.stored)[0], value]


def _read_whole(view: Context) -> None:
    """Read every field, so that what does not decode is met now."""
    from floxide_amqp.core.context import Context  # noqa: PLC0415 - see above
    from floxide_amqp.core.event_log import is_event_log  # noqa: PLC0415

    for name in type(view).__context_fields__:
        value = getattr(view, name)
        if isinstance(value, Context):
            _read_whole(value)
        elif is_event_log(value):
            list(value)


def _is_tagged(plain: object) -> bool:
    """Whether a stored field is a value with its tag; what is none is a nested context or a log."""
    return isinstance(plain, list | tuple) and len(plain) == 2 and isinstance(plain[0], str)  # pyright: ignore[reportUnknownArgumentType]  # of plain data
