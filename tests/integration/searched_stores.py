"""Stores that tests search for what must not be there, and tamper with behind the engine's back."""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import redis

from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.drivers.redis.layout import CELL, Layout
from floxide_amqp.drivers.sharded.placement import shard_of
from floxide_amqp.ports.key_value import Key
from floxide_amqp.testing.postgresql_servers import execute

TABLES = ("cells", "counters", "log_entries", "log_starts", "index_entries")


class SearchedStore(ABC):
    """A store, with all that is in it.

    Attributes:
        url: Where it is.
    """

    url: str

    @abstractmethod
    def contents(self) -> Mapping[str, bytes]:
        """Return everything that whoever may read it can read, by where it is."""

    def parts(self) -> Mapping[str, bytes]:
        """Return the same by server."""
        return {"": b"\0".join(self.contents().values())}

    def ids(self, name: str) -> list[str]:
        """Return an id that begins so for a run on each server."""
        return [name]

    @abstractmethod
    def take(self, run_id: str, key: Key) -> bytes:
        """Return the bytes of a record."""

    @abstractmethod
    def put(self, run_id: str, key: Key, value: bytes) -> None:
        """Put other bytes into the place of a record, without a trace."""


class SearchedFile(SearchedStore):
    """A store in a file, with the log and the free pages."""

    _of_place = "cells WHERE partition = ? AND name = ?"

    def __init__(self, folder: Path) -> None:
        self._file = folder / "runs.db"
        self.url = f"sqlite:///{self._file}"

    def contents(self) -> Mapping[str, bytes]:
        return {path.name: path.read_bytes() for path in self._file.parent.glob("runs.db*")}

    def take(self, run_id: str, key: Key) -> bytes:
        with closing(sqlite3.connect(self._file, timeout=10)) as file:
            value = "coalesce((SELECT data FROM large_values WHERE id = value), value)"
            return bytes(file.execute(f"SELECT {value} FROM {self._of_place}", (run_id, key.name)).fetchone()[0])

    def put(self, run_id: str, key: Key, value: bytes) -> None:
        with closing(sqlite3.connect(self._file, timeout=10)) as file, file:
            changed = file.execute(
                "UPDATE cells SET value = ? WHERE partition = ? AND name = ?", (value, run_id, key.name)
            ).rowcount
        assert changed == 1


class SearchedPostgreSQL(SearchedStore):
    """A schema of a database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._database, _, place = url.partition("?schema=")
        self._schema = place

    def contents(self) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        for table in TABLES:
            rows = execute(self._database, f"SELECT * FROM {self._schema}.{table}")
            values = (value for row in rows for value in row.values())
            found[table] = b"\0".join(value for value in values if isinstance(value, bytes))
        return found

    def take(self, run_id: str, key: Key) -> bytes:
        (row,) = execute(self._database, f"SELECT value FROM {self._schema}.cells WHERE {_row(run_id, key)}")
        return bytes(row["value"])

    def put(self, run_id: str, key: Key, value: bytes) -> None:
        changed = execute(
            self._database,
            f"UPDATE {self._schema}.cells SET value = '\\x{value.hex()}' WHERE {_row(run_id, key)} RETURNING version",
        )
        assert len(changed) == 1


def _row(run_id: str, key: Key) -> str:
    return f"partition = '\\x{run_id.encode().hex()}' AND name = '\\x{key.name.encode().hex()}'"


class SearchedRedis(SearchedStore):
    """The keys of a prefix."""

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        (self._prefix,) = parse_qs(parts.query)["prefix"]
        self._server = parts._replace(query="").geturl()

    def contents(self) -> Mapping[str, bytes]:
        with redis.Redis.from_url(self._server) as client:
            found = [self._everything(client, key) for key in client.scan_iter(f"{self._prefix}*", count=1_000)]
        return {"keys": b"\0".join(found)}

    def _everything(self, client: redis.Redis, key: bytes) -> bytes:
        match client.type(key):
            case b"hash":
                values = [part for pair in client.hgetall(key).items() for part in pair]
            case b"list":
                values = client.lrange(key, 0, -1)
            case b"zset":
                values = client.zrange(key, 0, -1)
            case b"string":
                values = [client.get(key)]
            case other:
                raise AssertionError(other)
        return b"\0".join((key, *values))

    def take(self, run_id: str, key: Key) -> bytes:
        with redis.Redis.from_url(self._server) as client:
            return bytes(client.hget(*self._place(run_id, key))).partition(b":")[2]

    def put(self, run_id: str, key: Key, value: bytes) -> None:
        place = self._place(run_id, key)
        with redis.Redis.from_url(self._server) as client:
            version = bytes(client.hget(*place)).partition(b":")[0]
            client.hset(place[0], place[1], version + b":" + value)

    def _place(self, run_id: str, key: Key) -> tuple[str, str]:
        return Layout(self._prefix, 1).records(slot_of(RunId(run_id)), key.partition), CELL + key.name


class SearchedShards(SearchedStore):
    """Several of them, as one store."""

    def __init__(self, shards: Mapping[str, SearchedStore]) -> None:
        self._shards = shards
        self.url = " ".join(f"{name}={shard.url}" for name, shard in shards.items())

    def contents(self) -> Mapping[str, bytes]:
        return {
            f"{name}: {place}": found
            for name, shard in self._shards.items()
            for place, found in shard.contents().items()
        }

    def parts(self) -> Mapping[str, bytes]:
        return {name: b"\0".join(shard.contents().values()) for name, shard in self._shards.items()}

    def take(self, run_id: str, key: Key) -> bytes:
        return self._home(run_id).take(run_id, key)

    def put(self, run_id: str, key: Key, value: bytes) -> None:
        self._home(run_id).put(run_id, key, value)

    def ids(self, name: str) -> list[str]:
        return [
            next(run_id for run_id in (f"{name}-{n}" for n in range(1_000)) if self._name(run_id) == shard)
            for shard in self._shards
        ]

    def _home(self, run_id: str) -> SearchedStore:
        return self._shards[self._name(run_id)]

    def _name(self, run_id: str) -> str:
        return shard_of(self._shards, slot_of(RunId(run_id)))


def files_in(folder: Path) -> bytes:
    """Return what all files of a folder hold, of those that are there when it is looked at."""
    found: list[bytes] = []
    for path in sorted(folder.rglob("*")):
        try:
            found.append(path.read_bytes() if path.is_file() else b"")
        except FileNotFoundError:  # the server has just put another in its place
            continue
    return b"\0".join(found)


async def contents_of(store: SearchedStore) -> bytes:
    """Return everything a store holds."""
    return b"\0".join((await asyncio.to_thread(store.contents)).values())
