"""A store's URL taken apart: ``redis://``, ``rediss://`` and ``redis+cluster://``, ``rediss+cluster://``.

What the URL says to redis-py (user, password, database, ``ssl_…``) is handed on; what it says to this driver is
`prefix`, `durability` and `timeout`. A password never leaves the arguments of connections.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio.connection import parse_url

from floxide_amqp.exceptions import ConfigurationError

DEFAULT_PREFIX: Final = "floxide"
"""What all keys of a store begin with, where the URL has no `prefix`."""

DEFAULT_TIMEOUT_SECONDS: Final = 10.0
"""Longest wait for one reply: far above any script's time, and below the silence after which workers worry."""

DEFAULT_PORT: Final = 6379

SCHEMES: Final = {
    "redis": ("redis", False),
    "rediss": ("rediss", False),
    "redis+cluster": ("redis", True),
    "rediss+cluster": ("rediss", True),
}
"""Scheme → the scheme redis-py knows, and whether it is a cluster."""

FORMS: Final = "redis://[user:password@]host[:6379][/0], rediss://… (TLS) or redis+cluster://host:port,host:port"
"""The URLs there are, for error messages."""

_OWN: Final = {"prefix", "durability", "timeout"}
_HANDED_ON: Final = {"db", "username", "password", "client_name"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a store is.

    Attributes:
        nodes: Host and port of the server, or of some nodes of the cluster.
        is_cluster: Whether it is a Redis Cluster.
        prefix: What its keys begin with.
        accepts_loss: Whether ``durability=none`` was asked for.
        timeout_seconds: Longest wait for a reply.
        connection: Arguments of redis-py's connection class but host and port; the password is one.
        is_encrypted: Whether connections use TLS.
        shown: The URL as errors and logs may show it.
    """

    nodes: tuple[tuple[str, int], ...]
    is_cluster: bool
    prefix: str
    accepts_loss: bool
    timeout_seconds: float
    connection: dict[str, Any] = field(repr=False)
    is_encrypted: bool
    shown: str


def address_of(url: str) -> Address:
    """Return what a URL says.

    Raises:
        ConfigurationError: It cannot be understood; the message repeats no password.
    """
    try:
        parts = urlsplit(url)
        credentials, _, hosts = parts.netloc.rpartition("@")
        nodes = tuple(_host_and_port(host) for host in hosts.split(","))
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        raise _unreadable("cannot be read") from None
    if parts.scheme not in SCHEMES:
        raise _unreadable("has another scheme")
    scheme, is_cluster = SCHEMES[parts.scheme]
    if len(nodes) > 1 and not is_cluster:
        raise _unreadable("names several servers; for a cluster begin it with redis+cluster://")
    own = {name: query.pop(name) for name in _OWN & query.keys()}
    connection = _connection(scheme, credentials, parts.path, query)
    if is_cluster and connection.pop("db", 0):
        raise _unreadable("names a database; a Redis Cluster has none but 0")
    prefix = own.get("prefix", DEFAULT_PREFIX)
    shown_hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in nodes)
    database = "" if is_cluster else f"/{connection.get('db', 0)}"
    return Address(
        nodes=nodes,
        is_cluster=is_cluster,
        prefix=_checked_prefix(prefix),
        accepts_loss=_accepts_loss(own.get("durability")),
        timeout_seconds=_seconds(own.get("timeout")),
        connection=connection,
        is_encrypted=scheme == "rediss",
        shown=f"{parts.scheme}://{shown_hosts}{database}" + ("" if prefix == DEFAULT_PREFIX else f"?prefix={prefix}"),
    )


def _connection(scheme: str, credentials: str, path: str, query: dict[str, str]) -> dict[str, Any]:
    unknown = sorted(name for name in query if name not in _HANDED_ON and not name.startswith("ssl_"))
    if unknown:
        raise _unreadable(
            f"has unknown parameters ({', '.join(unknown)}); there are prefix, durability, timeout, ssl_…"
        )
    if path.strip("/") and not path.strip("/").isdecimal():
        raise _unreadable("names a database that is no number")
    at = f"{credentials}@" if credentials else ""
    try:
        found = dict(parse_url(f"{scheme}://{at}host{path}?{urlencode(query)}"))
    except ValueError:
        raise _unreadable("has a parameter whose value is wrong") from None
    for name in ("host", "connection_class"):
        found.pop(name, None)
    return found


def _host_and_port(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    return parts.hostname or "localhost", parts.port or DEFAULT_PORT


def _checked_prefix(prefix: str) -> str:
    if not prefix or not prefix.isprintable() or "{" in prefix or "}" in prefix:
        raise _unreadable("has a prefix that is empty or holds braces or control characters")
    return prefix


def _accepts_loss(durability: str | None) -> bool:
    if durability not in (None, "none"):
        raise _unreadable("has a durability that is not none; without it, the server's own settings hold")
    return durability == "none"


def _seconds(text: str | None) -> float:
    if text is None:
        return DEFAULT_TIMEOUT_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise _unreadable("has a timeout that is no number of seconds above 0")
    return seconds


def _unreadable(problem: str) -> ConfigurationError:
    return ConfigurationError(f"The store's URL {problem}. Use {FORMS}.")
