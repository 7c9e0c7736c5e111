"""Sealing: the chain of codecs that payloads, contexts and error texts go through on their way to the store and back.

What is read decides how it is opened: each envelope says which codecs and keys it takes, so that data from before a
setting was changed stays readable. Nothing here is ever logged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from floxide_amqp.exceptions import (
    CodecError,
    ConfigurationError,
    MissingKeyError,
    UnknownKeyError,
    UnreadableRecordError,
)
from floxide_amqp.ports.codec import MAX_KEY_ID_LENGTH, MAX_NAME_LENGTH, Codec, KeyedCodec
from floxide_amqp.stores.sealed import (
    Layer,
    Place,
    SealedText,
    is_sealed,
    sealed_text,
    unwrap,
    wrap,
)

NOT_LOGGED: Final = "(not logged: encryption is on)"
"""What log lines have instead of the text of a user's error."""

DIGEST_BYTES: Final = 16

DIGEST_MADE: Final = "What tells whether this is the run that has this id was made"
"""How an error about a missing key begins that keeps a start from being compared with an earlier one."""


class Sealing:
    """Seals and opens.

    Args:
        codecs: What everything goes through, in this order; none to leave it as it is.
        known: Further codecs that are only read with.

    Attributes:
        is_on: Whether anything is sealed at all.
        hides: Whether what users carry is secret, so that logs keep silent about it too.

    Raises:
        ConfigurationError: Two codecs have the same name, one's name or key id cannot be stored, or one comes after
            encryption.
    """

    def __init__(self, codecs: Sequence[Codec] = (), *, known: Sequence[Codec] = ()) -> None:
        _check(codecs)
        self._codecs = tuple(codecs)
        self._by_name = {codec.name: codec for codec in (*known, *codecs)}
        self._keyed = next((codec for codec in codecs if isinstance(codec, KeyedCodec)), None)
        self._required = self._keyed.name if self._keyed is not None and self._keyed.is_required else ""
        self.is_on = bool(codecs)
        self.hides = self._keyed is not None

    # --- payloads

    def seal(self, data: bytes, place: Place) -> bytes:
        """Return the envelope of some bytes; the bytes themselves where no codec changes them.

        Args:
            data: What the engine has packed, or a text: neither begins like an envelope.
            place: Where it belongs.

        Raises:
            CodecError: A codec fails.
        """
        for codec in self._codecs:
            try:
                body = codec.encode(data, place.bound)
            except Exception as error:  # a codec may be the user's, and raise anything
                raise CodecError(f"The codec {codec.name!r} failed to encode: {type(error).__name__}.") from error
            if body is not None:
                data = wrap(Layer(codec.name, codec.key_id, body))
        return data if type(data) is bytes else bytes(data)  # to a driver they are plain bytes

    def open(self, data: bytes, place: Place) -> bytes:
        """Return what is in an envelope; what is not sealed comes back as it is, unless encryption is required.

        Raises:
            MissingKeyError: This process lacks the key or the codec.
            UnreadableRecordError: It was changed, it belongs elsewhere, or it is not encrypted and has to be.
        """
        if not data:
            return data
        found: set[str] = set()
        while is_sealed(data):
            try:
                layer = unwrap(data)
                if layer.codec in found:
                    raise CodecError(f"It went through the codec {layer.codec!r} twice.")
                found.add(layer.codec)
                data = self._decode(layer, place)
            except CodecError as error:
                raise UnreadableRecordError(place=str(place), problem=str(error)) from error
        if self._required and self._required not in found:
            raise UnreadableRecordError(
                place=str(place), problem="It is not encrypted, and Encryption(required=True) accepts nothing else."
            )
        return data

    def must_open(self, data: bytes) -> bool:
        """Return whether `open` would not just return the bytes: one call saved for each of many."""
        return bool(self._required) or is_sealed(data)

    def _decode(self, layer: Layer, place: Place) -> bytes:
        codec = self._by_name.get(layer.codec)
        if codec is None:
            key = f" with the key {layer.key_id!r}" if layer.key_id else ""
            problem = f"It was sealed by the codec {layer.codec!r}{key}, which this process lacks: Floxide(codec=…)."
            raise MissingKeyError(place=str(place), problem=problem, codec=layer.codec, key_id=layer.key_id)
        try:
            return codec.decode(layer.body, place.bound, layer.key_id)
        except UnknownKeyError as error:
            raise MissingKeyError(
                place=str(place), problem=str(error), codec=layer.codec, key_id=layer.key_id
            ) from error
        except CodecError:
            raise
        except Exception as error:  # a codec may be the user's, and raise anything
            raise CodecError(f"The codec {codec.name!r} failed to decode it: {type(error).__name__}.") from error

    def lacks(self, data: bytes) -> Layer | None:
        """Return the outermost layer of an envelope if this process lacks its codec or its key; None if it has both."""
        if not is_sealed(data):
            return None
        try:
            layer = unwrap(data)
        except CodecError:
            return None  # damaged: whoever opens it says so
        return None if self.can_open(layer.codec, layer.key_id) else layer

    def can_open(self, codec_name: str, key_id: str) -> bool:
        """Return whether this process has a codec, and the key if the codec has keys."""
        codec = self._by_name.get(codec_name)
        return codec is not None and (not isinstance(codec, KeyedCodec) or codec.has_key(key_id))

    # --- texts

    def seal_text(self, text: str, place: Place, item_id: str = "") -> str:
        """Return a text sealed; one that is empty, that is sealed already, or that no codec changes, as it is."""
        if not text or not self._codecs or isinstance(text, SealedText):
            return text
        envelope = self.seal(text.encode(), place)
        return sealed_text(envelope, item_id) if is_sealed(envelope) else text

    def readable(self, text: str, place: Place) -> str:
        """Return a text for people: one that cannot be opened says why and keeps its envelope."""
        if not isinstance(text, SealedText):
            return text
        try:
            return self.open_text(text, place)
        except MissingKeyError as error:
            key = f" with the key {error.key_id!r}" if error.key_id else f" by the codec {error.codec!r}"
            shown = f"(encrypted{key}, which this process does not have)"
        except UnreadableRecordError as error:
            shown = f"(not readable: {error.problem})"
        return sealed_text(text.envelope, text.item_id, shown)

    def open_text(self, text: str, place: Place) -> str:
        """Return a text opened.

        Raises:
            MissingKeyError: This process lacks the key or the codec.
            UnreadableRecordError: It was changed, or it belongs elsewhere.
        """
        if not isinstance(text, SealedText):
            return text
        try:
            return self.open(text.envelope, place).decode()
        except UnicodeDecodeError as error:
            raise UnreadableRecordError(place=str(place), problem="It is no text.") from error

    def logged(self, text: str) -> str:
        """Return a text of a user's error as log lines show it: not at all where it is a secret in the store."""
        return NOT_LOGGED if self.hides and text else text

    # --- digests

    def digest(self, *parts: bytes) -> str:
        """Return what tells whether two starts are the same; with encryption only to those who have the key."""
        return self._digest("" if self._keyed is None else self._keyed.key_id, parts)

    def is_digest_of(self, digest: str, *parts: bytes) -> bool:
        """Return whether a digest, made with any key that this process has, is of the same parts.

        Raises:
            UnknownKeyError: It was made with a key that this process does not have.
        """
        key_id, _, _ = digest.rpartition(":")
        return self._digest(key_id, parts) == digest

    def _digest(self, key_id: str, parts: Sequence[bytes]) -> str:
        data = b"".join([len(part).to_bytes(8, "big") + part for part in parts])
        if not key_id:
            return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()
        if self._keyed is None:
            raise UnknownKeyError(key_id=key_id, what=DIGEST_MADE)
        try:
            return f"{key_id}:{self._keyed.digest(data, key_id).hex()}"
        except UnknownKeyError as error:
            raise UnknownKeyError(key_id=key_id, known=error.known, what=DIGEST_MADE) from error


def _check(codecs: Sequence[Codec]) -> None:
    seen: dict[str, Codec] = {}
    keyed: Codec | None = None
    for codec in codecs:
        name, key_id = codec.name, codec.key_id
        if not (0 < len(name) <= MAX_NAME_LENGTH and len(key_id) <= MAX_KEY_ID_LENGTH and (name + key_id).isascii()):
            raise ConfigurationError(
                f"The codec {name!r} cannot be stored: its name has 1 to {MAX_NAME_LENGTH} ASCII characters, and its "
                f"key id at most {MAX_KEY_ID_LENGTH}."
            )
        if name in seen:
            raise ConfigurationError(f"The codec {name!r} is given twice. For several keys give one codec all of them.")
        if keyed is not None:
            raise ConfigurationError(
                f"The codec {name!r} comes after {keyed.name!r}: what is encrypted can neither be compressed nor "
                "encrypted again to any use. Write codec=[Compression(), Encryption(…)]."
            )
        seen[name] = codec
        keyed = codec if isinstance(codec, KeyedCodec) else None


PLAIN: Final = Sealing()
"""Seals nothing."""
