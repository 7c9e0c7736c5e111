"""Listing the records of a slot, one kind after the other."""

from __future__ import annotations

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.postgresql.connections import Connection
from floxide_amqp.drivers.postgresql.reading import ABOVE_ALL
from floxide_amqp.drivers.postgresql.settings import Settings
from floxide_amqp.drivers.record_cursor import KINDS, cursor_after, place_of
from floxide_amqp.ports.key_value import Key, RecordInfo, RecordPage


async def record_page(
    connection: Connection, settings: Settings, slot: Slot, partition: str | None, after: bytes, limit: int
) -> RecordPage:
    """Return up to `limit` records behind a cursor; where a page ends before the limit, the next kind follows.

    Raises:
        InvalidBatchError: It is no cursor of this driver.
        UnicodeEncodeError: The partition is not valid Unicode.
    """
    limit = max(limit, 1)
    kind_number, behind = place_of(after, store=settings.shown)
    upper = ABOVE_ALL if partition is None else partition.encode()
    query = (
        f"SELECT * FROM {settings.quoted_schema}.list_records_1("  # noqa: S608 - a quoted name
        "$1::text, $2::integer, $3::bytea, $4::bytea, $5::bytea, $6::bigint)"
    )
    found: list[RecordInfo] = []
    for kind in KINDS[kind_number:]:
        lower = (b"" if partition is None else partition.encode(), b"")
        if behind is not None:
            lower = (behind.partition.encode(), behind.name.encode() + b"\0")  # the next name there can be
        rows = await connection.fetch(query, kind.value, slot, *lower, upper, limit - len(found))
        found += [RecordInfo(Key(at.decode(), name.decode()), kind, size, number) for at, name, size, number in rows]
        if len(found) >= limit:
            return RecordPage(tuple(found), cursor_after(kind, found[-1].key))
        behind = None
    return RecordPage(tuple(found), None)
