"""From a store's URL to an open store."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.drivers.sqlite.key_value import SqliteKeyValueStore
from floxide_amqp.exceptions import ConfigurationError
from floxide_amqp.ports.key_value import KeyValueStore

StoreLocation: TypeAlias = str | KeyValueStore | None
"""A store's URL, an open store (which its opener closes), or None for memory."""

FORMS = "sqlite:///relative/path.db, sqlite:////absolute/path.db or memory://"
"""The URLs there are, for error messages."""


def check_location(location: StoreLocation) -> None:
    """Make sure that a store's URL can be understood.

    Raises:
        ConfigurationError: It cannot; the message shows the forms there are.
    """
    if isinstance(location, str) and location != "memory://":
        sqlite_path(location)


def sqlite_path(url: str) -> Path:
    """Return the file of an SQLite URL: three slashes for a relative path, four for an absolute one.

    Raises:
        ConfigurationError: It is none.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError(f"The store's URL cannot be read. Use {FORMS}.") from None
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        return Path(unquote(parts.path[1:]))
    is_harmless = not parts.scheme and "@" not in url  # a misspelt one may have a password anywhere before an @
    shown = repr(url) if is_harmless else f"{parts.scheme}://…" if "://" in url else "What was given"
    raise ConfigurationError(f"{shown} is not the URL of a store this release has. Use {FORMS}.")


@asynccontextmanager
async def open_store(location: StoreLocation) -> AsyncGenerator[KeyValueStore]:
    """Open a store while the block is open; one that was given open is left open.

    Raises:
        ConfigurationError: The URL cannot be understood.
        StoreError: The store cannot be opened.
    """
    if location is not None and not isinstance(location, str):
        yield location
        return
    store = await open_another(location)
    try:
        yield store
    finally:
        await store.aclose()


async def open_another(location: str | None) -> KeyValueStore:
    """Open one more connection to a store; the caller closes it."""
    if location in (None, "memory://"):
        return MemoryKeyValueStore()
    return await SqliteKeyValueStore.open(sqlite_path(str(location)))
