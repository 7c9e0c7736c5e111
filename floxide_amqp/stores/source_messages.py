"""A message of a source as bytes: what the quarantine keeps of it, sealed as payloads are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from floxide_amqp.core.sources import SourceMessage
from floxide_amqp.exceptions import CodecError
from floxide_amqp.stores import source_keys
from floxide_amqp.stores.encoding import pack, unpack
from floxide_amqp.stores.sealed import Place
from floxide_amqp.stores.sealed_places import SOURCE_MESSAGE
from floxide_amqp.stores.sealing import Sealing

FIELDS: Final = 7


def seal_message(sealing: Sealing, source: str, quarantine_id: str, message: SourceMessage) -> bytes:
    """Return a message as it is kept; headers that cannot be packed are kept as texts.

    Raises:
        CodecError: It is too long to be packed, or a codec fails.
    """
    packed = pack([
        message.body, message.message_id, message.content_type, message.content_encoding,
        {name: _packable(value) for name, value in message.headers.items()}, message.exchange, message.routing_key,
        message.priority,
    ])  # fmt: skip
    return sealing.seal(packed, _place(source, quarantine_id))


def open_message(sealing: Sealing, source: str, quarantine_id: str, kept: bytes) -> SourceMessage:
    """Return a message that was kept.

    Raises:
        CodecError: The bytes are none.
        UnreadableRecordError: They were changed, or this process lacks the key.
    """
    found = unpack(sealing.open(kept, _place(source, quarantine_id)))
    values: Sequence[Any] = cast("Sequence[Any]", found) if isinstance(found, list | tuple) else []
    if len(values) <= FIELDS or not isinstance(values[0], bytes) or not isinstance(values[4], Mapping):
        raise CodecError("The bytes are no message of a source.")
    return SourceMessage(
        body=values[0], message_id=values[1], content_type=values[2], content_encoding=values[3],
        headers=cast("Mapping[str, object]", values[4]),
        exchange=values[5], routing_key=values[6], priority=values[7],
    )  # fmt: skip


def _packable(value: object) -> object:
    try:
        pack(value)
    except CodecError:
        return str(value)
    return value


def _place(source: str, quarantine_id: str) -> Place:
    return Place(source_keys.source_partition(source), SOURCE_MESSAGE, quarantine_id)
