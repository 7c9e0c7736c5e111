"""Stores of one's own, and what they take: a file, a private server, or this process's memory."""

from __future__ import annotations

import gc
import os
import sqlite3
import tempfile
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from floxide_amqp.apps.stores import StoreLocation
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.testing.postgresql_servers import PrivatePostgreSQL, execute
from floxide_amqp.testing.redis_servers import PrivateRedis

KINDS = ("memory", "sqlite", "postgresql", "redis")

REWRITE_SECONDS = 600.0
"""Longest wait for Redis to rewrite its append-only file."""

TABLE_BYTES = """
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'floxide' AND c.relkind = 'r'
"""


class Located(Protocol):
    """A store, and where it is.

    Attributes:
        location: Where it is, for `Floxide`.
    """

    @property
    def location(self) -> StoreLocation: ...


class OwnStore(Protocol):
    """A store that nobody else uses.

    Attributes:
        kind: One of `KINDS`.
        location: Where it is, for `Floxide`.
        tidying: What `tidy` does, in words.
    """

    kind: str
    location: StoreLocation
    tidying: str

    def sizes(self) -> dict[str, int]:
        """Return what it takes, in bytes, by the names of the measures. Nobody has it open."""
        ...

    def tidy(self) -> None:
        """Do at once what it, or its server, does by itself in time."""
        ...


class MemoryStore:
    kind = "memory"
    tidying = ""

    def __init__(self) -> None:
        self.location: StoreLocation = MemoryKeyValueStore()

    def sizes(self) -> dict[str, int]:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return {"this process, about": pages * os.sysconf("SC_PAGE_SIZE")}

    def tidy(self) -> None:
        """Nothing to do."""


class SqliteStore:
    kind = "sqlite"
    tidying = ""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "runs.db"
        self.location: StoreLocation = f"sqlite:///{self._path}"

    def sizes(self) -> dict[str, int]:
        if not self._path.exists():
            return {"file": 0, "pages in use": 0}
        with closing(sqlite3.connect(self._path)) as connection:
            page, pages, free = (
                int(connection.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_size", "page_count", "freelist_count")
            )
        taken = sum(path.stat().st_size for path in self._path.parent.glob("runs.db*"))
        return {"file": taken, "pages in use": page * (pages - free)}

    def tidy(self) -> None:
        """Nothing to do: the file keeps its size, and its free pages are used again."""


class PostgresqlStore:
    kind = "postgresql"
    tidying = "VACUUM"

    def __init__(self, server: PrivatePostgreSQL) -> None:
        self._url = server.url
        self.location: StoreLocation = server.url

    def sizes(self) -> dict[str, int]:
        return {"tables and indexes": int(execute(self._url, TABLE_BYTES)[0][0])}

    def tidy(self) -> None:
        execute(self._url, "VACUUM")


class RedisStore:
    kind = "redis"
    tidying = "BGREWRITEAOF"

    def __init__(self, server: PrivateRedis) -> None:
        self._server = server
        self.location: StoreLocation = server.url

    def sizes(self) -> dict[str, int]:
        return {
            "memory": int(self._info("memory")["used_memory"]),
            "append-only file": int(self._info("persistence")["aof_current_size"]),
        }

    def tidy(self) -> None:
        self._wait_for_rewrite()
        self._server.command("BGREWRITEAOF")
        self._wait_for_rewrite()

    def _wait_for_rewrite(self) -> None:
        until = time.monotonic() + REWRITE_SECONDS
        while any(int(self._info("persistence")[f"aof_rewrite_{state}"]) for state in ("in_progress", "scheduled")):
            if time.monotonic() > until:
                raise RuntimeError("Redis does not come to an end with rewriting its append-only file")
            time.sleep(0.05)

    def _info(self, section: str) -> dict[str, Any]:
        found: dict[str, Any] = self._server.command("INFO", section)
        return found


@contextmanager
def own_store(kind: str) -> Generator[OwnStore]:
    """An empty store while the block is open; its data go with it."""
    if kind == "memory":
        yield MemoryStore()
    elif kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="floxide-bench-") as folder:
            yield SqliteStore(Path(folder))
    elif kind == "postgresql":
        with PrivatePostgreSQL() as postgresql:
            yield PostgresqlStore(postgresql)
    else:
        with PrivateRedis() as redis:
            yield RedisStore(redis)
