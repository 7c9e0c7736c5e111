"""Plain data as bytes and back: msgpack, with extension types for what msgpack lacks.

Wire form. A tuple, a set or a frozenset is an array whose first element is an empty extension that says which; a set is
sorted, so that equal sets give equal bytes in every process. ``datetime``, ``date``, ``time``, ``timedelta``, ``UUID``,
``Decimal`` and integers beyond 64 bits are extensions with a short text or binary form.

Limits hold in both directions, so that what is packed can be unpacked: `MAX_PACKED_BYTES`, `MAX_CONTAINERS`,
`MAX_VALUES`, `MAX_DEPTH`. `unpack` raises `CodecError` and nothing else, whatever the bytes; nothing names code.
Of a key that a dict has twice, which `pack` never writes, the last counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs]  # it publishes none

from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.plain import flatten, type_name
from floxide_amqp.exceptions import CodecError, NewerFormatError, PayloadTooLargeError
from floxide_amqp.stores.extensions import DECODERS, ENCODERS
from floxide_amqp.stores.fresh import NOTHING, Fresh
from floxide_amqp.stores.packing import SCAN_FROM_BYTES, KeptPacker, scan

_msgpack: Any = msgpack

MAX_PACKED_BYTES: Final = 32 * 1024 * 1024
"""Bytes of one packed value."""

MAX_CONTAINERS: Final = 1_000_000
"""Lists, dicts, tuples and sets in one packed value. An empty one is one byte packed and about 60 in memory."""

MAX_VALUES: Final = 4_000_000
"""Values in one packed value, nested ones included. A short text is three bytes packed and about 60 in memory."""

PAYLOAD_FORMAT: Final = 1
"""Format of a payload's bytes: its tag and its data. A later one leads with its number where this one has the tag."""

MAX_DEPTH: Final = 1_023
"""Containers inside each other: what msgpack's decoder can follow; a tuple or set counts as one."""

_TUPLE, _SET, _FROZENSET = 1, 2, 3

_MARKS: Final = {code: _msgpack.ExtType(code, b"") for code in (_TUPLE, _SET, _FROZENSET)}
_SORTED_AS_THEY_ARE: Final = ({str}, {int}, {bytes})

Builder = Callable[[list[object]], object]


class _Mark:
    """What stands first in an array that is no list."""

    __slots__ = ("build",)

    def __init__(self, build: Builder) -> None:
        self.build = build


_BUILDERS: Final = {_TUPLE: _Mark(tuple), _SET: _Mark(set), _FROZENSET: _Mark(frozenset)}


class _MarkedArrayError(Exception):
    """There are arrays that are no lists: decode again, looking at each."""


def pack(plain: object) -> bytes:
    """Return plain data as bytes; equal data with equally ordered dicts gives equal bytes.

    Raises:
        CodecError: Something in it is not plain, or it is beyond a limit.
    """
    try:
        packed = _packer.pack(plain)
    except CodecError:
        raise
    except Exception as error:  # msgpack raises ValueError, TypeError, OverflowError, UnicodeEncodeError
        raise CodecError(f"A {type_name(plain)} cannot be packed: {_shorten(error)}.") from error
    if len(packed) > MAX_DEPTH:  # fewer bytes cannot hold more levels
        _check_limits(packed)
    return packed


def pack_list(packed: Sequence[bytes]) -> bytes:
    """Return the bytes of a list of values that are packed already.

    Raises:
        CodecError: It is beyond a limit.
    """
    together = b"".join((_msgpack.Packer().pack_array_header(len(packed)), *packed))
    if len(together) > MAX_DEPTH:
        _check_limits(together)
    return together


def unpack(data: bytes, *, max_bytes: int = MAX_PACKED_BYTES, max_containers: int = MAX_CONTAINERS) -> object:
    """Return the plain data that bytes stand for.

    Memory stays below about 80 times the input and below what the limits allow, whatever the bytes.

    Args:
        data: What `pack` returned, or anything.
        max_bytes: Longest input accepted; lower it where input is not trusted.
        max_containers: Most lists, dicts, tuples and sets accepted; lower it where input is not trusted.

    Raises:
        CodecError: It is not what `pack` returns, has bytes left over, or is beyond a limit.
    """
    if len(data) > max_bytes:
        raise CodecError(f"{len(data)} bytes are to be unpacked, and at most {max_bytes} are accepted.")
    limit = max_containers if len(data) > max_containers else None  # each container takes at least a byte
    try:
        if len(data) > SCAN_FROM_BYTES:
            scan(data)
        try:
            return _decode_flat(data, limit)
        except _MarkedArrayError:
            return _Assembler(limit).decode(data)
    except CodecError:
        raise
    except Exception as error:  # msgpack and the types' constructors raise whatever the bytes make them raise
        raise CodecError(f"{len(data)} bytes cannot be unpacked: {_shorten(error)}.") from error


def encode_payload(payload_type: PayloadType, value: object) -> bytes:
    """Return a payload as bytes, with the tag of its type.

    Raises:
        CodecError: The value is not of the type, or is beyond a limit.
    """
    return encode_checked(payload_type, value)[0]


def encode_checked(payload_type: PayloadType, value: object) -> tuple[bytes, object]:
    """Return a payload as bytes, and what `decode_payload` makes of them where that is known by now, else `NOTHING`.

    Raises:
        CodecError: As `encode_payload`.
    """
    member = payload_type.member_of(value)
    plain, loaded = member.dump_and_load(value)
    parts = [member.tag, plain]  # a list: tuples take the slower way back
    if not member.is_bare:
        return pack(parts), NOTHING
    try:
        packed = _bare_packer.pack(parts)
    except Exception:  # noqa: BLE001 - what msgpack has no form for, such as a subclass of str, would come back changed
        return pack(parts), NOTHING
    if len(packed) > MAX_DEPTH:
        _check_limits(packed)
    return packed, loaded


