"""From a store's URL to an open store."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.drivers.sharded.key_value import ShardedKeyValueStore
from floxide_amqp.drivers.sharded.lazy import LazyKeyValueStore
from floxide_amqp.drivers.sqlite.key_value import SqliteKeyValueStore
from floxide_amqp.drivers.store_report import StoreReport
from floxide_amqp.exceptions import ConfigurationError, StoreUnavailableError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.clock import SystemClock
from floxide_amqp.ports.key_value import KeyValueStore
from floxide_amqp.stores.identity import Membership

_log = get_logger("floxide_amqp.store")

StoreLocation: TypeAlias = str | Mapping[str, str] | KeyValueStore | None
"""A store's URL, the URLs of its shards by their names, an open store (which its opener closes), or None for memory."""

FORMS = (
    "sqlite:///relative/path.db, sqlite:////absolute/path.db, postgresql://user:password@host/database, "
    "redis://host:6379/0, redis+cluster://host:port,host:port or memory://; of several servers each by its name: "
    "'a=postgresql://… b=postgresql://…'"
)
"""The URLs there are, for error messages."""

MEMORY = "memory://"

PAUSE_SECONDS = 1.0
"""Between two tries to open a store whose server cannot be reached yet."""

_SHARD = re.compile(r"([A-Za-z0-9_.-]+)=(\S+://\S*)")
"""One shard of a store given as text: its name and its URL."""


def check_location(location: StoreLocation) -> None:
    """Make sure that a store's URL can be understood, and that what it needs is installed.

    Raises:
        ConfigurationError: It cannot, or is not; the message shows the forms there are, or the command that installs.
    """
    for url in urls_of(location):
        if url != MEMORY:
            _check(url)


def is_memory(location: StoreLocation) -> bool:
    """Return whether runs would be in this process's memory, where no other process sees them."""
    return location is None or location == MEMORY


