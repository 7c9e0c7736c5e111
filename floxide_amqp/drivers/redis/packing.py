"""msgpack as Redis's scripts read it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import msgpack  # pyright: ignore[reportMissingTypeStubs]  # it publishes none

from floxide_amqp.exceptions import InvalidBatchError

_msgpack: Final[Any] = msgpack


@contextmanager
def storable(store: str) -> Generator[None]:
    """Turn what is raised for a value or a key that cannot be written down into the error of a faulty batch.

    Raises:
        InvalidBatchError: The block met half a surrogate pair, or what is neither text, number, bytes nor a list.
    """
    try:
        yield
    except UnicodeError as error:
        raise InvalidBatchError(store=store, reason=f"a key is not valid Unicode: {error}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidBatchError(store=store, reason=f"a value cannot be stored: {error}") from error


def packed(value: object) -> bytes:
    """Return a value as the argument of a script; Redis knows the older of the two ways to write bytes."""
    argument: bytes = _msgpack.packb(value, use_bin_type=False)
    return argument


def unpacked(data: bytes) -> Any:
    """Return what was packed, every text as bytes.

    Raises:
        ValueError: Nothing was.
    """
    try:
        return _msgpack.unpackb(data, raw=True)
    except (_msgpack.UnpackException, TypeError) as error:
        raise ValueError(str(error)) from error
