r"""What RabbitMQ hands on and pamqp cannot decode, replaced before aiormq sees it.

RabbitMQ passes the properties of a message on as they came: texts that are not UTF-8, instants far beyond the calendar,
tables without end. aiormq gives up the connection over any of these, and again each time the message is delivered, so
one such message would end the work of whoever reads its queue. Here nothing raises: what cannot be decoded becomes what
can, and is kept in the message's headers as it came.

* A property's text that is not UTF-8 is taken away and kept, as bytes, in a header `UNDECODABLE` + its name; an instant
  out of range is kept there as a number. Properties that are no properties at all are kept there together.
* Names (of headers, exchanges, queues) and texts of the broker have ``\xNN`` for each byte that is not UTF-8.
* In a table an instant out of range becomes a number; what is of no known type, cut off or nested deeper than
  `MAX_DEPTH` becomes the bytes that it is made of.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from floxide_amqp.core.sources import UNDECODABLE
from floxide_amqp.drivers.amqp.frames import HEADER, METHOD

MAX_DEPTH: Final = 32
"""Tables and arrays within one another that are decoded; pamqp calls itself for each."""

HEAD_BYTES: Final = 7
LONGEST_TEXT: Final = 255
PROPERTIES_AT: Final = 14
"""Of a header frame's payload: behind its class, its weight, the body's size and the flags."""

MORE_FLAGS: Final = 1
HEADERS: Final = 0x2000
TIMESTAMP: Final = 0x0040

FIRST_BEYOND: Final = 253_402_300_800_000
"""The year 10000 in milliseconds, as which pamqp takes a large instant."""

TEXT: Final = 0
"""In place of a number of bytes: a byte that says how many follow."""

PROPERTIES: Final = (
    ("content_type", 0x8000, TEXT), ("content_encoding", 0x4000, TEXT), ("headers", HEADERS, -1),
    ("delivery_mode", 0x1000, 1), ("priority", 0x0800, 1), ("correlation_id", 0x0400, TEXT), ("reply_to", 0x0200, TEXT),
    ("expiration", 0x0100, TEXT), ("message_id", 0x0080, TEXT), ("timestamp", TIMESTAMP, 8), ("type", 0x0020, TEXT),
    ("user_id", 0x0010, TEXT), ("app_id", 0x0008, TEXT), ("cluster_id", 0x0004, TEXT),
)  # fmt: skip
"""Their names, flags and sizes, in the order in which they come."""

METHODS: Final = {
    0x003C003C: (TEXT, 9, TEXT, TEXT),  # basic.deliver
    0x003C0032: (2, TEXT, TEXT, TEXT),  # basic.return
    0x003C0047: (9, TEXT, TEXT, 4),  # basic.get-ok
    0x003C001E: (TEXT, 1),  # basic.cancel
    0x00140028: (2, TEXT, 4),  # channel.close
    0x000A0032: (2, TEXT, 4),  # connection.close
    0x000A003C: (TEXT,),  # connection.blocked
}
"""Methods with texts that somebody else may have chosen: the sizes of their arguments."""

SIZES: Final = {
    **dict.fromkeys(b"tbB", 1), **dict.fromkeys(b"su", 2), **dict.fromkeys(b"Iif", 4), **dict.fromkeys(b"lLdT", 8),
    ord("D"): 5, ord("V"): 0, 0: 0,
}  # fmt: skip
"""Bytes of a value in a table, by its type; the others say themselves how many follow."""

Frame = bytes
"""A frame as it came, with its head and its end."""


class _CutOffError(Exception):
    """Something ends before its end."""


def decodable(frame: Frame) -> Frame:
    """Return a frame that pamqp decodes: the same wherever it does, else what it can make of it."""
    kind, payload = frame[0], frame[HEAD_BYTES:-1]
    if kind == HEADER and len(payload) >= PROPERTIES_AT:
        mended = payload if _is_plain(payload) else _mended_header(payload)
    elif kind == METHOD:
        mended = _mended_method(payload)
    else:
        return frame
    if mended == payload:
        return frame
    return frame[:3] + struct.pack(">I", len(mended)) + mended + frame[-1:]


def _is_plain(payload: bytes) -> bool:
    """Whether a header frame has only texts of ASCII and small numbers, as the engine's own messages do."""
    flags = payload[12] << 8 | payload[13]
    if flags & (HEADERS | TIMESTAMP | MORE_FLAGS) or not payload[PROPERTIES_AT:].isascii():
        return False
    at, end = PROPERTIES_AT, len(payload)
    for _, _, size in _present(flags):
        if at >= end:
            return False
        at += size or 1 + payload[at]
    return at <= end


@lru_cache(maxsize=256)
def _present(flags: int) -> tuple[tuple[str, int, int], ...]:
    return tuple(each for each in PROPERTIES if flags & each[1])


