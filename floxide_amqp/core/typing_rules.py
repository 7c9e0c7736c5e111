"""When a value of one type may go where another type is expected: the rules of mypy and pyright, at run time.

The rules lean to yes where a type checker knows more than the running program (protocols, callables, missing type
arguments): what is refused here is wrong for certain.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Reversible, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import (
    Any,
    Final,
    ForwardRef,
    Literal,
    NewType,
    NotRequired,
    Required,
    TypeVar,
    cast,
    get_args,
    get_origin,
)

from typing_extensions import get_type_hints, is_typeddict

from floxide_amqp.core.type_args import (
    arguments_for,
    is_never,
    make_union,
    plain_type,
    type_parameters,
    union_members,
)

_COVARIANT: Final[frozenset[object]] = frozenset(
    (Sequence, Collection, Container, Iterable, Iterator, Reversible, AbstractSet, frozenset, tuple, type)
)
"""Generic classes of which a list of subclasses is a list of bases, all arguments alike."""

_PROMOTIONS: Final[dict[type, tuple[type, ...]]] = {int: (float, complex), bool: (float, complex), float: (complex,)}
"""Numbers a type checker lets through although the classes are not related."""


def assignable(source: object, target: object) -> bool:
    """Say whether every value of type `source` may be given to something that takes `target`.

    Args:
        source: An annotation.
        target: An annotation.
    """
    return _fits(source, target, promote=True)


def covers(variant: object, member: object) -> bool:
    """Say whether every value of type `member` is one of `variant`: as `assignable`, but `int` is not a `float`."""
    if plain_type(member) in (Any, object):
        return plain_type(variant) in (Any, object)
    return _fits(member, variant, promote=False)


def _fits(source: object, target: object, *, promote: bool) -> bool:
    source, target = plain_type(source), plain_type(target)
    if source is target or target is object or is_never(source) or _is_open(source) or _is_open(target):
        return True
    source, target = _bound(source), _bound(target)
    sources, targets = _choices(source, target), union_members(target)
    if len(sources) != 1 or len(targets) != 1:
        return all(any(_fits(s, t, promote=promote) for t in targets) for s in sources)
    return _single_fits(source, target, promote=promote)


def _is_open(annotation: object) -> bool:
    """Say whether nothing is known of a type; an unsolved variable and an unresolved name count as such."""
    return annotation is Any or isinstance(annotation, str | ForwardRef)


def _choices(source: object, target: object) -> tuple[Any, ...]:
    """Return the members of a union; an enum and `bool` are opened too where the target names single values."""
    names_values = any(get_origin(member) is Literal for member in union_members(target))
    members: list[Any] = []
    for member in union_members(source):
        values = get_args(member) if get_origin(member) is Literal else _values_of(member) if names_values else ()
        members += (cast(Any, Literal)[value] for value in values) if values else (member,)
    return tuple(members)


def _values_of(annotation: object) -> tuple[object, ...]:
    if annotation is bool:
        return (True, False)
    return tuple(annotation) if isinstance(annotation, type) and issubclass(annotation, Enum) else ()


def _single_fits(source: object, target: object, *, promote: bool) -> bool:
    if source == target:
        return True
    if get_origin(source) is Literal:
        return _literal_fits(get_args(source)[0], target, promote=promote)
    if get_origin(target) is Literal:
        return False
    if isinstance(source, NewType):
        return _fits(source.__supertype__, target, promote=promote)
    if isinstance(target, NewType):
        return False
    if is_typeddict(get_origin(target) or target):
        return _typed_dict_fits(source, target, promote=promote)
    return _class_fits(source, target, promote=promote)


def _bound(annotation: object) -> Any:
    """Return what is known of a type variable; any other type as it is."""
    if not isinstance(annotation, TypeVar):
        return annotation
    if annotation.__constraints__:
        return make_union(annotation.__constraints__)
    return object if annotation.__bound__ is None else plain_type(annotation.__bound__)


def _literal_fits(value: object, target: object, *, promote: bool) -> bool:
    if get_origin(target) is Literal:
        return any(type(value) is type(wanted) and value == wanted for wanted in get_args(target))
    return _fits(type(value), target, promote=promote)


def _class_fits(source: object, target: object, *, promote: bool) -> bool:
    source_class, target_class = _class_of(source), _class_of(target)
    if source_class is None or target_class is None:
        return True  # a form of which the running program knows nothing
    if promote and target_class in _PROMOTIONS.get(source_class, ()):
        return True
    if getattr(target_class, "_is_protocol", False):
        return _has_members_of(source_class, target_class)
    if not issubclass(source_class, target_class):
        return False
    return _arguments_fit(source, target, source_class, target_class)


def _class_of(annotation: object) -> type | None:
    if is_typeddict(get_origin(annotation) or annotation):
        return dict
    origin = get_origin(annotation) or annotation
    return origin if isinstance(origin, type) else None


def _has_members_of(source: type, protocol: type) -> bool:
    names: set[str] = set()
    for base in protocol.__mro__:
        if getattr(base, "_is_protocol", False):
            names |= {name for name in base.__dict__ if not name.startswith(("_abc_", "__"))}
            names |= set(inspect.get_annotations(base))
    fields = set(getattr(source, "__annotations__", {})) | set(getattr(source, "model_fields", {}))
    return all(hasattr(source, name) or name in fields for name in names - {"_is_protocol", "_is_runtime_protocol"})


# --- generics


def _arguments_fit(source: object, target: object, source_class: type, target_class: type) -> bool:
    wanted = get_args(target)
    if not wanted:
        return True
    if tuple in source_class.__mro__:
        return _tuple_fits(source, target, target_class)
    given = arguments_for(source, target_class) or _inherited_arguments(source, source_class, target_class)
    if given is None or len(given) != len(wanted):
        return True  # the source does not say: as if it were Any
    variances = _variances(target_class, len(wanted))
    return all(_argument_fits(*pair) for pair in zip(given, wanted, variances, strict=True))


def _argument_fits(given: object, wanted: object, variance: int) -> bool:
    """Compare one argument; numbers are promoted only where a value is read, as in ``Sequence[float]``."""
    forwards = variance < 0 or _fits(given, wanted, promote=variance > 0)
    backwards = variance > 0 or _fits(wanted, given, promote=variance < 0)
    return forwards and backwards


def _variances(cls: type, count: int) -> tuple[int, ...]:
    """Return 1 for each covariant, -1 for each contravariant and 0 for each invariant parameter."""
    if cls in _COVARIANT:
        return (1,) * count
    if cls is Mapping:
        return (0, 1)
    variances: list[int] = []
    for parameter in type_parameters(cls):
        is_covariant = getattr(parameter, "__covariant__", False) or getattr(parameter, "__infer_variance__", False)
        variances.append(1 if is_covariant else -1 if getattr(parameter, "__contravariant__", False) else 0)
    return tuple(variances) if len(variances) == count else (0,) * count


def _inherited_arguments(source: object, source_class: type, target: type) -> tuple[Any, ...] | None:
    """Return a built-in's arguments for an abstract class it is registered with, which has no `__orig_bases__`."""
    if issubclass(source_class, str) and target is not str:
        return (str,)
    if issubclass(source_class, bytes | bytearray) and target not in (bytes, bytearray):
        return (int,)
    for base in (list, set, frozenset, dict, Mapping, Sequence, AbstractSet):
        given = arguments_for(source, base) if issubclass(source_class, base) else None
        if given is not None:
            return given if target in (Mapping, dict) or len(given) == 1 else given[:1]
    return None


