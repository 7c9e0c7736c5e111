"""Names: what nodes may be called, and what their classes may call their own fields."""

from __future__ import annotations

import inspect
from typing import Final

from floxide_amqp.exceptions import DefinitionError

MAX_NAME_LENGTH: Final = 200
"""Characters of a node's name: names are parts of ids, queues and drawings."""

OPTION_NAMES: Final = (
    "queue", "retry", "timeout", "isolated", "at_most_once", "requires", "compensation", "concurrency",
    "rate", "priority",
    "labels", "executor",
)  # fmt: skip

RESERVED_NAMES: Final = frozenset(
    (
        "connections", "context_type", "expand", "input_type", "invoke", "is_async", "is_same", "may_fan_out",
        "may_hold", "named", "on_failure", "options", "otherwise", "output_type", "signature", "when", "with_options",
    )
)  # fmt: skip
"""What a `Node` class's own fields and methods cannot be called."""


class DefaultName:
    """The name of a node that was given none: that of its class, without type arguments.

    It is looked up on instances alone, so that a dataclass may have a field ``name`` without a default.
    """

    def __get__(self, instance: object, owner: type) -> str:
        if instance is None:
            raise AttributeError("name")
        return str(owner.__dict__.get("_unspecialised", owner).__name__)


def check_name(name: object, *, where: str) -> str:
    """Return a node's name; the error names `where`.

    Raises:
        DefinitionError: It cannot be a name.
    """
    if isinstance(name, str) and 0 < len(name) <= MAX_NAME_LENGTH and name.isprintable() and not set(name) & set("/>#"):
        return name
    raise DefinitionError(
        f"{where}: {name!r} cannot be the name of a node. Use 1 to {MAX_NAME_LENGTH} printable characters without "
        "'/', '>' and '#', which ids of nodes and edges are made with; a lambda needs a def."
    )


def refuse_reserved_names(cls: type) -> None:
    """Raise a `DefinitionError` where a class gives a field or method a name that every node uses itself."""
    own = (set(cls.__dict__) | set(inspect.get_annotations(cls))) & RESERVED_NAMES
    if own:
        name = min(own)
        raise DefinitionError(
            f"class {cls.__name__} defines {name!r}, which every node has already. Give yours another name."
        )
