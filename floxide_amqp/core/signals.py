"""Signals: typed values that somebody outside sends to a run, and its nodes wait for."""

from __future__ import annotations

import string
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Generic, overload

from typing_extensions import TypeVar

from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.type_args import union_members
from floxide_amqp.exceptions import DefinitionError

T = TypeVar("T")

MAX_NAME_LENGTH: Final = 100
"""Characters of a signal's name: it is a part of keys."""

_ALLOWED: Final = frozenset(string.ascii_letters + string.digits + "_-.")


class Signal(Generic[T]):
    """Something that a run can be told from outside: a name, and the type of the values that come with it.

    Make it once, beside the workflow, and use the same object where it is sent and where it is received. A name that
    is made up per run or item, such as ``Signal(f"approval-{order_id}", bool)``, is fine too.

    Example:
        >>> APPROVAL = Signal("approval", bool)
        >>> APPROVAL
        Signal('approval', bool)

    Attributes:
        name: 1 to 100 ASCII letters, digits and ``_-.``.
        payload: The type of its values, for storing them.
    """

    __slots__ = ("name", "payload")

    if TYPE_CHECKING:

        @overload
        def __init__(self, name: str, type: type[T], /) -> None: ...
        @overload
        def __init__(self, name: str, type: Any, /) -> None: ...

    def __init__(self, name: str, type: Any, /) -> None:  # noqa: A002 - what it is
        """Make a signal.

        Args:
            name: How it is called.
            type: What its values are: anything a node may take, but None, which says that there is no value.

        Raises:
            DefinitionError: The name cannot be one, or values of the type cannot be stored; names the cure.
        """
        where = f"Signal({name!r}, …)"
        self.name: Final = check_signal_name(name)
        if type is None or NoneType in union_members(type):
            raise DefinitionError(
                f"{where}: its value may be None, which ctx.received(...) returns where there is none. "
                f"Give it a value that says something, such as Signal({name!r}, bool)."
            )
        self.payload: Final = PayloadType.of(type, where=f"the value of {where}")

    def __repr__(self) -> str:
        return f"Signal({self.name!r}, {self.payload.description})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signal) and self._facts == other._facts

    @property
    def _facts(self) -> tuple[str, str]:
        return self.name, self.payload.description

    def __hash__(self) -> int:
        return hash(self.name)


def check_signal_name(given: object) -> str:
    """Return the name of a signal.

    Raises:
        DefinitionError: It cannot be one.
    """
    if isinstance(given, str) and 0 < len(given) <= MAX_NAME_LENGTH and _ALLOWED.issuperset(given):
        return given
    raise DefinitionError(
        f"A signal cannot be called {given!r}: its name has 1 to {MAX_NAME_LENGTH} ASCII letters, digits and _-. only."
    )
