"""Arrays of plain values as bytes and back, for records and messages: what must hold before anything is decoded.

Whoever can write to a task queue or to the store can write any bytes there, and disks damage some. So nothing here
decodes what is longer, wider or deeper than a record can be: a few bytes of msgpack can claim to be an array of
millions, and ten megabytes of empty containers become seven hundred in memory. Records hold no maps and no
extensions; payloads inside them are bytes, decoded elsewhere under limits of their own.

Every array is led by the number of its format. A later format is no damage: `NewerFormatError` says so, and whoever
reads it leaves the matter to a newer release.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import Any, Final, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs]  # it publishes none

from floxide_amqp.exceptions import CodecError, NewerFormatError

_msgpack: Any = msgpack

FORMAT: Final = 1
"""Number of this format, the first element of every record and message. It rises when an older release could not read
what is written any more; a field added at the end, with a default, leaves it as it is."""

LAST_FORMAT: Final = 99
"""Largest number that is taken for a later format; what leads with a larger one is something else altogether."""

MAX_RECORD_BYTES: Final = 256 * 1024 * 1024
"""Bytes of one record: a page of a fan-out with a thousand outputs of a quarter megabyte each."""

MAX_RECORD_VALUES: Final = 4_000_000
"""Values in one record, nested ones included; the largest record is a page of a fan-out, with five per output."""

SCAN_FROM_BYTES: Final = 1024
"""Bytes from which on an input is scanned before it is decoded. Arrays nested in each other may each claim as many
elements as the input has bytes, and room for them is made before they are read. A scan makes no room and finds that
they are not there; below a kilobyte even the worst input claims less than two megabytes."""

COUNT_FROM_BYTES: Final = 64 * 1024
"""Bytes from which on the values of an input are counted while it is decoded; fewer cannot fill the memory."""

STR: Final = frozenset({str})
INT: Final = frozenset({int})
BOOL: Final = frozenset({bool})
BYTES: Final = frozenset({bytes})
ARRAY: Final = frozenset({tuple})
NONE: Final = frozenset({type(None)})


class Shape:
    """What the fields of a kind of record may be, in their order.

    Args:
        what: What it is called in errors.
        required: How many fields it had from the beginning; later ones may be missing. Of no account for a `part`.
        max_bytes: Longest record that is decoded at all.
        max_length: Longest array in it.
        fields: The types that each field may have.

    Attributes:
        length: How many fields there are.
    """

    __slots__ = ("_fields", "_fitting", "_latest", "length", "max_bytes", "max_length", "required", "what")

    def __init__(
        self,
        what: str,
        required: int,
        *,
        max_bytes: int = MAX_RECORD_BYTES,
        max_length: int = MAX_RECORD_VALUES,
        **fields: Collection[type],
    ) -> None:
        self.what = what
        self.required = required
        self.max_bytes = max_bytes
        self.max_length = max_length
        self.length = len(fields)
        self._fields = tuple(fields.items())
        self._fitting: set[tuple[type, ...]] = set()
        self._latest: list[type] = []

    def check(self, values: Sequence[Any]) -> None:
        """Refuse values of other types; combinations that were seen to fit are remembered, which makes it one look-up.

        Raises:
            CodecError: A field is of another type.
        """
        if len(values) > self.length:  # a newer release has added some
            values = values[: self.length]
        types = [*map(type, values)]
        if types == self._latest:  # as most are: a third of what a look-up costs
            return
        if tuple(types) not in self._fitting:
            for (name, allowed), found in zip(self._fields, types, strict=False):
                if found not in allowed:
                    raise CodecError(f"The field {name!r} of a {self.what} is a {found.__name__}.")
            self._fitting.add(tuple(types))
        self._latest = types

    def part(self, values: Any) -> tuple[Any, ...]:
        """Return an array inside a record, which has exactly these fields.

        Raises:
            CodecError: It is something else.
        """
        if type(values) is not tuple or len(values) != self.length:  # pyright: ignore[reportUnknownArgumentType]
            raise CodecError(f"The {self.what} is no array of {self.length} fields.")
        self.check(values)  # pyright: ignore[reportUnknownArgumentType]
        return values  # pyright: ignore[reportUnknownVariableType]


KEPT_BYTES: Final = 1024 * 1024
"""A packer's buffer grows to the largest value; one that had to grow to more than this is not kept."""


class KeptPacker(threading.local):
    """A packer for each thread: to make one costs as much as to pack a record, and one is not safe to share.

    Args:
        options: As for msgpack's.
    """

    def __init__(self, **options: Any) -> None:
        """Make this thread's."""
        self._options = options
        self._packer: Any = _msgpack.Packer(**options)

    def pack(self, value: object) -> bytes:
        """Return a value as bytes; raises what msgpack raises."""
        packed: bytes = self._packer.pack(value)
        if len(packed) > KEPT_BYTES:
            self._packer = _msgpack.Packer(**self._options)
        return packed


_packer: Final = KeptPacker()


def pack_record(shape: Shape, *values: Any) -> bytes:
    """Return values as bytes, led by the format.

    Raises:
        CodecError: They are beyond a limit, or something in them is no plain value.
    """
    return pack_values(shape, values)