def _tuple_fits(source: object, target: object, target_class: type) -> bool:
    items = _tuple_items(source)
    if items is None:
        return True
    wanted = get_args(target)
    if target_class is not tuple:
        return len(wanted) != 1 or all(_fits(item, wanted[0], promote=True) for item in items)
    if len(wanted) == 2 and wanted[1] is Ellipsis:
        return all(_fits(item, wanted[0], promote=True) for item in items)
    if _is_endless_tuple(source) or len(items) != len(wanted):
        return False
    return all(_fits(*pair, promote=True) for pair in zip(items, wanted, strict=True))


def _tuple_items(annotation: object) -> tuple[Any, ...] | None:
    """Return the item types of a tuple or a named tuple; None where it does not say."""
    if get_origin(annotation) is tuple:
        items = get_args(annotation)
        return items[:1] if _is_endless_tuple(annotation) else items
    if isinstance(annotation, type) and issubclass(annotation, tuple):
        named: Any = cast(object, annotation)
        hints = get_type_hints(named) if hasattr(named, "_fields") else {}
        return tuple(hints.values()) or None
    return None


def _is_endless_tuple(annotation: object) -> bool:
    args = get_args(annotation)
    return len(args) == 2 and args[1] is Ellipsis


# --- TypedDict


def _typed_dict_fits(source: object, target: object, *, promote: bool) -> bool:
    """A typed dict takes another one with at least its keys, each equally required and of the same type."""
    source_class, target_class = get_origin(source) or source, get_origin(target) or target
    if not is_typeddict(source_class):
        return False
    given, wanted = _keys_of(source_class), _keys_of(target_class)
    return all(
        key in given
        and given[key][1] == is_required
        and _fits(given[key][0], annotation, promote=promote)
        and _fits(annotation, given[key][0], promote=promote)
        for key, (annotation, is_required) in wanted.items()
    )


def _keys_of(typed_dict: Any) -> dict[str, tuple[Any, bool]]:
    """Return each key's type and whether it is required, which the class does not know of annotations in quotes."""
    keys: dict[str, tuple[Any, bool]] = {}
    for key, hint in get_type_hints(typed_dict, include_extras=True).items():
        is_required = key in typed_dict.__required_keys__
        form: object = get_origin(hint)
        if form is cast(object, Required) or form is cast(object, NotRequired):
            is_required = form is cast(object, Required)
        keys[key] = (hint, is_required)
    return keys
