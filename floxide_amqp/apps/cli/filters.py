"""The options that say which runs are meant, and how attributes and instants are written on a command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from floxide_amqp.apps.cli.failures import UsageError
from floxide_amqp.core.attributes import AttributeValue

AttributeOption = Annotated[
    list[str] | None,
    typer.Option("--attribute", "-a", metavar="NAME=VALUE", help="Only runs with this attribute; may be repeated."),
]
StartedAfterOption = Annotated[
    str | None, typer.Option("--started-after", metavar="TIME", help="Only runs started then or later.")
]
StartedBeforeOption = Annotated[
    str | None, typer.Option("--started-before", metavar="TIME", help="Only runs started earlier.")
]
SetAttributeOption = Annotated[
    list[str] | None,
    typer.Option("--attribute", "-a", metavar="NAME=VALUE", help="What it may be found by; may be repeated."),
]


def attributes_from(given: Sequence[str] | None) -> dict[str, AttributeValue]:
    """Return the attributes that options name.

    A value that is a number, ``true`` or ``false`` is one; one with a date, a time and a time zone is an instant; one
    in double quotes is the text between them, whatever it is; every other is the text itself.

    Raises:
        UsageError: One has no name or no value.
    """
    attributes: dict[str, AttributeValue] = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise UsageError(f"--attribute {each!r} is not of the form NAME=VALUE.")
        attributes[name] = value_from(value)
    return attributes


def value_from(text: str) -> AttributeValue:
    """Return the value of an attribute that a text stands for."""
    try:
        found: Any = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, str | int | float | bool):
        return found
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return text
    return text if instant.utcoffset() is None else instant


def instant_from(text: str | None) -> datetime | None:
    """Return the instant that a text stands for; one without a time zone is local time, as in a log of this machine.

    Raises:
        UsageError: It is none.
    """
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{text!r} is no time such as 2026-07-01 or 2026-07-01T12:00:00+02:00.") from error
