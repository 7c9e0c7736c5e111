"""Sealed values: what codecs made of payloads and texts, told apart from plain ones by their class.

An envelope is one layer per codec, the outermost first: the mark, the codec's name, the key's id, the body. The mark is
a byte with which no msgpack begins, so nothing that the engine packs can be taken for an envelope.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from floxide_amqp.exceptions import CodecError
from floxide_amqp.ports.codec import MAX_KEY_ID_LENGTH, MAX_NAME_LENGTH
from floxide_amqp.stores.large_inputs import Carried

MARK: Final = b"\xc1"
"""What an envelope begins with: the one byte that msgpack never uses."""

HIDDEN: Final = "(encrypted)"
"""What stands for a text that nobody has opened."""


class Place(NamedTuple):
    """Where a value belongs: what is sealed for one place opens at no other.

    Attributes:
        kind: The kind of record and its field, such as ``input`` or ``error message``.
        name: Which of this kind within the run; empty where there is one.
    """

    run_id: str
    kind: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.run_id}/{self.kind} of {self.name}" if self.name else f"{self.run_id}/{self.kind}"

    @property
    def bound(self) -> bytes:
        """The place as bytes; no two places have the same."""
        parts = [part.encode("utf-8", "surrogatepass") for part in ("floxide 1", *self)]
        return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


class Layer(NamedTuple):
    """One codec's part of an envelope."""

    codec: str
    key_id: str
    body: bytes


class Sealed(Carried):
    """A payload as the store has it, sealed for an item.

    Attributes:
        item_id: That item.
    """

    item_id: str


class Unsealed(Carried):
    """A payload that this process made, with its envelope once there is one, so that it is made once.

    Attributes:
        item_id: The item it was sealed for; empty of one that was not yet.
        envelope: What it was sealed to.
    """

    item_id: str = ""
    envelope: Sealed | None = None


class SealedText(str):
    """A text as the store has it; what it reads as is a note in its place.

    Attributes:
        envelope: The sealed text.
        item_id: The item it was sealed for, where it is one's.
    """

    __slots__ = ("envelope", "item_id")

    envelope: bytes
    item_id: str


def is_sealed(data: bytes) -> bool:
    """Return whether bytes are an envelope."""
    return data[:1] == MARK


def sealed_payload(data: bytes, item_id: str) -> bytes:
    """Return a payload as read: marked as sealed, if it is."""
    if data[:1] != MARK:
        return data
    sealed = Sealed(data)
    sealed.item_id = item_id
    return sealed


def read_apart(data: bytes, item_id: str) -> Carried:
    """Return an item's input as read from the cell of its own, marked as lying there, and as sealed, if it is."""
    payload = sealed_payload(data, item_id)
    carried = payload if isinstance(payload, Carried) else Carried(payload)
    carried.apart = item_id
    return carried


def sealed_text(envelope: bytes, item_id: str = "", shown: str = HIDDEN) -> SealedText:
    """Return a text that is sealed.

    Args:
        envelope: What it was sealed to.
        item_id: The item it was sealed for, where it is one's.
        shown: What stands for it until it is opened.
    """
    text = SealedText(shown)
    text.envelope = envelope
    text.item_id = item_id
    return text


def text_out(text: str) -> str | bytes:
    """Return a text as it is stored."""
    return text.envelope if isinstance(text, SealedText) else text


def text_in(stored: str | bytes, item_id: str = "") -> str:
    """Return a text as read: marked as sealed, if it is.

    Raises:
        CodecError: It is neither a text nor an envelope.
    """
    if isinstance(stored, str):
        return stored
    if not is_sealed(stored):
        raise CodecError("There are bytes in it where a text should be.")
    return sealed_text(stored, item_id)


def wrap(layer: Layer) -> bytes:
    """Return a layer as bytes."""
    name, key_id = layer.codec.encode("ascii"), layer.key_id.encode("ascii")
    return b"".join((MARK, bytes((len(name), len(key_id))), name, key_id, layer.body))


def unwrap(envelope: bytes) -> Layer:
    """Return the outermost layer of an envelope.

    Raises:
        CodecError: It is none.
    """
    if len(envelope) < 3 or not is_sealed(envelope):
        raise CodecError("It breaks off before it says how it is sealed.")
    name_length, key_length = envelope[1], envelope[2]
    end = 3 + name_length + key_length
    if not 0 < name_length <= MAX_NAME_LENGTH or key_length > MAX_KEY_ID_LENGTH or end > len(envelope):
        raise CodecError("It does not say how it is sealed.")
    try:
        name, key_id = envelope[3 : 3 + name_length].decode("ascii"), envelope[3 + name_length : end].decode("ascii")
    except UnicodeDecodeError:
        raise CodecError("It does not say how it is sealed.") from None
    return Layer(name, key_id, envelope[end:])
