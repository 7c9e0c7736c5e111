"""What is kept of a context beside its log, as bytes: snapshots, and the segments that these leave out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

from floxide_amqp.exceptions import CodecError
from floxide_amqp.stores.packing import ARRAY, BYTES, INT, STR, Shape, pack_record, unpack_record

SNAPSHOT: Final = Shape("context snapshot", 2, position=INT, context=BYTES, segments=INT, kept=ARRAY)
SEGMENT: Final = Shape("context segment", 3, path=STR, first=INT, elements=BYTES)


class SnapshotRecord(NamedTuple):
    """A snapshot.

    Attributes:
        position: What of the log it has merged.
        context: The context, packed, without what its segments have.
        segments: How many segments belong to it: those with numbers below this.
        kept: How many of the first elements of each long field, by its path, are in them.
    """

    position: int
    context: bytes
    segments: int = 0
    kept: Mapping[str, int] = {}


class SegmentRecord(NamedTuple):
    """Some elements of a long field: its path, the place of the first of them, and the list of them, packed."""

    path: str
    first: int
    elements: bytes


def encode_snapshot(position: int, context: bytes, segments: int = 0, kept: Mapping[str, int] | None = None) -> bytes:
    """Encode a snapshot; see `SnapshotRecord`.

    Raises:
        CodecError: It is larger than a record may be.
    """
    return pack_record(SNAPSHOT, position, context, segments, tuple((kept or {}).items()))


def decode_snapshot(data: bytes) -> SnapshotRecord:
    """Decode a snapshot.

    Raises:
        CodecError: The bytes are none.
    """
    fields = unpack_record(SNAPSHOT, data)
    position, context = fields[:2]
    segments, kept = fields[2:4] if len(fields) > 3 else (0, ())
    if position < 0 or segments < 0:
        raise CodecError("A context snapshot reaches a position before the log.")
    return SnapshotRecord(position, context, segments, dict(map(_kept, kept)))


def encode_segment(path: str, first: int, elements: bytes) -> bytes:
    """Encode a segment; see `SegmentRecord`.

    Raises:
        CodecError: It is larger than a record may be.
    """
    return pack_record(SEGMENT, path, first, elements)


def decode_segment(data: bytes) -> SegmentRecord:
    """Decode a segment.

    Raises:
        CodecError: The bytes are none.
    """
    path, first, elements = unpack_record(SEGMENT, data)[:3]
    return SegmentRecord(path, first, elements)


def _kept(pair: Any) -> tuple[str, int]:
    found = cast("tuple[Any, ...]", pair)
    if type(found) is not tuple or len(found) != 2 or type(found[0]) is not str or type(found[1]) is not int:
        raise CodecError("What a context snapshot keeps of a field is no pair of a path and a number.")
    return found[0], found[1]
