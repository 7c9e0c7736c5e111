"""From JSON on the command line to a workflow's typed input and context."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final, cast

from floxide_amqp.apps.cli.failures import UsageError
from floxide_amqp.core.context import Context, NestedField
from floxide_amqp.core.context_fields import ContextField, FixedField, ValueField
from floxide_amqp.core.event_log import EventLog
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.growing_fields import AppendField, LogField
from floxide_amqp.core.payload import PayloadType
from floxide_amqp.exceptions import CodecError

MAX_JSON_BYTES: Final = 64 * 1024 * 1024
"""Longest JSON text that is read: what it says would take half of it stored, and no payload may be longer."""


def read_json(given: str, what: str) -> str:
    """Return the JSON text that an option stands for: inline JSON, the path of a file, or ``-`` for standard input.

    Args:
        given: The option's value.
        what: What it is, for the error: ``--input``.

    Raises:
        UsageError: It is neither JSON nor a file with JSON.
    """
    if given == "-":
        source = f"What {what} read from standard input"
        return _checked(_short_enough(sys.stdin.read(MAX_JSON_BYTES + 1), source), source)
    problem = _problem(given)
    if problem is None:
        return given
    if _is_file(given):
        try:
            with Path(given).open(encoding="utf-8") as file:
                text = _short_enough(file.read(MAX_JSON_BYTES + 1), f"The file {given} of {what}")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"The file {given} of {what} cannot be read: {error}.") from error
        return _checked(text, f"The file {given} of {what}")
    if given.lstrip()[:1] in ("{", "[", '"'):
        raise UsageError(f"{what} is not JSON: {problem}.")
    raise UsageError(
        f"{what} is {given!r}, which is neither JSON nor a file. Give JSON (a text needs quotes of its own: "
        f"'{json.dumps(given)}'), the path of a file, or - for standard input."
    )


def parse_input(graph: Graph, given: str | None) -> Any:
    """Return a workflow's input from its option.

    Raises:
        UsageError: It is no JSON, or not of the input's type; the message names both.
    """
    if given is None:
        try:
            return graph.input.parse_json("null")
        except CodecError:
            raise UsageError(
                f"Workflow {graph.workflow!r} takes {graph.input.description}: give it with --input, as JSON, "
                "as the path of a file, or - for standard input."
            ) from None
    return parse_value(graph.input, given, "--input", f"The input of workflow {graph.workflow!r}")


def parse_value(payload: PayloadType, given: str, option: str, what: str) -> Any:
    """Return a value from what the command line says: inline JSON, the path of a file, or ``-``.

    Args:
        payload: The value's type.
        given: What the command line says.
        option: Where, for the error: ``--input``.
        what: What the value is, as the subject of a sentence.

    Raises:
        UsageError: It is no JSON, or not of the type.
    """
    return _parse(payload, read_json(given, option), what)


def parse_context(kind: type[Context], given: str | None) -> Context | None:
    """Return a run's initial context from its option: a JSON object with a member per field.

    Returns:
        None where the option is not given: every field has its default then.

    Raises:
        UsageError: It is no JSON object, names an unknown field, lacks one without default, or has a wrong type.
    """
    if given is None:
        missing = [name for name, field in kind.__context_fields__.items() if not field.has_default]
        if missing:
            raise UsageError(
                f"The workflow has the context {kind.__name__}, whose {_and(missing)} must be given: "
                f"--context '{{{', '.join(f'{json.dumps(name)}: …' for name in missing)}}}'."
            )
        return None
    if not kind.__context_fields__:
        raise UsageError("The workflow has no context; leave --context out.")
    return _context(kind, json.loads(read_json(given, "--context")), kind.__name__)


def parse_field(kind: type[Context], name: str, given: str, option: str) -> Any:
    """Return the value of one field of a context: inline JSON, the path of a file, or ``-``.

    Raises:
        UsageError: There is no such field, or the value is no JSON or not of its type.
    """
    if name not in kind.__context_fields__:
        have = ", ".join(kind.__context_fields__) or "none"
        raise UsageError(f"{kind.__name__} has no field {name!r}; its fields are: {have}.")
    return _field(kind.__context_fields__[name], json.loads(read_json(given, option)), f"{kind.__name__}.{name}")


def _context(kind: type[Context], values: Any, where: str) -> Context:
    if not isinstance(values, dict):
        raise UsageError(f"{where} is a context: write a JSON object with its fields, not {_kind_of(values)}.")
    parsed: dict[str, Any] = {}
    for name, value in cast("dict[str, Any]", values).items():
        if name not in kind.__context_fields__:
            have = ", ".join(kind.__context_fields__) or "none"
            raise UsageError(f"{where} has no field {name!r}; its fields are: {have}.")
        parsed[name] = _field(kind.__context_fields__[name], value, f"{where}.{name}")
    try:
        return kind(**parsed)
    except (TypeError, CodecError) as error:
        raise UsageError(f"The context does not fit: {error}.") from error


def _field(field: ContextField, value: Any, where: str) -> Any:
    if isinstance(field, NestedField):
        return _context(field.context, value, where)
    if isinstance(field, LogField):
        if not isinstance(value, list):
            raise UsageError(f"{where} is an event log: write a JSON array with its events, not {_kind_of(value)}.")
        events = cast("list[object]", value)
        return EventLog(_parse(field.payload, json.dumps(event), where) for event in events)
    if isinstance(field, ValueField | FixedField | AppendField):
        return _parse(field.payload, json.dumps(value), where)
    raise UsageError(f"{where} cannot be given as JSON.")


def _parse(payload: PayloadType, text: str, where: str) -> Any:
    try:
        return payload.parse_json(text)
    except CodecError as error:
        problem = str(getattr(error, "problem", "") or error)
        raise UsageError(f"{where} must be {payload.description}, and what was given is not: {problem}.") from error


def _short_enough(text: str, what: str) -> str:
    if len(text) > MAX_JSON_BYTES:
        raise UsageError(f"{what} is too long: JSON may have at most {MAX_JSON_BYTES} characters.")
    return text


def _checked(text: str, what: str) -> str:
    problem = _problem(text)
    if problem is not None:
        raise UsageError(f"{what} is not JSON: {problem}.")
    return text


def _problem(text: str) -> str | None:
    """Say in words where a text stops being JSON; None where it is."""
    if not text.strip():
        return "it is empty"
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"{error.msg[:1].lower()}{error.msg[1:]} (line {error.lineno}, column {error.colno})"
    except RecursionError:
        return "it is nested too deeply"
    except ValueError:
        return "it has a number with more digits than Python reads"
    return None


def _is_file(given: str) -> bool:
    try:
        return Path(given).is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL
        return False


def _kind_of(value: object) -> str:
    names: dict[type, str] = {list: "an array", str: "a text", bool: "a boolean", type(None): "null", dict: "an object"}
    return names.get(type(value), "a number")


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
