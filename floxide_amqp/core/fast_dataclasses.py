"""Dataclasses of the hot path: frozen for the type checkers, cheap to make and to copy when they run.

A frozen dataclass sets every field through `object.__setattr__`, and `dataclasses.replace` reads the list of fields
anew for each copy. A step makes some forty of the engine's own records and copies four: with these two it costs about
a sixth less processor time than with the standard library's. What users get into their hands stays frozen in earnest.

`maker` is for the few records with many fields that every step makes: a class that is called with keywords packs them
into a dict and unpacks it again, which is half of what the whole costs; a function that is called so does not, up to
15 keywords: with more, Python makes a dict for it as well, so that the first fields are better given by position.
`copier` is the same for copies: with ten of a work item's fields set, one costs 0.4 µs, and 1.4 µs by `replace`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ("copier", "dataclass", "maker", "replace")

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    from dataclasses import dataclass, replace
else:

    def dataclass(cls: type | None = None, /, *, frozen: bool = False, **options: Any) -> Any:
        """Like `dataclasses.dataclass`, but nothing stops a program that no type checker reads from setting a field."""

        def make(cls: type) -> type:
            made = dataclasses.dataclass(cls, unsafe_hash=frozen and options.get("eq", True), **options)
            made.__copy_fields__ = _copier(made)
            return made

        return make if cls is None else make(cls)

    def replace(record: Any, /, **changes: Any) -> Any:
        """Like `dataclasses.replace`; of dataclasses of this module without calling ``__init__``."""
        copy_fields = getattr(record, "__copy_fields__", None)
        return dataclasses.replace(record, **changes) if copy_fields is None else copy_fields(changes)


def maker(cls: type[T]) -> type[T]:
    """Return a function to be called in place of a dataclass of this module; to a type checker it is the class.

    Args:
        cls: One without ``__post_init__``.
    """
    any_class: Any = cls
    fields: Any = dataclasses.fields(any_class)
    space: dict[str, Any] = {"new": object.__new__, "cls": cls}
    parameters: list[str] = []
    lines: list[str] = []
    for field in sorted(fields, key=lambda each: bool(each.kw_only)):
        name = field.name
        if field.kw_only and "*" not in parameters:
            parameters.append("*")
        if field.default is not dataclasses.MISSING:
            space[f"default_{name}"] = field.default
            parameters.append(f"{name}=default_{name}")
        elif field.default_factory is not dataclasses.MISSING:
            space[f"factory_{name}"], space["unset"] = field.default_factory, dataclasses.MISSING
            parameters.append(f"{name}=unset")
            lines.append(f"    made.{name} = factory_{name}() if {name} is unset else {name}")
            continue
        else:
            parameters.append(name)
        lines.append(f"    made.{name} = {name}")
    text = "\n".join([f"def make({', '.join(parameters)}):", "    made = new(cls)", *lines, "    return made"])
    exec(text, space)  # noqa: S102 - the standard library makes its methods in the same way
    make: type[T] = space["make"]
    return make


def copier(cls: type) -> Callable[[F], F]:
    """Return a decorator for functions that copy a record of a dataclass of this module and set some of its fields.

    The parameters of the decorated function say all: the first takes the record, and each of the others, by keyword,
    what the field of its name is set to in the copy, or has by its default. Its body never runs.

    Args:
        cls: The record's class itself, not one above it.

    Raises:
        TypeError: The class has no field of a parameter's name.
    """
    names = [field.name for field in dataclasses.fields(cls)]

    def make(function: F) -> F:
        record, *given = inspect.signature(function).parameters.values()
        space: dict[str, Any] = {"new": object.__new__, "cls": cls}
        parameters = [record.name, "*"]
        for each in given:
            if each.name not in names:
                raise TypeError(f"{cls.__name__} has no field {each.name!r}")
            space[f"default_{each.name}"] = each.default
            has_default = each.default is not inspect.Parameter.empty
            parameters.append(f"{each.name}=default_{each.name}" if has_default else each.name)
        changed = {each.name for each in given}
        lines = [f"    made.{name} = {name if name in changed else f'{record.name}.{name}'}" for name in names]
        text = "\n".join([f"def copy({', '.join(parameters)}):", "    made = new(cls)", *lines, "    return made"])
        exec(text, space)  # noqa: S102 - the standard library makes its methods in the same way
        copy: F = space["copy"]
        return copy

    return make


def _copier(cls: type) -> Any:
    """Return a method that copies an instance and sets some fields of the copy."""
    names = [field.name for field in dataclasses.fields(cls)]
    lines = [
        "def __copy_fields__(self, changes):",
        "    copy = new(self.__class__)",
        *(f"    copy.{name} = self.{name}" for name in names),
        "    for name, value in changes.items():",
        "        if name not in names:",
        '            raise TypeError(f"{cls.__name__} has no field {name!r}")',
        "        setattr(copy, name, value)",
        "    return copy",
    ]
    space: dict[str, Any] = {"new": object.__new__, "cls": cls, "names": frozenset(names)}
    exec("\n".join(lines), space)  # noqa: S102 - the standard library makes its methods in the same way
    return space["__copy_fields__"]
