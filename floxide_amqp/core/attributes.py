"""Attributes of runs: small typed facts by which runs are found, such as the tenant, the region, the stage reached.

They are compared as Python compares them: 1 equals 1.0, but no bool equals a number; instants are equal wherever their
time zones are. Names and values are stored as they are, never sealed, because the store looks runs up by them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from floxide_amqp.exceptions import InvalidAttributeError

AttributeValue: TypeAlias = str | int | float | bool | datetime
"""What an attribute may be: a text of up to 200 characters, a number, a bool, an aware instant."""

Attributes: TypeAlias = Mapping[str, AttributeValue]
"""The attributes of a run, by name."""

MAX_ATTRIBUTES: Final = 32
"""Attributes of one run at most: each is one more entry of an index to write, and to take away."""

MAX_NAME_LENGTH: Final = 64
MAX_TEXT_LENGTH: Final = 200
"""Characters of a text at most, so that the name of its index fits every store."""

_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{MAX_NAME_LENGTH - 1}}}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT64 = 2**63


def checked_attributes(given: Mapping[str, object]) -> dict[str, AttributeValue]:
    """Return attributes as they are stored, in the order of their names.

    Raises:
        InvalidAttributeError: A name or a value cannot be one, or there are more than 32.
    """
    if len(given) > MAX_ATTRIBUTES:
        name = sorted(given, key=str)[MAX_ATTRIBUTES]
        raise InvalidAttributeError(name=name, problem=f"a run has at most {MAX_ATTRIBUTES} attributes")
    return {name: checked_attribute(name, given[name]) for name in sorted(given, key=str)}


def checked_attribute(name: object, value: object) -> AttributeValue:
    """Return a value as it is stored: of exactly one of the types, instants in UTC.

    Raises:
        InvalidAttributeError: The name or the value cannot be one.
    """
    name = checked_name(name)
    match value:
        case bool():
            return value
        case str():
            return _checked_text(name, str.__str__(value))
        case int():
            if not -_INT64 <= value < _INT64:
                raise InvalidAttributeError(name=name, problem="a whole number has to fit into 64 bits")
            return int(value)
        case float():
            if not math.isfinite(value):
                raise InvalidAttributeError(name=name, problem=f"{value} is no number to look for")
            return float(value)
        case datetime():
            if value.utcoffset() is None:
                raise InvalidAttributeError(name=name, problem="an instant needs a time zone, as datetime.now(UTC) has")
            return instant_from(microseconds_of(value))
        case _:
            problem = f"a {type(value).__name__} is none of str, int, float, bool and datetime"
            raise InvalidAttributeError(name=name, problem=problem)


def checked_name(name: object) -> str:
    """Return the name of an attribute.

    Raises:
        InvalidAttributeError: It is empty, too long, has other characters or is no text.
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise InvalidAttributeError(
        name=str(name)[:MAX_NAME_LENGTH],
        problem=f"a name has 1 to {MAX_NAME_LENGTH} letters, digits, underscores, dots and hyphens",
    )


def _checked_text(name: str, text: str) -> str:
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidAttributeError(name=name, problem=f"a text has at most {MAX_TEXT_LENGTH} characters")
    if any(character < " " or character == "\x7f" or "\ud800" <= character <= "\udfff" for character in text):
        raise InvalidAttributeError(name=name, problem="a text has no control characters and no lone surrogates")
    return text


def merged_attributes(before: Attributes, changes: Mapping[str, AttributeValue | None]) -> dict[str, AttributeValue]:
    """Return attributes with some set, or taken away where the new value is None.

    Raises:
        InvalidAttributeError: There are more than 32.
    """
    after = {**before, **changes}
    return checked_attributes({name: value for name, value in after.items() if value is not None})


def lookup_text(value: AttributeValue) -> str:
    """Return a text that is the same for equal values and no others; `value` is as it is stored."""
    match value:
        case bool():
            return "b1" if value else "b0"
        case str():
            return f"s{value}"
        case float() if not value.is_integer() or abs(value) >= _INT64:
            return f"n{value!r}"
        case int() | float():
            return f"n{int(value)}"
        case datetime():
            return f"t{microseconds_of(value)}"


def equals(one: AttributeValue, other: AttributeValue) -> bool:
    """Whether two values, as they are stored, are found by each other."""
    return lookup_text(one) == lookup_text(other)


def microseconds_of(instant: datetime) -> int:
    """Return an aware instant as microseconds since 1970."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def instant_from(microseconds: int) -> datetime:
    """Return the instant so many microseconds after 1970 began, UTC.

    Raises:
        OverflowError: No calendar has it.
    """
    return _EPOCH + timedelta(microseconds=microseconds)
