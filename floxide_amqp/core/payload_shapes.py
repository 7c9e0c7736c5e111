"""What an annotation's values look like as plain data, found once, when a workflow or a context is defined.

A `Shape` answers three questions: is the annotation supported, can two members of a nested union be told apart after a
round trip, and which checks a value needs on its way out. Nothing here touches a value of the user's.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path, PurePath
from types import FrameType, NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import typing_extensions
from pydantic import BaseModel, RootModel

from floxide_amqp.core.shape_differences import are_distinguishable
from floxide_amqp.core.shapes import SCALARS, Shape

_SEQUENCES: Final[dict[object, str]] = {
    list: "list", set: "set", frozenset: "frozenset", Sequence: "sequence", tuple: "tuple",
}  # fmt: skip


class UnsupportedTypeError(Exception):
    """Where in an annotation something cannot be carried; the caller turns it into a `DefinitionError`."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.cure = cure


def describe(annotation: Any) -> str:
    """Return how errors print an annotation: ``Approved | Rejected``, ``list[int]``, ``Literal['a', 'b']``."""
    if annotation is None or annotation is NoneType:
        return "None"
    if annotation is Ellipsis:
        return "..."
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe(args[0])
    if origin in {Union, UnionType}:
        return " | ".join(describe(a) for a in args)
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, args))}]"
    name = getattr(origin or annotation, "__qualname__", None) or getattr(annotation, "__name__", None)
    if name is None or not all(_is_describable(a) for a in args):
        return str(annotation).removeprefix("typing.")
    name = str(name).rpartition("<locals>.")[2]
    return f"{name}[{', '.join(describe(a) for a in args)}]" if args else name


def _is_describable(argument: Any) -> bool:
    return not isinstance(argument, list)  # the parameters of a Callable


