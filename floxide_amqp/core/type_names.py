"""How errors, drawings and fingerprints print a type."""

from __future__ import annotations

import types
from enum import Enum
from typing import Annotated, ForwardRef, Literal, TypeVar, Union, cast, get_args, get_origin


def describe_type(annotation: object, *, with_module: bool = False) -> str:
    """Return an annotation as a user writes it: ``Approved | Rejected``, ``list[int]``, ``None``.

    Args:
        annotation: Any annotation.
        with_module: Print classes with their modules, to tell namesakes apart.
    """
    if annotation is None or annotation is type(None):
        return "None"
    if annotation is Ellipsis:
        return "..."
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    if isinstance(annotation, TypeVar):
        return annotation.__name__
    origin = get_origin(annotation)
    if origin is not None:
        return _describe_generic(annotation, origin, with_module=with_module)
    if isinstance(annotation, type):
        return _class_name(annotation, with_module=with_module)
    name = getattr(annotation, "__name__", None)
    return name if isinstance(name, str) else repr(annotation).replace("typing.", "")


def describe_both(first: object, second: object) -> tuple[str, str]:
    """Return two types as text, with their modules where they would print alike."""
    names = describe_type(first), describe_type(second)
    if names[0] != names[1]:
        return names
    return describe_type(first, with_module=True), describe_type(second, with_module=True)


def _describe_generic(annotation: object, origin: object, *, with_module: bool) -> str:
    args: tuple[object, ...] = get_args(annotation)
    if origin is types.UnionType or origin is cast(object, Union):
        return " | ".join(dict.fromkeys(describe_type(arg, with_module=with_module) for arg in args))
    if origin is Literal:
        return f"Literal[{', '.join(_describe_literal(arg) for arg in args)}]"
    if origin is Annotated:
        return describe_type(args[0], with_module=with_module)
    inner = ", ".join(_describe_argument(arg, with_module=with_module) for arg in args)
    return f"{describe_type(origin, with_module=with_module)}[{inner or '()'}]"


def _describe_argument(arg: object, *, with_module: bool) -> str:
    if isinstance(arg, list):
        return "[" + ", ".join(describe_type(a, with_module=with_module) for a in cast("list[object]", arg)) + "]"
    return describe_type(arg, with_module=with_module)


def _describe_literal(value: object) -> str:
    return f"{type(value).__name__}.{value.name}" if isinstance(value, Enum) else repr(value)


def _class_name(cls: type, *, with_module: bool) -> str:
    if not with_module or cls.__module__ == "builtins":
        return cls.__name__
    return f"{cls.__module__}.{cls.__qualname__}"
