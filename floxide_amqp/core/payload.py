"""Payloads: typed values as plain data and back.

Owns the two directions and what is checked on the way. *Plain data* is ``None``, ``bool``, ``int``, ``float``,
``str``, ``bytes``, ``list``, ``dict``, ``tuple``, ``set``, ``frozenset``, the datetime family, ``UUID`` and
``Decimal``; bytes are made of it in ``floxide_amqp.stores.encoding``.

Invariants: what `PayloadType.dump` accepts, `PayloadType.load` takes back as an equal value of the same class; a
union's member is decided by its tag, never by guessing among twins; no class is ever found by a name that came with
the data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any, Final, cast

from pydantic import TypeAdapter, ValidationError

from floxide_amqp.core.payload_members import Member, all_problems, build_adapter, serializer_problem
from floxide_amqp.core.payload_shapes import (
    UnsupportedTypeError,
    describe,
    shape_of,
    union_members,
)
from floxide_amqp.core.plain import type_name
from floxide_amqp.core.shape_differences import are_distinguishable
from floxide_amqp.core.shapes import Shape, contains_any
from floxide_amqp.core.unknown_keys import UNREAD, unknown_keys
from floxide_amqp.exceptions import CodecError, DefinitionError, PayloadMismatchError

MAX_CACHED_TYPES: Final = 4_096
"""Annotations whose `PayloadType` is kept; a program has as many as it has node inputs, outputs and context fields."""


MAX_PROBLEMS: Final = 20
"""Problems of a JSON text that one error names."""


class PayloadType:
    """A type that values of nodes, signals and context fields may have; made once per annotation by `of`.

    Attributes:
        annotation: What was written.
        description: How errors print it: ``Approved | Rejected``.
        members: The members of a union; one for any other type.
    """

    __slots__ = ("_by_class", "_by_tag", "_union", "annotation", "description", "members", "shape")

    def __init__(self, annotation: Any) -> None:
        self.annotation: object = annotation
        self.description = describe(annotation)
        self.shape = shape_of(annotation)
        if contains_any(self.shape) and any(s.kind == "any" for s in (self.shape, *self.shape.items)):
            self.members: tuple[Member, ...] = (Member(annotation, self.shape),)
        else:
            shapes = self.shape.items if self.shape.kind == "union" else (self.shape,)
            self.members = tuple(Member(a, s) for a, s in zip(union_members(annotation), shapes, strict=True))
        self._by_tag = {member.tag: member for member in self.members}
        self._by_class: dict[type, Member] = _index_by_class(self.members)
        self._union: TypeAdapter[Any] | None = None

    def __repr__(self) -> str:
        return f"PayloadType({self.description})"

    @classmethod
    def of(cls, annotation: Any, *, where: str) -> PayloadType:
        """Return the payload type of an annotation.

        Args:
            annotation: A resolved annotation, no string.
            where: What has it, for the error: ``"the input of node charge"``.

        Raises:
            DefinitionError: Values of it cannot be carried, or not told apart once stored; names the cure.
        """
        try:
            return _cached(annotation)
        except UnsupportedTypeError as error:
            raise DefinitionError(
                f"{where} has the type {describe(annotation)}: {error.problem}. To cure it, {error.cure}."
            ) from error

    def member_of(self, value: object) -> Member:
        """Return the member a value belongs to.

        Raises:
            CodecError: It belongs to none.
        """
        member = self._by_class.get(type(value))
        if member is not None:
            return member
        for member in self.members:
            if member.matches(value):
                return member
        raise PayloadMismatchError(expected=self.description, got=type_name(value))

    def dump(self, value: object) -> tuple[str, object]:
        """Return the tag of the member a value belongs to, and the value as plain data.

        Raises:
            CodecError: The value is not of this type, or would come back changed; names both types.
        """
        member = self._by_class.get(type(value)) or self.member_of(value)
        return member.tag, member.dump(value)

    def load(self, tag: str, plain: object) -> object:
        """Return the value that plain data stands for.

        Args:
            tag: The tag it was dumped with. One that is not of this type (its producer declared another, assignable
                type, or an older version wrote it) is resolved by what fits.
            plain: The plain data.

        Raises:
            CodecError: The data fits no member, or the tag is not known and it fits several twins.
        """
        member = self._by_tag.get(tag)
        if member is not None:
            return member.load(plain)
        if len(self.members) == 1:
            return self.members[0].load(plain)
        return self._load_unknown(tag, plain)

    def parse_json(self, text: str | bytes, *, ignores_unknown: bool = False) -> object:
        """Return the value that JSON text stands for, as given on a command line; a union's first best member wins.

        Args:
            text: The text.
            ignores_unknown: Whether keys that the type does not have are passed over.

        Raises:
            CodecError: The text is no JSON, does not fit the type, or has a key that the type does not have: a misspelt
                field would be dropped silently. Names every problem.
        """
        try:
            value = self._adapter().validate_json(text)
        except ValidationError as error:
            unknown = [] if ignores_unknown else self._unknown_keys(text)
            raise self._wrong_json([*all_problems(error), *unknown]) from error
        except Exception as error:  # a user's __post_init__ or validator may raise anything
            raise self._wrong_json([serializer_problem(error)]) from error
        unknown = [] if ignores_unknown else self._unknown_keys(text, value)
        if unknown:
            raise self._wrong_json(unknown)
        return cast(object, value)

    def parse_plain(self, plain: object, *, ignores_unknown: bool = False) -> object:
        """Return the value that plain data of somebody else's stands for; as `parse_json`, which see.

        Raises:
            CodecError: It does not fit the type, or has a key that the type does not have.
        """
        try:
            value = self._adapter().validate_python(plain)
        except ValidationError as error:
            raise self._mismatch(plain, all_problems(error)) from error
        except Exception as error:  # a user's __post_init__ or validator may raise anything
            raise self._mismatch(plain, [serializer_problem(error)]) from error
        unknown = [] if ignores_unknown else unknown_keys(self.shape, plain, value)
        if unknown:
            raise self._mismatch(plain, unknown)
        return cast(object, value)

    def _mismatch(self, plain: object, problems: Sequence[str]) -> PayloadMismatchError:
        shown = "; ".join(problems[:MAX_PROBLEMS])
        return PayloadMismatchError(expected=self.description, got=type_name(plain), problem=shown)

    def _unknown_keys(self, text: str | bytes, value: object = UNREAD) -> list[str]:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return []
        return unknown_keys(self.shape, document, value)

    def _wrong_json(self, problems: Sequence[str]) -> PayloadMismatchError:
        shown = "; ".join(problems[:MAX_PROBLEMS])
        more = f"; and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        return PayloadMismatchError(expected=self.description, got="JSON text", problem=shown + more)

    def to_json(self, value: object) -> bytes:
        """Return a value of this type as JSON, for people to read.

        Raises:
            CodecError: The value is not of this type.
        """
        member = self.member_of(value)
        member.dump(value)
        adapter = build_adapter(member.annotation)
        return adapter.dump_json(value, indent=2)

    def _adapter(self) -> TypeAdapter[Any]:
        if self._union is None:
            self._union = build_adapter(self.annotation)
        return self._union

    def _load_unknown(self, tag: str, plain: object) -> object:
        fitting = [member for member in self.members if _fits(member, plain)]
        if len(fitting) == 1:
            return fitting[0].load(plain)
        named = [m for m in fitting if tag in {describe(c) for c in _subclasses(m.shape.runtime)}]
        if len(named) == 1:
            return named[0].load(plain)
        twins = next((pair for pair in combinations(fitting, 2) if not are_distinguishable(*_shapes(pair))), None)
        if fitting and twins is None:
            return cast(object, self._adapter().validate_python(plain))
        reason = f"the data fits {twins[0].tag} as well as {twins[1].tag}" if twins else "no member fits"
        raise PayloadMismatchError(
            expected=self.description,
            got=type_name(plain),
            problem=f"its tag {tag!r} is not known here, and {reason}",
            is_stored=True,
        )


@lru_cache(maxsize=MAX_CACHED_TYPES, typed=True)
def _cached_hashable(annotation: Any, _written: str) -> PayloadType:
    return PayloadType(annotation)


def _cached(annotation: Any) -> PayloadType:
    """Make a payload type once; the text is part of the key, since ``list[Literal[0]] == list[Literal[False]]``."""
    try:
        hash(annotation)
    except TypeError:  # Annotated with an unhashable note
        return PayloadType(annotation)
    return _cached_hashable(annotation, repr(annotation))


def _index_by_class(members: tuple[Member, ...]) -> dict[type, Member]:
    index: dict[type, Member] = {}
    tags: dict[str, Member] = {}
    for member in members:
        for runtime in _runtime_classes(member):
            other = index.get(runtime)
            if other is not None:
                raise _indistinguishable(other, member, f"at run time both are {runtime.__name__}")
            index[runtime] = member
        other = tags.setdefault(member.tag, member)
        if other is not member:
            raise _indistinguishable(other, member, "both have the same name")
    return index


def _runtime_classes(member: Member) -> tuple[type, ...]:
    shape = member.shape
    if shape.kind in {"any", "literal", "union"}:
        return ()
    if shape.kind == "sequence":
        return (list, tuple)
    return (shape.runtime,)


def _indistinguishable(first: Member, second: Member, reason: str) -> UnsupportedTypeError:
    return UnsupportedTypeError(
        f"a {first.tag} cannot be told from a {second.tag}, since {reason}",
        "wrap each in a dataclass of its own",
    )


def _shapes(pair: tuple[Member, Member]) -> tuple[Shape, Shape]:
    return pair[0].shape, pair[1].shape


def _fits(member: Member, plain: object) -> bool:
    try:
        member.load(plain)
    except CodecError:
        return False
    return True


def _subclasses(owner: type) -> list[type]:
    if owner is object:
        return []
    found: list[type] = []
    todo = [owner]
    while todo:
        below: type
        for below in type.__subclasses__(todo.pop()):
            found.append(below)
            todo.append(below)
    return found
