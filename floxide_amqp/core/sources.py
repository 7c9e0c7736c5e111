"""Sources: what is known of a message of somebody else's, what its run is called, and what is kept of a source."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, cast
from uuid import UUID

from floxide_amqp.core.ids import MAX_RUN_ID_LENGTH, RunId
from floxide_amqp.exceptions import DefinitionError, UnusableMessageError

MAX_SOURCE_NAME: Final = 100
"""Characters of a source's name: its runs' ids begin with it."""

DIGEST_BYTES: Final = 16
"""Of what stands for a long or an unprintable key in a run's id, and for a body: no two are the same by chance."""


UNDECODABLE: Final = "undecodable."
"""What the header is called, before the property's name, that keeps a property of a message which cannot be decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMessage:
    r"""A message from a queue that is not the engine's.

    Attributes:
        body: Its bytes.
        message_id: What its sender called it; empty where it has no id.
        content_type, content_encoding: What its sender says of its body; empty where nothing is said.
        headers: Its headers: texts, numbers, bools, bytes, instants, and lists and tables of such. A text that is not
            UTF-8 is bytes, and a name has ``\xNN`` for such a byte. A property that cannot be decoded is missing, and
            stands here as it came: ``undecodable.message_id``.
        exchange, routing_key: How it came into the queue.
        priority: Its priority; None where it has none.
        redelivered: Whether it was delivered before; it may have been handed out before all the same where this says
            no.
    """

    body: bytes
    message_id: str = ""
    content_type: str = ""
    content_encoding: str = ""
    headers: Mapping[str, object] = field(default_factory=dict[str, object])
    exchange: str = ""
    routing_key: str = ""
    priority: int | None = None
    redelivered: bool = False


class KeyKind(Enum):
    """Where a message's key comes from."""

    MESSAGE_ID = "message_id"
    HEADER = "header"
    FIELD = "field"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class MessageKey:
    """What tells a message from all others of its source: two with the same key are one run.

    Attributes:
        kind: Where it comes from.
        name: The header, or the path of the field.
    """

    kind: KeyKind
    name: str = ""

    @staticmethod
    def message_id() -> MessageKey:
        """The property ``message_id``, which its sender must set."""
        return MessageKey(KeyKind.MESSAGE_ID)

    @staticmethod
    def header(name: str) -> MessageKey:
        """A header: a text, a whole number or a UUID."""
        return MessageKey(KeyKind.HEADER, _named(name, "a header"))

    @staticmethod
    def field(path: str) -> MessageKey:
        """A field of the decoded input: a text, a whole number or a UUID; ``order.id`` is the field id of order."""
        return MessageKey(KeyKind.FIELD, _named(path, "a field"))

    @staticmethod
    def body() -> MessageKey:
        """A digest of the body: two messages with the same bytes are one."""
        return MessageKey(KeyKind.BODY)

    def of(self, message: SourceMessage, value: object) -> str:
        """Return a message's key.

        Args:
            message: The message.
            value: What it was decoded to.

        Raises:
            UnusableMessageError: It has none.
        """
        match self.kind:
            case KeyKind.MESSAGE_ID:
                if not message.message_id:
                    is_odd = f"{UNDECODABLE}{self.kind.value}" in message.headers
                    found = "Its message_id, by which its run would be called, is not UTF-8"
                    raise UnusableMessageError(
                        problem=found if is_odd else "It has no message_id, by which its run would be called",
                        cure="Have its sender set one, or give the source another key, such as MessageKey.body()",
                    )
                return message.message_id
            case KeyKind.HEADER:
                return _text_of(message.headers.get(self.name), f"header {self.name!r}")
            case KeyKind.FIELD:
                for part in self.name.split("."):
                    value = _field_of(value, part)
                return _text_of(value, f"field {self.name!r}")
            case KeyKind.BODY:
                return hashlib.blake2b(message.body, digest_size=DIGEST_BYTES).hexdigest()


KeyFunction = Callable[[SourceMessage], str]
"""Makes a message's key."""


def source_run_id(source: str, key: str) -> RunId:
    """Return the id of the run of a source's item: ``<source>:<key>``, and no two keys have the same.

    A key that is too long for that, has something unprintable in it, a blank around it or a tilde in front is replaced
    by a tilde and its digest.

    Args:
        source: The source's name; it has no colon.
        key: The item's key, not empty.
    """
    room = MAX_RUN_ID_LENGTH - len(source) - 1
    fits = 0 < len(key) <= room and key == key.strip() and not key.startswith("~") and not _has_unprintable(key)
    if not fits:
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES)
        key = f"~{digest.hexdigest()}"
    return RunId(f"{source}:{key}")


def check_source_name(name: str) -> None:
    """Refuse what cannot be a source's name.

    Raises:
        DefinitionError: It cannot.
    """
    fits = 0 < len(name) <= MAX_SOURCE_NAME and name == name.strip() and ":" not in name and not _has_unprintable(name)
    if not fits:
        raise DefinitionError(
            f"A source cannot be called {name!r}: its name has 1 to {MAX_SOURCE_NAME} printable characters, no colon, "
            "and no blank at its beginning or end."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """What a source is, as its workers say it.

    Attributes:
        kind: ``queue`` or ``iterator``.
        origin: Where its items come from, for people.
    """

    name: str
    kind: str
    workflow: str
    version: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceControl:
    """What somebody wants of a source.

    Attributes:
        note: Why it is paused, in the words of whoever did it.
    """

    paused: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceProblem:
    """What keeps a source from its items, or kept it from them the last time.

    Attributes:
        text: What it is; empty where all is well again.
        at_ms: Since when, store time.
        worker: Who met it.
    """

    text: str = ""
    at_ms: int = 0
    worker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCounts:
    """What became of a source's items.

    Attributes:
        received: Items that came, also those that came again.
        started: Runs started.
        duplicates: Items whose run was there, or had been.
        quarantined: Items that no run could be made of, and that are kept.
        rejected: The same, given back to the queue's own dead letter exchange.
    """

    received: int = 0
    started: int = 0
    duplicates: int = 0
    quarantined: int = 0
    rejected: int = 0


def _field_of(value: object, name: str) -> object:
    if isinstance(value, Mapping):
        return cast("Mapping[object, object]", value).get(name)
    return cast(object, getattr(value, name, None))


def _named(name: str, what: str) -> str:
    if not name:
        raise DefinitionError(f"MessageKey.{what.rpartition(' ')[2]}(...) needs the name of {what}.")
    return name


def _text_of(value: object, where: str) -> str:
    if isinstance(value, UUID) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    if isinstance(value, str) and value:
        return value
    found = "is missing or empty" if value is None or value == "" else f"is a {type(value).__name__}"
    raise UnusableMessageError(
        problem=f"Its {where}, by which its run would be called, {found}",
        cure="It must be a text, a whole number or a UUID",
    )


def _has_unprintable(text: str) -> bool:
    return any(unicodedata.category(character).startswith("C") for character in text)
