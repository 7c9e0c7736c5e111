"""A codec: turns the bytes of payloads, contexts and error texts into others before they are stored, and back.

Codecs work in a chain, each on what the one before it returned. They see bytes and the place these belong to, never
what they mean.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

MAX_NAME_LENGTH = 32
"""Characters of a codec's name."""

MAX_KEY_ID_LENGTH = 64
"""Characters of a key's id."""


@runtime_checkable
class Codec(Protocol):
    """Encodes and decodes bytes; safe for several threads at once.

    Both are called on the event loop, so neither may wait for anything; what is large is encoded in other threads.
    """

    @property
    def name(self) -> str:
        """What its bytes are marked with, for good: 1 to `MAX_NAME_LENGTH` ASCII characters."""
        ...

    @property
    def key_id(self) -> str:
        """Id of the key it encodes with, at most `MAX_KEY_ID_LENGTH` ASCII characters; empty if it has no keys."""
        ...

    def encode(self, data: bytes, bound: bytes) -> bytes | None:
        """Return the encoded form of some bytes, or None to leave them as they are.

        Args:
            data: Any bytes.
            bound: Where they belong. They can be decoded for the same place only, as far as the codec can tell.
        """
        ...

    def decode(self, data: bytes, bound: bytes, key_id: str) -> bytes:
        """Return what was encoded.

        Args:
            data: What `encode` returned, or anything: it comes from a store that others can write to.
            bound: Where they belong.
            key_id: The `key_id` they were encoded with.

        Raises:
            UnknownKeyError: They may be sound, and this codec lacks the key.
            CodecError: They are not what `encode` returned for this place, or decode to more than is accepted.
        """
        ...


@runtime_checkable
class KeyedCodec(Codec, Protocol):
    """A codec that keeps secrets."""

    @property
    def is_required(self) -> bool:
        """Whether data without its mark are refused."""
        ...

    def has_key(self, key_id: str) -> bool:
        """Return whether it can decode what was encoded with a key."""
        ...

    def digest(self, data: bytes, key_id: str) -> bytes:
        """Return what tells whether two pieces of data are the same to those who have the key, and nothing to others.

        Raises:
            UnknownKeyError: This codec lacks the key.
        """
        ...
