"""What is read from the store may be damaged, or of a newer release: then the error says where it lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from floxide_amqp.exceptions import CodecError, NewerFormatError, UnreadableRecordError
from floxide_amqp.ports.key_value import Key

T = TypeVar("T")


def read_record(decode: Callable[[bytes], T], data: bytes, key: Key, part: str = "") -> T:
    """Return a record as decoded.

    Args:
        decode: Decodes it, raising `CodecError` where it cannot.
        data: What the store has.
        key: Where.
        part: Where within that, such as a position in a log.

    Raises:
        UnreadableRecordError: It is damaged, or a newer release wrote it.
    """
    try:
        return decode(data)
    except CodecError as error:
        is_newer = isinstance(error, NewerFormatError)
        place = "/".join(filter(None, (*key, part)))
        raise UnreadableRecordError(place=place, problem=str(error), is_newer=is_newer) from error
