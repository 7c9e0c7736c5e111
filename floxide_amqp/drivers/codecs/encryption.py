"""Encryption by AES-256-GCM, with keys that have names, so that they can be changed under live runs.

Layout of what `encode` returns: salt (16 bytes), nonce (12), ciphertext with its tag (16). Each process encrypts with a
key of its own, derived from the named one and the salt: random nonces under one key for all would be worn out after
2^32 payloads. Key material is in no ``repr``, no error and no log line.

Source:
    NIST SP 800-38D, sections 5.2 and 8.3 (random 96-bit nonces: at most 2^32 per key); RFC 7693 (keyed BLAKE2).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, cast

from floxide_amqp.exceptions import CodecError, ConfigurationError, UnknownKeyError
from floxide_amqp.ports.codec import MAX_KEY_ID_LENGTH

NAME: Final = "aes-gcm"

KEY_BYTES: Final = 32
"""Bytes of a key."""

SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16

PAYLOADS_PER_SALT: Final = 2**30
"""Payloads after which a process draws another salt: a quarter of what random nonces allow under one key."""

MAX_CIPHERS: Final = 1_000
"""Derived keys that are remembered: one per process whose payloads were read lately."""

KeySource: TypeAlias = "Mapping[str, bytes | str] | str | Callable[[str], bytes | str | None]"
"""Keys by id, each 32 bytes or their base64; or all of them as one text ``id:base64,id:base64``; or a function that
returns the key of an id, and None for one it does not have."""

_KEY_ID: Final = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_KEY_ID_LENGTH}}}")
_GENERATE: Final = "python -c 'import base64, os; print(base64.b64encode(os.urandom(32)).decode())'"


class Encryption:
    """Encrypts payloads, contexts and error texts with AES-256-GCM, each bound to its run, item and field.

    Args:
        keys: The keys, see `KeySource`. A function is asked once for each id it has, on the event loop: it must not
            wait, so let it look into what was fetched at the start.
        current: Id of the key to encrypt with; the first one if left out. All others are only read with.
        required: Whether what is stored without encryption is refused; for when no run from before is left.

    Raises:
        ConfigurationError: A key or an id cannot be one, the current key is not among them, or the extra
            ``floxide-amqp[encryption]`` is not installed.
    """

    name = NAME

    def __init__(self, keys: KeySource, current: str | None = None, *, required: bool = False) -> None:
        source = _parse(keys) if isinstance(keys, str) else keys
        self._find: Callable[[str], bytes | str | None] | None = None
        self._keys: dict[str, bytes] = {}
        if callable(source):
            self._find = source
        else:
            self._keys = {_checked_id(key_id): _key_of(key_id, key) for key_id, key in source.items()}
        self._aead = _load_aead()
        self._ciphers: OrderedDict[tuple[str, bytes], Any] = OrderedDict()
        self._salt = b""
        self._left = 0
        self._lock = threading.Lock()
        self.key_id = self._current(current)
        self.is_required = required

    def __repr__(self) -> str:
        return f"Encryption(current={self.key_id!r}, keys={sorted(self._keys)}, required={self.is_required})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("An Encryption is not pickled: its keys would go along.")

    def with_keys(self, keys: KeySource) -> Encryption:
        """Return the same encryption with other keys, the first of which is current."""
        return Encryption(keys, required=self.is_required)

    def has_key(self, key_id: str) -> bool:
        """Return whether this process has a key."""
        return self._key(key_id) is not None

    def encode(self, data: bytes, bound: bytes) -> bytes:
        """Return data encrypted with the current key, for this place alone."""
        with self._lock:  # large payloads are encrypted in threads
            if not self._left:
                self._salt, self._left = secrets.token_bytes(SALT_BYTES), PAYLOADS_PER_SALT
            self._left -= 1
            salt = self._salt
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._cipher(self.key_id, salt).encrypt(nonce, data, _associated(bound, self.key_id))
        return b"".join((salt, nonce, sealed))

    def decode(self, data: bytes, bound: bytes, key_id: str) -> bytes:
        """Return what was encrypted.

        Raises:
            UnknownKeyError: This process lacks the key.
            CodecError: The bytes were changed, or encrypted for another place.
        """
        if len(data) < SALT_BYTES + NONCE_BYTES + TAG_BYTES:
            raise CodecError(f"It has {len(data)} bytes, which is too few to be anything encrypted.")
        salt, nonce = data[:SALT_BYTES], data[SALT_BYTES : SALT_BYTES + NONCE_BYTES]
        cipher = self._cipher(key_id, salt)
        try:
            return cast("bytes", cipher.decrypt(nonce, data[SALT_BYTES + NONCE_BYTES :], _associated(bound, key_id)))
        except Exception as error:  # what it raises is of cryptography's own making
            raise CodecError(
                f"It does not open with the key {key_id!r}: it was changed, or it was moved here from another run, "
                "item or field, or another key has this id."
            ) from error

    def digest(self, data: bytes, key_id: str) -> bytes:
        """Return a keyed digest: 16 bytes.

        Raises:
            UnknownKeyError: This process lacks the key.
        """
        keyed = hashlib.blake2b(key=self._known_key(key_id), person=b"floxide digest", digest_size=KEY_BYTES).digest()
        return hashlib.blake2b(data, key=keyed, digest_size=16).digest()

    def _cipher(self, key_id: str, salt: bytes) -> Any:
        cipher = self._ciphers.get((key_id, salt))
        if cipher is None:
            key = self._known_key(key_id)
            derived = hashlib.blake2b(salt, key=key, person=b"floxide payload", digest_size=KEY_BYTES).digest()
            cipher = self._aead(derived)
            with self._lock:
                self._ciphers[key_id, salt] = cipher
                if len(self._ciphers) > MAX_CIPHERS:
                    self._ciphers.popitem(last=False)
        return cipher

    def _known_key(self, key_id: str) -> bytes:
        key = self._key(key_id)
        if key is None:
            raise UnknownKeyError(key_id=key_id, known=tuple(sorted(self._keys)))
        return key

    def _key(self, key_id: str) -> bytes | None:
        key = self._keys.get(key_id)
        if key is None and self._find is not None:
            found = self._find(key_id)
            if found is not None:
                key = self._keys[key_id] = _key_of(key_id, found)
        return key

    def _current(self, current: str | None) -> str:
        if current is None:
            if self._find is not None:
                raise ConfigurationError("Encryption(keys=<function>) must be told which key to use: current='…'.")
            current = next(iter(self._keys), None)
        if current is None:
            raise ConfigurationError(f"Encryption needs a key: keys={{'2026-11': …}}. {_GENERATE} makes one.")
        if self._key(_checked_id(current)) is None:
            raise ConfigurationError(
                f"Encryption(current={current!r}): there is no such key; there are {_listed(sorted(self._keys))}."
            )
        return current


def _parse(text: str) -> dict[str, bytes | str]:
    """Return the keys of a text like ``2026-11:base64,2026-05:base64``; its order stays."""
    found: dict[str, bytes | str] = {}
    for number, part in enumerate((part.strip() for part in text.split(",") if part.strip()), 1):
        key_id, colon, key = part.partition(":")
        if not colon:
            raise ConfigurationError(f"Key number {number} has no id: encryption keys are written id:base64,id:base64.")
        if key_id in found:
            raise ConfigurationError(f"The encryption key {_shown(key_id)} is given twice.")
        found[key_id] = key
    return found


def _checked_id(key_id: str) -> str:
    if _KEY_ID.fullmatch(key_id) is None:
        raise ConfigurationError(
            f"{_shown(key_id)} cannot be the id of a key: ids have 1 to {MAX_KEY_ID_LENGTH} letters, digits, dots, "
            "dashes and underscores, such as a month: 2026-11."
        )
    return key_id


def _shown(key_id: str) -> str:
    """What was taken for an id; where it is none, it may be a key that stands in the wrong place."""
    return repr(key_id) if _KEY_ID.fullmatch(key_id) and len(key_id) < KEY_BYTES else "What was given"


def _key_of(key_id: str, key: bytes | str) -> bytes:
    """Return a key's bytes; no error shows anything of it."""
    if isinstance(key, str):
        try:
            key = base64.b64decode(key, validate=True)
        except (binascii.Error, ValueError):
            raise ConfigurationError(
                f"The encryption key {_shown(key_id)} is no base64. {_GENERATE} makes one."
            ) from None
    if len(key) != KEY_BYTES:
        raise ConfigurationError(
            f"The encryption key {_shown(key_id)} has {len(key)} bytes, and needs {KEY_BYTES}. {_GENERATE} makes one."
        )
    return bytes(key)


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def _associated(bound: bytes, key_id: str) -> bytes:
    return b"\0".join((NAME.encode(), key_id.encode(), bound))


def _load_aead() -> Any:
    try:
        return importlib.import_module("cryptography.hazmat.primitives.ciphers.aead").AESGCM
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "cryptography":
            raise
        raise ConfigurationError(
            "Encryption needs cryptography. Install it: pip install 'floxide-amqp[encryption]'"
        ) from error
