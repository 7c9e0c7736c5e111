"""Attributes of runs as stored: a cell of the run with all of them, and for each an entry among the runs that have it.

Invariant: a run that is listed has the cell's attributes as entries, and no others; both change in one batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast

from floxide_amqp.core.attributes import (
    Attributes,
    AttributeValue,
    checked_attributes,
    instant_from,
    lookup_text,
    microseconds_of,
)
from floxide_amqp.core.ids import RunId
from floxide_amqp.exceptions import CodecError
from floxide_amqp.ports.key_value import Cell, Enter, Leave, Put, Write
from floxide_amqp.stores import keys, run_list_keys
from floxide_amqp.stores.damage import read_record
from floxide_amqp.stores.packing import ARRAY, STR, Shape, pack_record, unpack_record

MAX_BYTES: Final = 64 * 1024
"""Longest record of attributes: 32 of 200 characters each have less."""

ATTRIBUTES: Final = Shape("record of attributes", 1, max_bytes=MAX_BYTES, attributes=ARRAY)
ATTRIBUTE: Final = Shape("attribute", 3, name=STR, kind=STR, value=frozenset({str, int, float, bool}))

PLAIN: Final[dict[str, type]] = {"s": str, "i": int, "f": float, "b": bool}
INSTANT: Final = "t"


@dataclass(frozen=True, slots=True)
class StoredAttributes:
    """The attributes of a run, and the version of their cell; 0 where none was ever set."""

    values: Attributes = field(default_factory=dict[str, AttributeValue])
    version: int = 0


def stored_attributes(run_id: RunId, cell: Cell) -> StoredAttributes:
    """Return what the cell of a run's attributes holds.

    Raises:
        UnreadableRecordError: It cannot be read.
    """
    if not cell.version:
        return StoredAttributes()
    return StoredAttributes(read_record(decode_attributes, cell.value, keys.attributes(run_id)), cell.version)


def attribute_index(name: str, value: AttributeValue) -> str:
    """Return the index of the runs that have an attribute."""
    return run_list_keys.runs_with_attribute(name, lookup_text(value))


def attribute_writes(run_id: RunId, run_entry: str, before: Attributes, after: Attributes) -> list[Write]:
    """Return what makes one set of attributes of a run another one, in its cell and in the indexes."""
    had = {attribute_index(name, value) for name, value in before.items()}
    has = {attribute_index(name, value) for name, value in after.items()}
    leaves = [Leave(index, run_entry) for index in sorted(had - has)]
    enters = [Enter(index, run_entry) for index in sorted(has - had)]
    return [Put(keys.attributes(run_id), encode_attributes(after)), *leaves, *enters]


def encode_attributes(attributes: Attributes) -> bytes:
    """Encode attributes."""
    return pack_record(ATTRIBUTES, tuple([(name, *_out(value)) for name, value in attributes.items()]))


def _out(value: AttributeValue) -> tuple[str, Any]:
    if isinstance(value, datetime):
        return INSTANT, microseconds_of(value)
    return next(kind for kind, plain in PLAIN.items() if type(value) is plain), value


def decode_attributes(data: bytes) -> dict[str, AttributeValue]:
    """Decode attributes.

    Raises:
        CodecError: The bytes are none.
    """
    try:
        found = [ATTRIBUTE.part(each) for each in unpack_record(ATTRIBUTES, data)[0]]
        return checked_attributes({name: _in(kind, value) for name, kind, value in found})
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise CodecError(f"This is not a record of attributes: {type(error).__name__} in one of them.") from error


def _in(kind: str, value: Any) -> AttributeValue:
    if kind == INSTANT and type(value) is int:
        return instant_from(value)
    if PLAIN.get(kind) is not type(value):
        raise CodecError(f"An attribute of kind {kind[:10]!r} is a {type(value).__name__}.")
    return cast("AttributeValue", value)
