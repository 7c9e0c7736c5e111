"""The kinds of store there are, each put up on the small disk: a SQLite file, or a server of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from floxide_amqp.testing.private_postgresql import PrivatePostgreSQL
from floxide_amqp.testing.redis_servers import PrivateRedis
from tests.chaos.disk import SmallDisk

SQLITE, POSTGRESQL, REDIS = KINDS_OF_STORE = ("sqlite", "postgresql", "redis")

Server: TypeAlias = PrivatePostgreSQL | PrivateRedis

POSTGRESQL_OPTIONS = "?statement_timeout=5&lock_timeout=1&connect_timeout=5"
REDIS_OPTIONS = "?timeout=5"
"""Short times, so that a link or a server that keeps silent is given up while it still does."""

REDIS_CONFIGURATION = "lua-time-limit 1000"
"""A script that runs for longer is told to whoever else asks."""


@dataclass(frozen=True)
class StorePlace:
    """Where the store is; `server` is None for a file."""

    kind: str
    url: str
    server: Server | None


@contextmanager
def launched(kind: str, disk: SmallDisk) -> Iterator[StorePlace]:
    """Put a store up, and end its server behind the block."""
    if kind == SQLITE:
        yield StorePlace(kind, f"sqlite:///{disk.folder}/runs.db", None)
        return
    data = disk.folder / "data"
    server: Server
    if kind == POSTGRESQL:
        disk.folder.parent.chmod(0o711)  # the server is another user's, and has to get through to its data
        server, options = PrivatePostgreSQL(data=data), POSTGRESQL_OPTIONS
    else:
        sync = "" if disk.is_limited else "\nappendfsync always"  # while a real disk syncs, Redis may hold writes back
        server, options = PrivateRedis(folder=data, configuration=f"{REDIS_CONFIGURATION}{sync}"), REDIS_OPTIONS
    with server:
        yield StorePlace(kind, f"{server.url}{options}", server)
