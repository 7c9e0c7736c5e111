"""The members of a payload's union: what turns the values of one type into plain data and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from floxide_amqp.core.payload_shapes import UnsupportedTypeError, caller_locals, describe, unwrap
from floxide_amqp.core.plain import first_change, flatten, type_name
from floxide_amqp.core.shapes import (
    Shape,
    contains_any,
    has_aliases,
    has_typed_dict,
    is_bare,
    needs_flattening,
    record_classes,
)
from floxide_amqp.exceptions import CodecError, PayloadMismatchError


class Member:
    """One member of a payload's union, or the whole of a payload that is none.

    Attributes:
        annotation: What was written.
        tag: The name kept beside the data; the same for this type in whatever union it stands.
        shape: What its values look like.
        is_bare: Whether `load` makes of what `dump` gave the same as of what any encoding brings back of it, with
            nothing in it that somebody else holds.
    """

    __slots__ = (
        "_adapter", "_compares", "_drops_keys", "_dump", "_flattens", "_is_scalar", "_records", "_rules", "_validate",
        "annotation", "is_bare", "shape", "tag",
    )  # fmt: skip

    def __init__(self, annotation: Any, shape: Shape) -> None:
        self.annotation: object = annotation
        self.shape = shape
        self.tag = describe(unwrap(annotation))
        self._adapter = build_adapter(annotation)
        self._dump = self._adapter.serializer.to_python
        self._validate = self._adapter.validator.validate_python
        is_free = dumps_freely(self._adapter.core_schema)
        self._flattens = is_free or needs_flattening(shape)
        self.is_bare = not is_free and is_bare(shape)
        self._is_scalar = not is_free and shape.kind == "scalar"
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
        return self.dump_and_load(value)[0]

    def dump_and_load(self, value: object) -> tuple[object, object]:
        """Return a value of this member as plain data, and what `load` makes of that, which is how it is checked.

        Raises:
            CodecError: As `dump`.
        """
        try:
            if self._is_scalar and type(value) is self.shape.runtime:  # its own plain form: half of what a number costs
                plain = value
            else:
                plain = self._dump(value, warnings="error", round_trip=True, by_alias=False)
            if self._flattens:
                plain = flatten(plain)
            loaded = self._validate(plain, **self._rules)
        except CodecError:
            raise
        except ValidationError as error:
            raise self._mismatch(value, first_problem(error)) from error
        except RecursionError as error:
            raise self._mismatch(value, "it is nested too deeply") from error
        except Exception as error:  # pydantic's serializer and the user's validators may raise anything
            raise self._mismatch(value, serializer_problem(error)) from error
        if self._compares or self._drops_keys or self._has_subclasses():
            change = first_change(value, loaded, self._compares)
            if change is not None:
                raise self._mismatch(value, change)
        return plain, loaded

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
                expected=self.tag, got=type_name(plain), problem=first_problem(error), is_stored=True
            ) from error
        except Exception as error:  # a user's __post_init__ or validator may raise anything
            raise PayloadMismatchError(
                expected=self.tag, got=type_name(plain), problem=serializer_problem(error), is_stored=True
            ) from error

    def _has_subclasses(self) -> bool:
        """Whether something in a value may be of a class whose own fields pydantic does not see."""
        for record in self._records:  # noqa: SIM110 - a generator costs twice as much
            if record.__subclasses__():
                return True
        return False

    def _mismatch(self, value: object, problem: str) -> PayloadMismatchError:
        return PayloadMismatchError(expected=self.tag, got=type_name(value), problem=problem)


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


def dumps_freely(schema: object) -> bool:
    """Say whether values that pydantic has this core schema for may be dumped as something that no annotation tells.

    So it is where a serializer of the user's makes what is dumped, and where fields are kept that nobody declared.
    """
    todo: list[object] = [schema]
    seen: set[int] = set()
    while todo:
        part = todo.pop()
        if isinstance(part, dict) and id(cast(object, part)) not in seen:
            known = cast("dict[str, object]", part)
            seen.add(id(known))
            if "serialization" in known or "allow" in (known.get("extra_behavior"), known.get("extra_fields_behavior")):
                return True
            todo += known.values()
        elif isinstance(part, list | tuple):
            todo += cast("list[object]", part)
    return False


def first_problem(error: ValidationError) -> str:
    """Return the first of pydantic's problems, with its place."""
    return all_problems(error)[0]


def all_problems(error: ValidationError) -> list[str]:
    """Return pydantic's problems, each with its place, and without the value."""
    found: list[str] = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(step) for step in problem["loc"])
        message = problem["msg"][:1].lower() + problem["msg"][1:]
        found.append(f"{place}: {message}" if place else message)
    return found


def serializer_problem(error: Exception) -> str:
    """Shorten the serializer's text and drop the value from it: what users carry does not belong in logs."""
    text = str(error).replace("PydanticSerializationUnexpectedValue", "")
    lines = [line.strip(" ()") for line in text.splitlines() if line.strip() and "serializer warnings" not in line]
    line = lines[0] if lines else type(error).__name__
    wanted, _, details = line.partition(" - serialized value may not be as expected")
    field = details.partition("field_name='")[2].partition("'")[0]
    got = details.rpartition("input_type=")[2].rstrip("])")
    return ", ".join(p for p in (f"field {field!r}" if field else "", wanted.lower(), f"got {got}" if got else "") if p)