def union_members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, however nested or aliased; the annotation alone where it is none."""
    bare = unwrap(annotation)
    if get_origin(bare) in {Union, UnionType}:
        return tuple(dict.fromkeys(m for a in get_args(bare) for m in union_members(a)))
    return (annotation,)


def unwrap(annotation: Any) -> Any:
    """Strip `Annotated`, `Required`, `Final`, aliases and `NewType` from an annotation."""
    while True:
        origin = get_origin(annotation)
        if origin in _WRAPPERS:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif isinstance(annotation, typing_extensions.TypeAliasType):
            annotation = annotation.__value__
        else:
            return annotation


_WRAPPERS: Final = {
    Annotated, typing.Required, typing.NotRequired, typing.Final, typing_extensions.Required,
    typing_extensions.NotRequired, typing_extensions.ReadOnly,
}  # fmt: skip


def shape_of(annotation: Any) -> Shape:
    """Return the shape of an annotation.

    Raises:
        UnsupportedTypeError: Something in it cannot be carried, or a nested union cannot be decoded.
    """
    shape = _Reader().read(annotation, "it")
    for part in shape.walk():
        if part.kind == "union" and part is not shape:
            _check_nested_union(part)
    return shape


def caller_locals(module: str | None = None) -> dict[str, Any]:
    """Return the local names of the functions on the stack, innermost last; of one module's where it is given.

    Types defined inside a function can be named in string annotations only with these.
    """
    frames: list[FrameType] = []
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]  # the only way to a caller's names
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        is_wanted = name == module if module else not name.startswith(("floxide_amqp.core", "pydantic"))
        if is_wanted and frame.f_locals is not frame.f_globals:
            frames.append(frame)
        frame = frame.f_back
    names: dict[str, Any] = {}
    for outer in reversed(frames):
        names.update(outer.f_locals)
    return names


def type_hints(owner: Any) -> dict[str, Any]:
    """Return the resolved annotations of a class, with the callers' local names where its module's do not suffice."""
    try:
        return typing_extensions.get_type_hints(owner, include_extras=True)
    except NameError:
        return typing_extensions.get_type_hints(owner, localns=caller_locals(owner.__module__), include_extras=True)


class _Reader:
    """Reads annotations; remembers records, so that recursive types end."""

    def __init__(self) -> None:
        self._records: dict[Any, Shape] = {}

    def read(self, annotation: Any, where: str, bound: Mapping[Any, Any] | None = None) -> Shape:
        bare = unwrap(annotation)
        if isinstance(bare, TypeVar):
            return self._read_type_variable(bare, where, bound or {})
        if bare is Any or bare is object:
            return Shape("any", bare, object)
        if bare is None:
            return Shape("scalar", None, NoneType)
        origin = get_origin(bare)
        if origin in {Union, UnionType}:
            members = tuple(self.read(m, where, bound) for m in union_members(bare))
            return Shape("union", bare, object, items=members)
        if origin is Literal:
            return Shape("literal", bare, object, choices=get_args(bare))
        return self._read_class(bare, origin or bare, where, bound or {})

    def _read_type_variable(self, variable: TypeVar, where: str, bound: Mapping[Any, Any]) -> Shape:
        if variable in bound:
            return self.read(bound[variable], where)
        limit = variable.__bound__
        return Shape("any", Any, object) if limit is None else self.read(limit, where)

    def _read_class(self, bare: Any, owner: Any, where: str, bound: Mapping[Any, Any]) -> Shape:
        if not isinstance(bare, list) and owner in _SEQUENCES:
            return self._read_sequence(bare, owner, where, bound)
        if owner in {dict, Mapping}:
            args = get_args(bare) or (Any, Any)
            items = (self.read(args[0], f"the keys of {where}", bound), self.read(args[1], f"{where}'s values", bound))
            return Shape("dict", bare, dict, items=items)
        if not _is_class(owner) or not all(_is_describable(a) for a in get_args(bare)):
            raise _unsupported(bare, where)
        if owner in SCALARS:
            return Shape("scalar", bare, owner)
        if issubclass(owner, Enum):
            return Shape("enum", bare, owner, choices=tuple(owner))
        if issubclass(owner, PurePath):
            return Shape("path", bare, Path if owner is Path else owner)
        return self._read_record(bare, owner, where, bound)

    def _read_sequence(self, bare: Any, owner: Any, where: str, bound: Mapping[Any, Any]) -> Shape:
        args = get_args(bare)
        is_fixed = owner is tuple and bare is not tuple and not (len(args) == 2 and args[1] is Ellipsis)
        if owner is tuple and not is_fixed:
            args = args[:1]
        items = tuple(self.read(a, f"an element of {where}", bound) for a in (args or (() if is_fixed else (Any,))))
        return Shape(_SEQUENCES[owner], bare, owner, items=items, is_fixed=is_fixed)

    def _read_record(self, bare: Any, owner: type, where: str, bound: Mapping[Any, Any]) -> Shape:
        key = tuple(bound.get(a, a) if isinstance(a, TypeVar) else a for a in get_args(bare))
        known = self._records.get((owner, key))
        if known is not None:
            return known
        shape = Shape("record", bare, owner)
        self._records[(owner, key)] = shape
        names = dict(zip(getattr(owner, "__parameters__", ()), key, strict=False))
        for name, (annotation, required) in _fields_of(shape, owner, bare, where).items():
            shape.fields[name] = (self.read(annotation, f"field {name!r} of {owner.__name__}", names), required)
        if shape.kind == "tuple":
            shape.items = tuple(inner for inner, _ in shape.fields.values())
        return shape


def _fields_of(shape: Shape, owner: Any, bare: Any, where: str) -> dict[str, tuple[Any, bool]]:
    if issubclass(owner, BaseModel):
        return _model_fields(shape, owner)
    if dataclasses.is_dataclass(owner):
        return _dataclass_fields(owner)
    if typing_extensions.is_typeddict(owner):
        shape.runtime = dict
        return {name: (a, name in owner.__required_keys__) for name, a in type_hints(owner).items()}
    if _is_named_tuple(owner):
        shape.kind, shape.is_fixed = "tuple", True
        hints, defaults = type_hints(owner), getattr(owner, "_field_defaults", {})
        return {name: (hints.get(name, Any), name not in defaults) for name in getattr(owner, "_fields", ())}
    if hasattr(owner, "__get_pydantic_core_schema__"):
        shape.kind = "opaque"
        return {}
    raise _unsupported(bare, where)


def _is_class(value: object) -> bool:
    return isinstance(value, type)


def _is_named_tuple(owner: type) -> bool:
    return hasattr(owner, "_fields") and issubclass(owner, tuple)


def _model_fields(shape: Shape, owner: type[BaseModel]) -> dict[str, tuple[Any, bool]]:
    if not owner.__pydantic_complete__:
        owner.model_rebuild(raise_errors=False, _types_namespace=caller_locals())
    serializers = owner.__pydantic_decorators__
    if issubclass(owner, RootModel) or serializers.model_serializers or serializers.field_serializers:
        shape.kind = "opaque"
    for name, field in owner.model_fields.items():
        if field.exclude:
            raise UnsupportedTypeError(
                f"field {name!r} of {owner.__name__} is excluded from its serialised form, so its value would be lost",
                "drop exclude=True, or pass a model without that field",
            )
    return {name: (field.annotation, field.is_required()) for name, field in owner.model_fields.items()}


def _dataclass_fields(owner: Any) -> dict[str, tuple[Any, bool]]:
    hints = type_hints(owner)
    for name, hint in hints.items():
        if isinstance(hint, dataclasses.InitVar):
            raise UnsupportedTypeError(
                f"field {name!r} of {owner.__name__} is an InitVar, which is not kept and cannot be given again",
                "make it a field, or build the value before the node returns it",
            )
    missing = dataclasses.MISSING
    return {
        f.name: (hints[f.name], f.default is missing and f.default_factory is missing)
        for f in dataclasses.fields(owner)
    }


def _unsupported(bare: Any, where: str) -> UnsupportedTypeError:
    subject = f"{describe(bare)} cannot be carried" if where == "it" else f"{where} is {describe(bare)}"
    return UnsupportedTypeError(
        f"{subject}, which has no plain form" if where != "it" else f"{subject}: it has no plain form",
        "use a dataclass, a pydantic model, a TypedDict, a NamedTuple, an Enum or builtin values; "
        "hand live objects (clients, files, locks) to nodes as resources",
    )


def _check_nested_union(union: Shape) -> None:
    for position, first in enumerate(union.items):
        for second in union.items[position + 1 :]:
            if not are_distinguishable(first, second):
                a, b = describe(first.annotation), describe(second.annotation)
                raise UnsupportedTypeError(
                    f"{describe(union.annotation)} is nested, and once stored a {a} cannot be told from a {b}",
                    "give each a field such as kind: Literal['a'] = 'a' with a value of its own",
                )
