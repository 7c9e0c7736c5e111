"""The Lua programs that run inside Redis, and how they are called by their digests."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final, NamedTuple


class Script(NamedTuple):
    """A program and the digest by which a server that has seen it knows it.

    Attributes:
        source: Its text.
        digest: SHA-1 of that, 40 hexadecimal characters.
        is_reading: Whether it writes nothing.
    """

    source: bytes
    digest: bytes
    is_reading: bool


def _script(name: str, *, is_reading: bool) -> Script:
    source = files("floxide_amqp.drivers.redis").joinpath(f"{name}.lua").read_bytes()
    return Script(source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode(), is_reading)


COMMIT: Final = _script("commit", is_reading=False)
READ: Final = _script("read", is_reading=True)
LIST: Final = _script("list", is_reading=True)
LIVE: Final = _script("live", is_reading=False)
MAKE: Final = _script("make", is_reading=False)