def pack_values(shape: Shape, values: tuple[Any, ...]) -> bytes:
    """The same, of values that are a tuple already."""
    try:
        packed = _packer.pack((FORMAT, *values))
    except Exception as error:  # msgpack raises ValueError, TypeError, OverflowError, UnicodeEncodeError
        raise CodecError(f"A {shape.what} cannot be packed: {type(error).__name__}: {str(error)[:120]}.") from error
    if len(packed) > shape.max_bytes:
        raise _too_long(shape, len(packed))
    if len(packed) > shape.max_length:
        unpack_record(shape, packed)
    return packed


def unpack_record(shape: Shape, data: bytes) -> Sequence[Any]:
    """Return the values that bytes stand for, of the types the shape asks for; values nested in arrays are unchecked.

    Raises:
        NewerFormatError: A newer release wrote them.
        CodecError: They are no such record, or beyond a limit.
    """
    if len(data) > shape.max_bytes:
        raise _too_long(shape, len(data))
    try:
        if len(data) > SCAN_FROM_BYTES:
            scan(data)
        found: tuple[Any, ...] = _decode(data, shape.max_length)
    except Exception as error:  # msgpack raises ValueError, TypeError, OverflowError and its own
        raise _refusal(shape, data, error) from error
    if type(found) is not tuple:
        raise CodecError(f"This is not a {shape.what} of format {FORMAT}.")
    if len(found) <= shape.required or found[0] != FORMAT or type(found[0]) is not int:
        raise _other_format(shape, found)
    fields = found[1:]
    shape.check(fields)
    return fields


def scan(data: bytes) -> None:
    """Walk over msgpack without making anything of it; nothing after it claims room for more than there is.

    Raises:
        Exception: It is cut off, nested too deeply, or none.
    """
    scanner = _msgpack.Unpacker(max_buffer_size=len(data), strict_map_key=False)
    scanner.feed(data)
    scanner.skip()


class Counter:
    """Counts the values of an input while it is decoded, and stops it before it fills the memory."""

    __slots__ = ("_left", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit

    def __call__(self, array: Any) -> Any:
        """Count an array and what is in it."""
        self._left -= len(array) + 1
        if self._left < 0:
            raise CodecError(f"There are more than {self._limit} values in one record.")
        return array


def _decode(data: bytes, max_length: int) -> Any:
    count = Counter(max_length) if len(data) > COUNT_FROM_BYTES else None
    return _msgpack.unpackb(
        data, use_list=False, object_hook=_refuse_map, ext_hook=_refuse_extension, list_hook=count,
        max_array_len=max_length,
    )  # fmt: skip


def _refuse_map(found: object) -> object:
    del found
    raise CodecError("There is a map in it, which no record has.")


def _refuse_extension(code: int, data: bytes) -> object:
    del data
    raise CodecError(f"There is an extension of type {code} in it, which no record has.")


def _too_long(shape: Shape, size: int) -> CodecError:
    return CodecError(f"A {shape.what} has at most {shape.max_bytes} bytes, and this one would have {size}.")


def _other_format(shape: Shape, found: tuple[Any, ...]) -> CodecError:
    if found and type(found[0]) is int and FORMAT < found[0] <= LAST_FORMAT:
        return NewerFormatError(what=shape.what, found=f"format {found[0]}")
    return CodecError(f"This is not a {shape.what} of format {FORMAT}.")


def _refusal(shape: Shape, data: bytes, error: Exception) -> CodecError:
    """Return why bytes cannot be decoded; a later format may have maps, extensions and longer arrays."""
    if FORMAT < _leading_number(data) <= LAST_FORMAT:
        try:
            scan(data)
        except Exception:  # noqa: BLE001 - whatever it is: then it is no msgpack of any format
            return CodecError(f"This is not a {shape.what}: {len(data)} bytes that break off or are none.")
        return NewerFormatError(what=shape.what, found=f"format {_leading_number(data)}")
    if isinstance(error, CodecError):
        return error
    return CodecError(f"This is not a {shape.what}: {type(error).__name__} while decoding {len(data)} bytes.")


def _leading_number(data: bytes) -> int:
    """Return the small number that an array begins with; 0 where there is none."""
    offset = {0xDC: 3, 0xDD: 5}.get(data[0], 1 if data[0] & 0xF0 == 0x90 else 0) if data else 0
    return data[offset] if 0 < offset < len(data) and data[offset] < 0x80 else 0


def texts(values: Any, what: str) -> tuple[Any, ...]:
    """Return an array all of whose elements are texts.

    Raises:
        CodecError: They are not.
    """
    return _all_of(str, values, what) if values != () else ()


def whole_numbers(values: Any, what: str) -> tuple[int, ...]:
    """Return an array all of whose elements are whole numbers.

    Raises:
        CodecError: They are not.
    """
    return _all_of(int, values, what) if values != () else ()


def _all_of(kind: type, values: Any, what: str) -> tuple[Any, ...]:
    found = cast("tuple[Any, ...]", values)
    if type(found) is not tuple:
        raise CodecError(f"The {what} is no array.")
    if found and set(map(type, found)) != {kind}:
        raise CodecError(f"The {what} is no array of {kind.__name__}.")
    return found