def _mended_header(payload: bytes) -> bytes:
    flags = payload[12] << 8 | payload[13]
    table, odd = b"", b""
    parts: list[bytes] = []
    try:
        if flags & MORE_FLAGS:
            raise _CutOffError
        at = PROPERTIES_AT
        for name, flag, size in _present(flags):
            raw = _piece(payload, at, _text_size(payload, at) if size == TEXT else size)
            at += len(raw)
            if size < 0:
                table = _table(raw[4:], 0)
            elif size == TEXT and not _is_text(raw[1:]):
                odd += _entry(name, b"S" + struct.pack(">I", raw[0]) + raw[1:])
                flags &= ~flag
            elif flag == TIMESTAMP and int.from_bytes(raw, "big") >= FIRST_BEYOND:
                odd += _entry(name, b"l" + raw)
                flags &= ~flag
            else:
                parts.append(raw)
    except _CutOffError:
        raw = payload[PROPERTIES_AT:]
        flags, table, parts, odd = 0, b"", [], _entry("properties", _bytes(raw))
    if odd or flags & HEADERS:
        flags |= HEADERS
        # the table stands behind the content's type and encoding, where there are such
        before = sum(1 for flag in (0x8000, 0x4000) if flags & flag)
        parts.insert(before, struct.pack(">I", len(table) + len(odd)) + table + odd)
    return b"".join((payload[:12], struct.pack(">H", flags), *parts))


def _mended_method(payload: bytes) -> bytes:
    sizes = METHODS.get(int.from_bytes(payload[:4], "big"))
    if sizes is None:
        return payload
    at, parts = 4, [payload[:4]]
    try:
        for size in sizes:
            raw = _piece(payload, at, size or _text_size(payload, at))
            at += len(raw)
            parts.append(raw if size or raw.isascii() else _name(raw[1:]))
    except _CutOffError:
        return payload  # the broker's own mistake: there is nothing to go on with
    return b"".join(parts)


def _table(data: bytes, depth: int) -> bytes:
    """Return the entries of a table, all of them decodable."""
    at, parts = 0, list[bytes]()
    while at < len(data):
        try:
            name = _piece(data, at, _text_size(data, at))
        except _CutOffError:
            parts.append(_entry("headers", _bytes(data[at:])))
            break
        at += len(name)
        value, size = _value(data, at, depth)
        at += size
        parts += (_name(name[1:]), value)
    return b"".join(parts)


def _array(data: bytes, depth: int) -> bytes:
    at, parts = 0, list[bytes]()
    while at < len(data):
        value, size = _value(data, at, depth)
        at += size
        parts.append(value)
    return b"".join(parts)


def _value(data: bytes, at: int, depth: int) -> tuple[bytes, int]:
    """Return a value with its type, decodable, and its size; one that cannot be told has all that is left."""
    try:
        kind = _piece(data, at, 1)[0]
        size = SIZES.get(kind, -1)
        if size < 0 and kind not in b"SxAF":
            raise _CutOffError
        raw = _piece(data, at + 1, size)
    except _CutOffError:
        return _bytes(data[at:]), len(data) - at
    if kind == ord("T") and int.from_bytes(raw, "big") >= FIRST_BEYOND:
        return b"l" + raw, 1 + len(raw)
    if kind not in b"AF":
        return data[at : at + 1 + len(raw)], 1 + len(raw)
    if depth >= MAX_DEPTH:
        return _bytes(raw[4:]), 1 + len(raw)
    inner = (_array if kind == ord("A") else _table)(raw[4:], depth + 1)
    return bytes((kind,)) + struct.pack(">I", len(inner)) + inner, 1 + len(raw)


def _piece(data: bytes, at: int, size: int) -> bytes:
    """Return some bytes; with a size below 0, four that say how many follow, and those."""
    if size < 0:
        size = 4 + int.from_bytes(_piece(data, at, 4), "big")
    if at + size > len(data):
        raise _CutOffError
    return data[at : at + size]


def _text_size(data: bytes, at: int) -> int:
    return 1 + _piece(data, at, 1)[0]


def _is_text(raw: bytes) -> bool:
    if not raw.isascii():
        try:
            raw.decode()
        except UnicodeDecodeError:
            return False
    return True


def _name(raw: bytes) -> bytes:
    """Return a name as a short text of UTF-8."""
    if not _is_text(raw):
        raw = raw.decode("utf-8", "backslashreplace").encode()[:LONGEST_TEXT].decode("utf-8", "ignore").encode()
    return bytes((len(raw),)) + raw


def _entry(name: str, value: bytes) -> bytes:
    return _name(f"{UNDECODABLE}{name}".encode()) + value


def _bytes(raw: bytes) -> bytes:
    return b"x" + struct.pack(">I", len(raw)) + raw
