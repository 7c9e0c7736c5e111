"""From a message of somebody else's to a workflow's input: what cannot be made one is said in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from floxide_amqp.core.attributes import AttributeValue
from floxide_amqp.core.failure import describe_error
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.priorities import Priority
from floxide_amqp.core.sources import MessageKey, SourceMessage, source_run_id
from floxide_amqp.exceptions import PayloadMismatchError, UnusableMessageError
from floxide_amqp.runtime.amqp_source import AmqpSource
from floxide_amqp.runtime.execution import USER_ERRORS
from floxide_amqp.stores.encoding import unpack

JSON: Final = frozenset({"", "application/json", "text/json"})
MSGPACK: Final = frozenset({"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"})
PLAIN_ENCODINGS: Final = frozenset({"", "identity", "utf-8", "utf8"})

MAX_CONTAINERS: Final = 100_000
"""Most lists and dicts that a msgpack body may have."""


def input_of(source: AmqpSource[Any], graph: Graph, message: SourceMessage) -> Any:
    """Return the input of a message's run.

    Raises:
        CodecError: None can be made of it.
    """
    if len(message.body) > source.max_bytes:
        raise UnusableMessageError(
            problem=f"It has {len(message.body):,} bytes, and at most {source.max_bytes:,} are decoded",
            cure="Give the source a larger max_bytes, or have large things put into a blob store",
        )
    if source.decode is not None:
        return _called(source.decode, "decode", message)
    if message.content_encoding.lower() not in PLAIN_ENCODINGS:
        raise UnusableMessageError(
            problem=f"Its content_encoding is {message.content_encoding!r:.60}", cure="Give the source decode=..."
        )
    ignores = source.extra_fields == "ignore"
    kind = message.content_type.partition(";")[0].strip().lower()
    try:
        if kind in JSON or kind.endswith("+json"):
            return graph.input.parse_json(message.body, ignores_unknown=ignores)
        if kind in MSGPACK:
            plain = unpack(message.body, max_bytes=source.max_bytes, max_containers=MAX_CONTAINERS)
            return graph.input.parse_plain(plain, ignores_unknown=ignores)
    except PayloadMismatchError as error:
        raise error.at(f"The body for workflow {graph.workflow!r}") from error
    raise UnusableMessageError(
        problem=f"Its content_type is {message.content_type!r:.60}, and JSON and msgpack are understood",
        cure="Have its sender say what it is, or give the source decode=...",
    )


def run_id_of(source: AmqpSource[Any], message: SourceMessage, value: Any) -> RunId:
    """Return the id of a message's run.

    Raises:
        UnusableMessageError: It has no key.
    """
    if isinstance(source.key, MessageKey):
        return source_run_id(source.name, _called(source.key.of, "key", message, value))
    key: object = _called(source.key, "key", message)
    if not isinstance(key, str) or not key:
        raise UnusableMessageError(problem=f"key=... made {key!r:.60} of it", cure="It has to return a text")
    return source_run_id(source.name, key)


def context_of(source: AmqpSource[Any], message: SourceMessage, value: Any) -> Any:
    """Return the initial context of a message's run; None where it has its defaults.

    Raises:
        UnusableMessageError: None can be made of it.
    """
    return None if source.context is None else _called(source.context, "context", value, message)


def priority_of(source: AmqpSource[Any], message: SourceMessage) -> Priority:
    """Return the level of a message's run.

    Raises:
        UnusableMessageError: None can be told.
    """
    if source.priority is None:
        return Priority.NORMAL
    level: object = _called(source.priority, "priority", message)
    if not isinstance(level, Priority):
        raise UnusableMessageError(problem=f"priority=... made {level!r:.60} of it", cure="It has to return a Priority")
    return level


def attributes_of(names: Mapping[str, str], message: SourceMessage) -> dict[str, AttributeValue]:
    """Return the attributes of a message's run.

    Args:
        names: The header of each.
        message: The message.

    Raises:
        UnusableMessageError: A header has a value that no attribute can have.
    """
    found: dict[str, AttributeValue] = {}
    for name, header in names.items():
        value = message.headers.get(header)
        if value is None:
            continue
        if not isinstance(value, str | int | float | bool | datetime):
            raise UnusableMessageError(
                problem=f"Its header {header!r} is a {type(value).__name__}, which no attribute of a run can be",
                cure="Leave it out of attributes=...",
            )
        found[name] = value
    return found


def _called(function: Any, name: str, *arguments: Any) -> Any:
    """Return what a function of the user's makes of a message."""
    try:
        return function(*arguments)
    except UnusableMessageError:
        raise
    except USER_ERRORS as error:  # user code, whose exits must not end one worker after the other
        raised = f"{type(error).__name__}: {describe_error(error).message}"
        raise UnusableMessageError(
            problem=f"{name}=... raised {raised:.500}", cure="Mend what is wrong, and requeue it"
        ) from error