def sqlite_path(url: str) -> Path:
    """Return the file of an SQLite URL: three slashes for a relative path, four for an absolute one.

    Raises:
        ConfigurationError: It is none.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        return Path(unquote(parts.path[1:]))
    raise _unknown(url, parts.scheme)


def shards_of(location: StoreLocation) -> Mapping[str, str] | None:
    """Return the URLs of a store's shards by their names; None for a store of one server.

    Raises:
        ConfigurationError: Two shards have one name, or one has none.
    """
    given: list[tuple[str, str]] = []
    if isinstance(location, Mapping):
        given += location.items()
    elif isinstance(location, str) and _SHARD.match(location):
        for part in location.split():
            found = _SHARD.fullmatch(part)
            if found is None:
                raise ConfigurationError(f"A shard is given as name=URL, and one of them is not. Use {FORMS}.")
            given.append((found[1], found[2]))
    else:
        return None
    if not given or len(dict(given)) < len(given) or not all(name for name, _ in given):
        raise ConfigurationError("Each shard of a store needs a name of its own, which stays with its server's data.")
    return dict(given)


def check_is_there(location: StoreLocation) -> None:
    """Make sure that a store which opening would make exists, for whoever only looks at what is in it.

    Raises:
        ConfigurationError: It does not.
    """
    for url in urls_of(location):
        if not is_there(url):
            raise ConfigurationError(
                f"There is no store at {sqlite_path(url).absolute()}: nothing was started there yet, or the path is "
                "another one (a relative path counts from the current directory). Starting a run or a worker makes the "
                "file."
            )


def is_there(url: str) -> bool:
    """Return whether opening a store would make none; a server that opening cannot make counts as there."""
    return not url.startswith("sqlite:") or sqlite_path(url).absolute().exists()


@asynccontextmanager
async def open_store(location: StoreLocation, *, patience_seconds: float = 0.0) -> AsyncGenerator[KeyValueStore]:
    """Open a store while the block is open; one that was given open is left open.

    Args:
        location: Where it is.
        patience_seconds: How long a server that cannot be reached yet is waited for; a file is not.

    Raises:
        ConfigurationError: The URL cannot be understood.
        StoreError: The store cannot be opened.
    """
    if location is not None and not isinstance(location, str | Mapping):
        yield location
        return
    store = await _open_patiently(location, patience_seconds)
    try:
        yield store
    finally:
        await store.aclose()


async def _open_patiently(location: str | Mapping[str, str] | None, patience_seconds: float) -> KeyValueStore:
    loop = asyncio.get_running_loop()
    is_file = any(url.startswith("sqlite:") for url in urls_of(location))
    until, is_told = loop.time() + (0.0 if is_file else patience_seconds), False
    while True:
        try:
            return await open_another(location)
        except StoreUnavailableError as error:
            if loop.time() + PAUSE_SECONDS > until:
                raise
            if not is_told:
                _log.warning("store.awaited", error=str(error), seconds=patience_seconds)
            is_told = True
        await asyncio.sleep(PAUSE_SECONDS)


async def open_another(location: str | Mapping[str, str] | None) -> KeyValueStore:
    """Open one more connection to a store; the caller closes it.

    Raises:
        ConfigurationError: The URL cannot be understood.
        StoreError: The store cannot be opened; of several servers, none can, or one for another reason than that it
            is out of reach.
    """
    if location is None:
        return MemoryKeyValueStore()
    shards = shards_of(location)
    if shards is None:
        return await _open(str(location))
    lazy = late_shards({name: partial(_open, url) for name, url in shards.items()})
    store = ShardedKeyValueStore(lazy)
    opened = await asyncio.gather(*(shard.open() for shard in lazy.values()), return_exceptions=True)
    errors = [result for result in opened if isinstance(result, BaseException)]
    for error in errors:
        if len(errors) == len(lazy) or not isinstance(error, StoreUnavailableError):
            await store.aclose()
            raise error
    return store


def late_shards(openers: Mapping[str, Callable[[], Awaitable[KeyValueStore]]]) -> dict[str, LazyKeyValueStore]:
    """Return the shards of a store, each opened when it is first needed, and only if it is the one it is named as.

    Args:
        openers: What opens each of them, by their names: all shards of the store.
    """
    members = Membership(tuple(openers), SystemClock())
    return {name: LazyKeyValueStore(name, opener, partial(members.admit, name)) for name, opener in openers.items()}


async def examine(url: str) -> StoreReport:
    """Look at one server of a store; nothing is changed.

    Raises:
        ConfigurationError: The URL cannot be understood.
        StoreError: It cannot be reached, or refuses the login.
    """
    if (scheme := _scheme_of(url)) in _POSTGRESQL:
        report: StoreReport = await _driver("postgresql", scheme, "asyncpg").examine(url)
        return report
    if scheme in _REDIS:
        looked: StoreReport = await _driver("redis", scheme, "redis").examine(url)
        return looked
    check_is_there(url)
    if scheme == "sqlite" and await SqliteKeyValueStore.is_older(sqlite_path(url)):
        warning = "An earlier release made it. It is brought to this one's tables when it is opened, by whomever."
        return StoreReport(facts=(("store", url),), warnings=(warning,))
    store = await _open(url)
    await store.aclose()
    shown = url if scheme == "sqlite" else f"{scheme}://…"
    return StoreReport(facts=(("store", shown), ("commits survive", store.durability.value)))


async def migrate(url: str) -> str:
    """Bring one server of a store to this release's version; return a sentence that says what was done.

    Raises:
        ConfigurationError: The URL cannot be understood.
        StoreError: It cannot be done; nothing was changed.
    """
    if (scheme := _scheme_of(url)) in _POSTGRESQL:
        done: str = await _driver("postgresql", scheme, "asyncpg").migrate(url)
        return done
    if scheme == "sqlite":
        check_is_there(url)
        await (await _open(url)).aclose()
        return f"The store {url} has this release's tables: a file is brought to them when it is opened."
    return f"A store at {scheme}:// has no tables to migrate."


def urls_of(location: StoreLocation) -> list[str]:
    """Return the URLs of a store's servers: one, or those of its shards; none of one that is open, or in memory.

    Raises:
        ConfigurationError: Shards are given that cannot be understood.
    """
    shards = shards_of(location)
    if shards is not None:
        return list(shards.values())
    return [location] if isinstance(location, str) else []


def _check(url: str) -> None:
    scheme = _scheme_of(url)
    if scheme in _POSTGRESQL:
        _driver("postgresql", scheme, "asyncpg").settings.settings_of(url)
    elif scheme in _REDIS:
        _driver("redis", scheme, "redis").address.address_of(url)
    else:
        sqlite_path(url)


async def _open(url: str) -> KeyValueStore:
    if url == MEMORY:
        return MemoryKeyValueStore()
    scheme = _scheme_of(url)
    store: KeyValueStore
    if scheme in _POSTGRESQL:
        store = await _driver("postgresql", scheme, "asyncpg").PostgresqlKeyValueStore.open(url)
    elif scheme in _REDIS:
        store = await _driver("redis", scheme, "redis").RedisKeyValueStore.open(url)
    else:
        store = await SqliteKeyValueStore.open(sqlite_path(url))
    return store


_POSTGRESQL = ("postgresql", "postgres")
_REDIS = ("redis", "rediss", "redis+cluster", "rediss+cluster")


def _driver(name: str, scheme: str, *brought: str) -> Any:
    """Return a driver's package, which needs an extra of the same name that brings the packages `brought`."""
    try:
        return importlib.import_module(f"floxide_amqp.drivers.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in brought:
            raise
        raise ConfigurationError(
            f"A store at {scheme}://… needs {' and '.join(brought)}. Install it: pip install 'floxide-amqp[{name}]'"
        ) from error


def _scheme_of(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:
        raise ConfigurationError(f"The store's URL cannot be read. Use {FORMS}.") from None


def _unknown(url: str, scheme: str) -> ConfigurationError:
    is_harmless = not scheme and "@" not in url  # a misspelt one may have a password anywhere before an @
    shown = repr(url) if is_harmless else f"{scheme}://…" if "://" in url else "What was given"
    return ConfigurationError(f"{shown} is not the URL of a store this release has. Use {FORMS}.")