def decode_payload(payload_type: PayloadType, data: bytes) -> object:
    """Return the payload that bytes stand for.

    Raises:
        CodecError: The bytes are no payload, or not of this type.
    """
    if type(data) is Fresh:
        value = data.take(payload_type)
        if value is not NOTHING:
            return value
    parts = unpack(data)
    if isinstance(parts, list | tuple) and parts:
        found = cast("Sequence[object]", parts)
        tag = found[0]
        if len(found) == 2 and isinstance(tag, str):
            return payload_type.load(tag, found[1])
        if type(tag) is int and tag > PAYLOAD_FORMAT:
            raise NewerFormatError(what="payload", found=f"format {tag}")
    raise CodecError(f"A {payload_type.description} was to be decoded, but the bytes hold no tag and data.")


# --- packing -----------------------------------------------------------------------------------------------------


def _extend(value: object) -> object:
    """Return something msgpack can pack for a value that it cannot."""
    for base in type(value).__mro__:
        encode = _ENCODERS.get(base)
        if encode is not None:
            return encode(value)
    return flatten(value)


def _marked(code: int) -> Callable[[Any], object]:
    mark = _MARKS[code]

    def extend(value: Iterable[object]) -> object:
        return [mark, *(value if code == _TUPLE else _sorted(value))]

    return extend


def _sorted(members: Iterable[object]) -> list[object]:
    found: list[Any] = list(members)
    if {type(member) for member in found} in _SORTED_AS_THEY_ARE:
        return sorted(found)
    packer = _msgpack.Packer(default=_extend, strict_types=True)  # the thread's own is in the middle of packing the set
    return sorted(found, key=packer.pack)


_ENCODERS: Final[dict[type, Callable[[Any], object]]] = {
    tuple: _marked(_TUPLE),
    set: _marked(_SET),
    frozenset: _marked(_FROZENSET),
    **ENCODERS,
}

_packer: Final = KeptPacker(default=_extend, strict_types=True)

_bare_packer: Final = KeptPacker(strict_types=True)
"""Refuses what is not of msgpack's own types."""


def _check_limits(packed: bytes) -> None:
    """Raise `CodecError` where `unpack` would: better now than when the value is needed."""
    if len(packed) > MAX_PACKED_BYTES:
        raise PayloadTooLargeError(
            what="A value", size_bytes=len(packed), limit_bytes=MAX_PACKED_BYTES, limit="payload_bytes"
        )
    if len(packed) > MAX_CONTAINERS:
        unpack(packed)
        return
    probe = _msgpack.Unpacker(max_buffer_size=len(packed), strict_map_key=False)
    probe.feed(packed)
    try:
        probe.skip()
    except Exception as error:  # what it raises at too many levels has no common base
        raise CodecError(f"A value is nested more than {MAX_DEPTH} levels deep.") from error


# --- unpacking ---------------------------------------------------------------------------------------------------


class _Assembler:
    """Decodes one input, building tuples and sets, and counting containers.

    Counting while decoding drops a hostile input before it fills the memory.
    """

    __slots__ = ("_left", "_limit", "_marks", "_values_left")

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._left = limit or 0
        self._values_left = MAX_VALUES
        self._marks = 0

    def decode(self, data: bytes) -> object:
        """Return what the bytes stand for."""
        count = self.count if self._limit is not None else None
        value = _unpackb(data, ext_hook=self.read, list_hook=self.build, object_hook=count)
        if self._marks:
            raise CodecError("There is the mark of a tuple or a set where none can be.")
        return value

    def read(self, code: int, data: bytes) -> object:
        """Return what an extension stands for."""
        mark = _BUILDERS.get(code)
        if mark is None:
            return _read_value(code, data)
        self._marks += 1
        return mark

    def build(self, items: list[object]) -> object:
        """Make of an array what its mark says."""
        if self._limit is not None:
            self.count(items)
        if items and isinstance(mark := items[0], _Mark):
            self._marks -= 1
            return mark.build(items[1:])
        return items

    def count(self, container: Any) -> Any:
        """Count a container and what is in it."""
        self._left -= 1
        if self._left < 0:
            raise CodecError(f"There are more than {self._limit} lists, dicts, tuples and sets in one value.")
        self._values_left -= len(container)
        if self._values_left < 0:
            raise CodecError(f"There are more than {MAX_VALUES} values in one.")
        return container


def _decode_flat(data: bytes, limit: int | None) -> object:
    """Decode what has no tuples and sets, with as little Python on the way as can be."""
    if limit is None:
        return _unpackb(data, ext_hook=_read_value)
    count = _Assembler(limit).count
    return _unpackb(data, ext_hook=_read_value, list_hook=count, object_hook=count)


def _unpackb(data: bytes, **hooks: Any) -> object:
    # timestamp=3: msgpack's own timestamps, which pack() does not write, become datetimes and not objects of msgpack's
    return cast(
        object,
        _msgpack.unpackb(
            data, strict_map_key=False, timestamp=3, max_array_len=MAX_VALUES, max_map_len=MAX_VALUES, **hooks
        ),
    )


def _read_value(code: int, data: bytes) -> object:
    decode = DECODERS.get(code)
    if decode is None:
        if code in _BUILDERS:
            raise _MarkedArrayError
        raise CodecError(f"There is an extension of the unknown type {code}; a newer release may have written it.")
    return decode(data)


def _shorten(error: Exception) -> str:
    """Return the kind and the first words of an error's text."""
    text = str(error).partition("\n")[0][:120]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
