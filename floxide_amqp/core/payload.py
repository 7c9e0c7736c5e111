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
from pydantic.errors import PydanticUserError

from floxide_amqp.core.payload_shapes import (
    Shape,
    UnsupportedTypeError,
    are_distinguishable,
    caller_locals,
    contains_any,
    describe,
    has_aliases,
    has_typed_dict,
    needs_flattening,
    record_classes,
    shape_of,
    union_members,
    unwrap,
)
from floxide_amqp.core.plain import first_change, flatten, type_name
from floxide_amqp.core.unknown_keys import UNREAD, unknown_keys
from floxide_amqp.exceptions import CodecError, DefinitionError, PayloadMismatchError

MAX_CACHED_TYPES: Final = 4_096
"""Annotations whose `PayloadType` is kept; a program has as many as it has node inputs, outputs and context fields."""


MAX_PROBLEMS: Final = 20
"""Problems of a JSON text that one error names."""


class Member:
    """One member of a payload's union, or the whole of a payload that is none.

    Attributes:
        annotation: What was written.
        tag: The name kept beside the data; the same for this type in whatever union it stands.
        shape: What its values look like.
    """

    __slots__ = (
        "_adapter", "_compares", "_drops_keys", "_dump", "_flattens", "_records", "_rules", "_validate", "annotation",
        "shape", "tag",
    )  # fmt: skip

    def __init__(self, annotation: Any, shape: Shape) -> None:
        self.annotation: object = annotation
        self.shape = shape
        self.tag = describe(unwrap(annotation))
        self._adapter = build_adapter(annotation)
        self._dump = self._adapter.serializer.to_python
        self._validate = self._adapter.validator.validate_python
        self._flattens = needs_flattening(shape)
        self._compares = contains_any(shape)
        self._records = record_classes(shape)
        self._drops_keys = has_typed_dict(shape)
        self._rules: dict[str, Any] = {"by_alias": False, "by_name": True} if has_aliases(shape) else {}

    def matches(self, value: object) -> bool:
        """Say whether a value belongs to this member, by its class."""
        kind, runtime = self.shape.kind, self.shape.runtime
        if kind == "any":
            return True
        if kind == "literal":
            return any(type(value) is type(choice) and value == choice for choice in self.shape.choices)
        if runtime is float:
            return isinstance(value, int | float) and not isinstance(value, bool)
        if runtime is Sequence:
            return isinstance(value, list | tuple)
        return isinstance(value, runtime)

    def dump(self, value: object) -> object:
        """Return a value of this member as plain data that `load` takes back.

        Raises:
            CodecError: The value is not one of this type, or would come back changed.
        """
        try:
            plain = self._dump(value, warnings="error", round_trip=True, by_alias=False)
            if self._flattens:
                plain = flatten(plain)
            loaded = self._validate(plain, **self._rules)
        except CodecError:
            raise
        except ValidationError as error:
            raise self._mismatch(value, _first_problem(error)) from error
        except RecursionError as error:
            raise self._mismatch(value, "it is nested too deeply") from error
        except Exception as error:  # pydantic's serializer and the user's validators may raise anything
            raise self._mismatch(value, _serializer_problem(error)) from error
        if self._compares or self._drops_keys or any(record.__subclasses__() for record in self._records):
            change = first_change(value, loaded, self._compares)
            if change is not None:
                raise self._mismatch(value, change)
        return cast(object, plain)

    def load(self, plain: object) -> object:
        """Return the value that plain data stands for.

        Raises:
            CodecError: The data does not fit the type.
        """
        try:
            if self._compares:  # what a bare `Any` accepts is handed through: without a copy two readers would share it
                plain = flatten(plain)
            return cast(object, self._validate(plain, **self._rules))
        except CodecError:
            raise
        except ValidationError as error:
            raise PayloadMismatchError(
                expected=self.tag, got=type_name(plain), problem=_first_problem(error), is_stored=True
            ) from error
        except Exception as error:  # a user's __post_init__ or validator may raise anything
            raise PayloadMismatchError(
                expected=self.tag, got=type_name(plain), problem=_serializer_problem(error), is_stored=True
            ) from error

    def _mismatch(self, value: object, problem: str) -> PayloadMismatchError:
        return PayloadMismatchError(expected=self.tag, got=type_name(value), problem=problem)


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
            raise self._wrong_json([*_all_problems(error), *unknown]) from error
        except Exception as error:  # a user's __post_init__ or validator may raise anything
            raise self._wrong_json([_serializer_problem(error)]) from error
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
            raise self._mismatch(plain, _all_problems(error)) from error
        except Exception as error:  # a user's __post_init__ or validator may raise anything
            raise self._mismatch(plain, [_serializer_problem(error)]) from error
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


def build_adapter(annotation: Any) -> TypeAdapter[Any]:
    """Return pydantic's adapter for an annotation whose names may be local to a function on the stack.

    Raises:
        UnsupportedTypeError: pydantic cannot build one.
    """
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        if not adapter.pydantic_complete:
            adapter.rebuild(_types_namespace=caller_locals())
    except (PydanticUserError, NameError, TypeError, ValueError) as error:
        cure = "use a dataclass, a pydantic model, a TypedDict, a NamedTuple, an Enum or builtin values"
        if getattr(error, "code", None) == "typed-dict-version":
            cure = (
                "import TypedDict from typing_extensions: before Python 3.12 typing's own does not name its needed keys"
            )
        first_line = str(error).partition("\n")[0].rstrip(".")
        raise UnsupportedTypeError(f"pydantic cannot carry it: {first_line}", cure) from error
    return adapter


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


def _first_problem(error: ValidationError) -> str:
    return _all_problems(error)[0]


def _all_problems(error: ValidationError) -> list[str]:
    found: list[str] = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(step) for step in problem["loc"])
        message = problem["msg"][:1].lower() + problem["msg"][1:]
        found.append(f"{place}: {message}" if place else message)
    return found


def _serializer_problem(error: Exception) -> str:
    """Shorten the serializer's text and drop the value from it: what users carry does not belong in logs."""
    text = str(error).replace("PydanticSerializationUnexpectedValue", "")
    lines = [line.strip(" ()") for line in text.splitlines() if line.strip() and "serializer warnings" not in line]
    line = lines[0] if lines else type(error).__name__
    wanted, _, details = line.partition(" - serialized value may not be as expected")
    field = details.partition("field_name='")[2].partition("'")[0]
    got = details.rpartition("input_type=")[2].rstrip("])")
    return ", ".join(p for p in (f"field {field!r}" if field else "", wanted.lower(), f"got {got}" if got else "") if p)
