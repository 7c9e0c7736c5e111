"""Values that msgpack lacks as its extension types: instants, dates, spans, UUIDs, decimals and large integers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgpack  # pyright: ignore[reportMissingTypeStubs]  # it publishes none

_msgpack: Any = msgpack

_DATETIME, _DATE, _TIME, _TIMEDELTA, _UUID, _DECIMAL, _INTEGER = 10, 11, 12, 13, 14, 15, 16

_TIMEDELTA_FORM: Final = struct.Struct("!iII")


def _extension(code: int, encode: Callable[[Any], bytes]) -> Callable[[Any], object]:
    def extend(value: Any) -> object:
        return _msgpack.ExtType(code, encode(value))

    return extend


def _encode_datetime(value: datetime | time) -> bytes:
    """Write the ISO form; the zone's name and the fold where they say more than it does."""
    zone = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) and value.tzinfo.key else ""
    text = value.isoformat()
    return (f"{text}|{value.fold}|{zone}" if zone or value.fold else text).encode()


def _encode_integer(value: int) -> bytes:
    number = int(value)
    return number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)


def _encode_timedelta(value: timedelta) -> bytes:
    return _TIMEDELTA_FORM.pack(value.days, value.seconds, value.microseconds)


def _encode_plain_integer(value: int) -> object:
    number = int.__int__(value)
    if type(value) is not int and -(2**63) <= number < 2**64:
        return number  # an IntEnum or another subclass
    return _msgpack.ExtType(_INTEGER, _encode_integer(number))


ENCODERS: Final[dict[type, Callable[[Any], object]]] = {
    datetime: _extension(_DATETIME, _encode_datetime),
    date: _extension(_DATE, lambda value: value.isoformat().encode()),
    time: _extension(_TIME, _encode_datetime),
    timedelta: _extension(_TIMEDELTA, _encode_timedelta),
    UUID: _extension(_UUID, lambda value: value.bytes),
    Decimal: _extension(_DECIMAL, lambda value: str(value).encode()),
    int: _encode_plain_integer,
}
"""What msgpack packs in place of a value, by its class."""


def _decode_datetime(data: bytes) -> datetime:
    text, _, rest = data.decode().partition("|")
    value = datetime.fromisoformat(text)
    fold, _, zone = rest.partition("|")
    return value.replace(fold=int(fold or 0), tzinfo=_zone(zone) or value.tzinfo)


def _decode_time(data: bytes) -> time:
    text, _, rest = data.decode().partition("|")
    value = time.fromisoformat(text)
    fold, _, zone = rest.partition("|")
    return value.replace(fold=int(fold or 0), tzinfo=_zone(zone) or value.tzinfo)


def _zone(key: str) -> ZoneInfo | None:
    """Return a time zone; None where this machine does not know it, and the offset has to do."""
    try:
        return ZoneInfo(key) if key else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _decode_timedelta(data: bytes) -> timedelta:
    days, seconds, microseconds = _TIMEDELTA_FORM.unpack(data)
    return timedelta(days=days, seconds=seconds, microseconds=microseconds)


def _decode_integer(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


DECODERS: Final[dict[int, Callable[[bytes], object]]] = {
    _DATETIME: _decode_datetime,
    _DATE: lambda data: date.fromisoformat(data.decode()),
    _TIME: _decode_time,
    _TIMEDELTA: _decode_timedelta,
    _UUID: lambda data: UUID(bytes=data),
    _DECIMAL: lambda data: Decimal(data.decode()),
    _INTEGER: _decode_integer,
}
"""What an extension's bytes stand for, by its code."""
