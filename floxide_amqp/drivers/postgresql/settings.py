"""What a store is opened with: the URL, with its own options taken out, and the limits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from floxide_amqp.exceptions import ConfigurationError

SCHEMES: Final = ("postgresql", "postgres")

DEFAULT_SCHEMA: Final = "floxide"

DEFAULT_POOL_SIZE: Final = 4
"""Connections of one process: one commits, one reads, and two are for scans and for what waits for a lock."""

DEFAULT_STATEMENT_TIMEOUT: Final = timedelta(seconds=30)
"""Far above any group's time, below a worker's patience."""

DEFAULT_LOCK_TIMEOUT: Final = timedelta(seconds=5)
"""A partition's lock is held for one group of some milliseconds; it is tried three times."""

DEFAULT_CONNECT_TIMEOUT: Final = timedelta(seconds=10)

SYNCHRONOUS: Final = ("local", "remote_write", "on", "remote_apply")
"""What `synchronous_commit` may be; `off` would report commits that the server's death loses."""

_POOLER_MODES: Final = ("session", "transaction")
_LONGEST_NAME_BYTES: Final = 63
_HOSTS: Final = re.compile(r"(([\w.%-]*|\[[0-9a-fA-F:.%]+\])(:\d{1,5})?)(,([\w.%-]*|\[[0-9a-fA-F:.%]+\])(:\d{1,5})?)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to connect.

    Attributes:
        url: For asyncpg: without the options of this driver.
        shown: For messages: without a password.
        schema: The PostgreSQL schema of the tables.
        pool_size: Most connections; at least 1.
        statement_timeout: Longest run of one call in the server, seconds.
        lock_timeout: Longest single wait for a lock, seconds.
        connect_timeout: Longest wait for a connection, seconds.
        synchronous_commit: One of `SYNCHRONOUS`, or empty for the server's own, where that is not ``off``.
        has_pooler: Whether connections may change between transactions (PgBouncer in transaction mode).
    """

    url: str
    shown: str
    schema: str = DEFAULT_SCHEMA
    pool_size: int = DEFAULT_POOL_SIZE
    statement_timeout: float = DEFAULT_STATEMENT_TIMEOUT.total_seconds()
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT.total_seconds()
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT.total_seconds()
    synchronous_commit: str = ""
    has_pooler: bool = False

    @property
    def quoted_schema(self) -> str:
        """The schema's name as SQL writes it."""
        return '"' + self.schema.replace('"', '""') + '"'

    def session_settings(self) -> dict[str, str]:
        """Return what holds for a session, or under a pooler for each transaction."""
        settings = {
            "statement_timeout": _milliseconds(self.statement_timeout),
            "lock_timeout": _milliseconds(self.lock_timeout),
            "idle_in_transaction_session_timeout": _milliseconds(2 * self.statement_timeout),
        }
        if self.synchronous_commit:
            settings["synchronous_commit"] = self.synchronous_commit
        return settings


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


def settings_of(
    url: str,
    *,
    schema: str | None = None,
    pool_size: int | None = None,
    statement_timeout: timedelta | float | None = None,
    lock_timeout: timedelta | float | None = None,
    connect_timeout: timedelta | float | None = None,
    synchronous_commit: str | None = None,
    has_pooler: bool | None = None,
) -> Settings:
    """Return the settings that a URL and arguments say; an argument wins over the URL's option of the same name.

    Raises:
        ConfigurationError: One of them cannot be used; the message does not show the password.
    """
    parts = _split(url)
    shown = shown_url(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    own: dict[str, str] = {name: options.pop(name) for name in OPTIONS if name in options}
    mode = own.get("pooler", "session")
    if mode not in _POOLER_MODES:
        raise _wrong(shown, "pooler", f"{mode!r} is neither of {', '.join(_POOLER_MODES)}")
    size = pool_size if pool_size is not None else _number(shown, own, "pool_size", DEFAULT_POOL_SIZE)
    if size < 1 or size != int(size):
        raise _wrong(shown, "pool_size", f"{size} is not a whole number of at least 1")
    name = schema or own.get("schema") or DEFAULT_SCHEMA
    if len(name.encode()) > _LONGEST_NAME_BYTES or "\0" in name:
        raise _wrong(shown, "schema", f"the name {name!r} is longer than {_LONGEST_NAME_BYTES} bytes or has a NUL")
    synchronous = synchronous_commit or own.get("synchronous_commit", "")
    if synchronous and synchronous not in SYNCHRONOUS:
        raise _wrong(shown, "synchronous_commit", f"{synchronous!r} is none of {', '.join(SYNCHRONOUS)}")

    def seconds(option: str, given: timedelta | float | None, default: timedelta) -> float:
        value = given.total_seconds() if isinstance(given, timedelta) else given
        value = _number(shown, own, option, default.total_seconds()) if value is None else value
        if not 0 < value < 86_400:
            raise _wrong(shown, option, f"{value:g} is not between 0 and 86400 seconds")
        return value

    return Settings(
        url=parts._replace(query=urlencode(options)).geturl(),
        shown=shown,
        schema=name,
        pool_size=int(size),
        statement_timeout=seconds("statement_timeout", statement_timeout, DEFAULT_STATEMENT_TIMEOUT),
        lock_timeout=seconds("lock_timeout", lock_timeout, DEFAULT_LOCK_TIMEOUT),
        connect_timeout=seconds("connect_timeout", connect_timeout, DEFAULT_CONNECT_TIMEOUT),
        synchronous_commit=synchronous,
        has_pooler=mode == "transaction" if has_pooler is None else has_pooler,
    )


OPTIONS: Final = (
    "schema", "pool_size", "statement_timeout", "lock_timeout", "connect_timeout", "synchronous_commit", "pooler",
)  # fmt: skip
"""The URL's options that this driver takes for itself; asyncpg gets the others (``sslmode``, …)."""


def shown_url(url: str) -> str:
    """Return a URL without password and options, for messages."""
    parts = _split(url)
    user, at, hosts = parts.netloc.rpartition("@")
    return f"postgresql://{user.partition(':')[0]}{at}{hosts}{unquote(parts.path)}"


def _split(url: str) -> SplitResult:
    """Return the parts of a URL, or refuse it without showing what may be a piece of a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if parts is not None and parts.scheme in SCHEMES and "@" not in parts.path:
        is_split_right = "@" in parts.netloc or "@" not in url  # else the password has a / or ? or # in it
        if is_split_right and _HOSTS.fullmatch(parts.netloc.rpartition("@")[2]):
            return parts
    raise ConfigurationError(
        "The URL of a PostgreSQL store is postgresql://user:password@host:port/database, with special characters "
        "in user and password as %XX (for instance %2F for a slash, %40 for an @)."
    )


def _number(shown: str, own: dict[str, str], option: str, default: float) -> float:
    try:
        return float(own.get(option, default))
    except ValueError:
        raise _wrong(shown, option, f"{own[option]!r} is not a number") from None


def _wrong(shown: str, option: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"The option {option} of the store {shown} cannot be used: {problem}.")
