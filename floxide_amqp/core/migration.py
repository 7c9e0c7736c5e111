"""What a workflow's `migrate` is given: a run of an older version, to be changed until the newer one can go on with it.

It is a run on paper: nothing is written before `migrate` has returned and everything was checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeVar, cast

from floxide_amqp.core.payload import PayloadType

if TYPE_CHECKING:  # it is needed to define a workflow, and that is needed to define a context
    from floxide_amqp.core.context import Context

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
        context: The fields of its context as plain data, which may be changed, taken out and added; what is left is
            read by the new version's context.
    """

    def __init__(
        self, run_id: str, version: str, steps: Sequence[StepToMigrate], context: Mapping[str, object]
    ) -> None:
        self.run_id = run_id
        self.version = version
        self.steps = tuple(steps)
        self._stored = dict(context)
        self.context: dict[str, Any] = {name: deepcopy(_value_of(plain)) for name, plain in context.items()}
        self._shown = deepcopy(self.context)
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
        return self._written is not None or self.context != self._shown

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
        left = [name for name in self.context if name not in kind.__context_fields__]
        if left:
            names = ", ".join(map(repr, left))
            raise CodecError(f"{kind.__name__} has no {names}: let migrate take that out of the context.")
        fields = {name: self._stored_as(name, value) for name, value in self.context.items()}
        state = ContextState.load(kind, fields)
        view = state.view("migrate")
        for name in kind.__context_fields__:  # what does not decode is met now
            getattr(view, name)
        return state.to_plain()

    def _stored_as(self, name: str, value: object) -> object:
        if name in self._shown and value == self._shown[name]:
            return self._stored[name]
        stored = self._stored.get(name)
        tag = cast("Sequence[Any]", stored)[0] if _is_tagged(stored) else ""
        return [tag, value]


def _is_tagged(plain: object) -> bool:
    """Whether a stored field is a value with its tag; what is none is a nested context or a log."""
    return isinstance(plain, list | tuple) and len(plain) == 2 and isinstance(plain[0], str)  # pyright: ignore[reportUnknownArgumentType]  # of plain data


def _value_of(plain: object) -> Any:
    return cast("Sequence[Any]", plain)[1] if _is_tagged(plain) else plain
