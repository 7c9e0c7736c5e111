"""Taking annotations apart: aliases, unions, type variables and the arguments of generic bases."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Never,
    NoReturn,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)

import typing_extensions

_QUALIFIERS: Final[tuple[object, ...]] = (
    Annotated,
    ClassVar,
    Final,
    typing_extensions.Required,
    typing_extensions.NotRequired,
    typing_extensions.ReadOnly,
)
_NEVERS: Final[tuple[object, ...]] = (Never, NoReturn, typing_extensions.Never)


def plain_type(annotation: object) -> Any:
    """Return an annotation without `Annotated`, aliases and ``Required``, which leave its values alone."""
    while True:
        if annotation is None:
            return NoneType
        if get_origin(annotation) in _QUALIFIERS:
            annotation = get_args(annotation)[0]
        elif _is_alias(annotation):
            annotation = cast(Any, annotation).__value__
        elif _is_alias(get_origin(annotation)):
            alias = cast(Any, get_origin(annotation))
            arguments = dict(zip(alias.__type_params__, get_args(annotation), strict=False))
            annotation = substitute(alias.__value__, cast("dict[Any, object]", arguments))
        else:
            return annotation


def _is_alias(annotation: object) -> bool:
    return isinstance(annotation, typing_extensions.TypeAliasType) or (
        type(annotation).__name__ == "TypeAliasType" and type(annotation).__module__ == "typing"
    )


def is_never(annotation: object) -> bool:
    """Say whether no value has this type."""
    return any(annotation is never for never in _NEVERS)


def union_members(annotation: object) -> tuple[Any, ...]:
    """Return the members of a union, nested ones opened; a plain type is its only member, `Never` has none."""
    plain = plain_type(annotation)
    if is_never(plain):
        return ()
    if get_origin(plain) not in (Union, types.UnionType):
        return (plain,)
    return _without_twins(member for arg in get_args(plain) for member in union_members(arg))


def make_union(members: Iterable[object]) -> Any:
    """Return the union of types: `Never` of none, the type itself of one."""
    flat = _without_twins(inner for member in members for inner in union_members(member))
    if not flat:
        return Never
    return cast(Any, Union)[flat]


def list_of(element: object, container: Any = list) -> Any:
    """Return the annotation of a list of elements, or of another container."""
    return container[element]


def _without_twins(members: Iterable[Any]) -> tuple[Any, ...]:
    kept: list[Any] = []
    for member in members:
        if member not in kept:
            kept.append(member)
    return tuple(kept)


def substitute(annotation: object, arguments: Mapping[Any, object]) -> Any:
    """Return an annotation with type variables replaced; those without an argument stay."""
    if isinstance(annotation, TypeVar):
        return arguments.get(annotation, annotation)
    parameters: tuple[Any, ...] = getattr(annotation, "__parameters__", ())
    if not parameters or isinstance(annotation, type):
        return annotation
    replaced = tuple(arguments.get(parameter, parameter) for parameter in parameters)
    return cast(Any, annotation)[replaced]


def free_type_vars(annotation: object) -> tuple[Any, ...]:
    """Return the type variables an annotation leaves open."""
    if isinstance(annotation, TypeVar):
        return (annotation,)
    if isinstance(annotation, type):
        return ()
    return tuple(getattr(annotation, "__parameters__", ()))


def type_parameters(cls: object) -> tuple[Any, ...]:
    """Return the type variables a generic class was written with; none of a plain class."""
    return tuple(getattr(cls, "__parameters__", ()))


def arguments_for(annotation: object, base: type) -> tuple[Any, ...] | None:
    """Return the arguments with which a class or an alias inherits from a generic base; None where it does not say.

    ``class Foo(Node[K, str])`` gives ``(int, str)`` for ``Foo[int]`` and `Node`.
    """
    origin = get_origin(annotation) or annotation
    if origin is base:
        return get_args(annotation) or None
    if not isinstance(origin, type) or not issubclass(origin, base):
        return None
    own = dict(zip(type_parameters(origin), get_args(annotation), strict=False))
    for parent in cast("tuple[object, ...]", origin.__dict__.get("__orig_bases__", origin.__bases__)):
        found = arguments_for(substitute(parent, own), base)
        if found is not None:
            return found
    return None


def runtime_class(annotation: object) -> type | None:
    """Return the class that `isinstance` can ask about an annotation's values; None where there is none."""
    plain = plain_type(annotation)
    origin = get_origin(plain) or plain
    if origin is types.UnionType or not isinstance(origin, type) or typing_extensions.is_typeddict(origin):
        return None
    return None if getattr(origin, "_is_protocol", False) else origin
