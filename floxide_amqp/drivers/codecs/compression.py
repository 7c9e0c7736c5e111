"""Compression by zlib, of what is long enough to gain by it.

What comes out of a decompression is bounded twice: by the size its header claims, and that by `at_most`.
"""

from __future__ import annotations

import zlib
from typing import Final

from floxide_amqp.exceptions import CodecError, ConfigurationError

NAME: Final = "zlib"

DEFAULT_ABOVE: Final = 1_024
"""Bytes from which on a payload is compressed: below, what is saved is little next to the record around it."""

DEFAULT_LEVEL: Final = 1
"""zlib's fastest: the higher ones cost three times as much for a few percent, on the event loop if it is not large."""

DEFAULT_AT_MOST: Final = 64 * 1024 * 1024
"""Bytes that one payload may decompress to: twice what the engine packs at most, far below what fills a memory."""

_SIZE_BYTES: Final = 4


class Compression:
    """Compresses what has more than some bytes, where that makes it smaller.

    Put it before `Encryption`: encrypted bytes cannot be compressed. Who can choose part of a payload and see how long
    it is stored may learn something of the rest of it; leave compression out where that matters.

    Args:
        above: Payloads of more bytes than this are compressed; 0 or more.
        level: zlib's level, 1 (fast) to 9 (small).
        at_most: Bytes that a payload may decompress to; what claims more is refused. Less than 4 GiB.

    Raises:
        ConfigurationError: A number is out of its range.
    """

    name = NAME
    key_id = ""

    def __init__(
        self, *, above: int = DEFAULT_ABOVE, level: int = DEFAULT_LEVEL, at_most: int = DEFAULT_AT_MOST
    ) -> None:
        if above < 0:
            raise ConfigurationError(f"Compression(above={above}): give a number of bytes, 0 or more.")
        if not 1 <= level <= 9:
            raise ConfigurationError(f"Compression(level={level}): zlib's levels go from 1 (fast) to 9 (small).")
        if not 0 < at_most < 2**32:
            raise ConfigurationError(f"Compression(at_most={at_most}): give a number of bytes, 1 to 4 GiB.")
        self._above = above
        self._level = level
        self._at_most = at_most

    def __repr__(self) -> str:
        return f"Compression(above={self._above}, level={self._level}, at_most={self._at_most})"

    def encode(self, data: bytes, bound: bytes) -> bytes | None:
        """Return compressed bytes led by their size, or None where they would be no smaller."""
        if not self._above < len(data) <= self._at_most:
            return None
        packed = zlib.compress(data, self._level)
        return len(data).to_bytes(_SIZE_BYTES, "big") + packed if len(packed) + _SIZE_BYTES < len(data) else None

    def decode(self, data: bytes, bound: bytes, key_id: str) -> bytes:
        """Return what was compressed.

        Raises:
            CodecError: The bytes are damaged, or decompress to another size than they claim, or to too much.
        """
        size = int.from_bytes(data[:_SIZE_BYTES], "big")
        if size > self._at_most:
            raise CodecError(
                f"It would decompress to {size} bytes, and at most {self._at_most} are accepted (Compression.at_most)."
            )
        inflater = zlib.decompressobj()
        try:
            found = inflater.decompress(data[_SIZE_BYTES:], size + 1)  # one more shows that there is more
        except zlib.error as error:
            raise CodecError(f"It cannot be decompressed: {error}.") from error
        if len(found) != size or not inflater.eof or inflater.unused_data:
            raise CodecError(f"It does not decompress to the {size} bytes that it claims.")
        return found
