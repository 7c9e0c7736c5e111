"""The rows of a store in Redis, read with plain commands.

Each partition is a hash (a cell is ``c<name>``: ``<version>:<value>``; a counter ``n<name>``; ``l<name>`` the position
of the first entry of a log), each log a list, each index an ordered set of members (entry, a zero byte, four bytes of
slot) and a hash of their values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.chaos.store_reader import SYSTEM, Entries, StoreAwayError

ANSWER_SECONDS = 10.0
SLOT_BYTES = 4

OF_THE_SERVER = b"r:-1:floxide"
"""The records of the server itself, which are no run's."""

HASHES = re.compile(rb"r:\d+:(.*)", re.DOTALL)
LISTS = re.compile(rb"l:\d+:(\d+):(.*)", re.DOTALL)


class RedisTables:
    """The keys with one prefix, on one server."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._url = parts._replace(query="").geturl()
        self._base = parse_qs(parts.query).get("prefix", ["floxide"])[0].encode() + b"{0}:"
        self._hash_of: dict[str, bytes] = {}

    def _ask(self, *commands: tuple[Any, ...]) -> list[Any]:
        client = redis.Redis.from_url(
            self._url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0)
        )
        try:
            pipeline = client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return pipeline.execute()
        except (redis.RedisError, OSError) as error:
            raise StoreAwayError(f"{type(error).__name__}: {error}") from error
        finally:
            client.close()

    def _keys(self, kind: str) -> list[bytes]:
        """What follows the base in all keys of a kind, in order; slots below 0 are the store's own."""
        pattern = self._base + kind.encode() + b":*"
        found: set[bytes] = set()
        cursor: Any = 0
        while True:
            ((cursor, keys),) = self._ask(("SCAN", cursor, "MATCH", pattern, "COUNT", 10_000))
            found.update(key[len(self._base) :] for key in keys)
            if not int(cursor):
                return sorted(key for key in found if not key.startswith(b"%s:-" % kind.encode()))

    def _read(self, command: str, keys: list[bytes], *arguments: Any) -> Iterator[tuple[bytes, Any]]:
        for first in range(0, len(keys), 500):
            some = keys[first : first + 500]
            yield from zip(some, self._ask(*((command, self._base + key, *arguments) for key in some)), strict=True)

    def _fields(self, kind: bytes) -> Iterator[tuple[str, str, bytes]]:
        """Partition, name and value of the records of a kind."""
        for key, fields in self._read("HGETALL", self._keys("r")):
            partition = _partition(key)
            for field, value in _pairs(fields):
                if field[:1] == kind:
                    yield partition, field[1:].decode(), value

    def cell(self, partition: str, name: str) -> tuple[int, bytes] | None:
        if partition not in self._hash_of:
            self._hash_of = {partition: key for key in self._keys("r") for partition in (_partition(key),)}
            self._hash_of[SYSTEM] = OF_THE_SERVER
        key = self._hash_of.get(partition)
        (value,) = [None] if key is None else self._ask(("HGET", self._base + key, f"c{name}"))
        return None if value is None else _cell(value)

    def cells(self) -> Iterable[tuple[str, str, int, bytes]]:
        for partition, name, value in self._fields(b"c"):
            yield partition, name, *_cell(value)

    def counters(self) -> Iterable[tuple[str, str, int]]:
        for partition, name, value in self._fields(b"n"):
            yield partition, name, int(value)

    def log_entries(self) -> Iterable[tuple[str, str, int, bytes]]:
        first = {(partition, name): int(value) for partition, name, value in self._fields(b"l")}
        for key, values in self._read("LRANGE", self._keys("l"), 0, -1):
            found = LISTS.fullmatch(key)
            assert found is not None, key
            text, length = found[2].decode(), int(found[1])
            partition, name = text[:length], text[length + 1 :]
            for position, value in enumerate(values, first.get((partition, name), 0)):
                yield partition, name, position, value

    def index(self, name: str, limit: int | None = None) -> Entries:
        return [(entry, value) for _, entry, value in self._entries([name.encode()], limit)]

    def index_entries(self, *kinds: str) -> Iterable[tuple[str, str, bytes]]:
        names = [key[2:] for key in self._keys("i")]
        return self._entries([name for name in names if name.split(b":")[0].decode() in kinds])

    def _entries(self, names: list[bytes], limit: int | None = None) -> Iterator[tuple[str, str, bytes]]:
        members = self._read("ZRANGE", [b"i:" + name for name in names], 0, -1 if limit is None else limit - 1)
        values = self._read("HGETALL", [b"x:" + name for name in names])
        for (key, found), (_, fields) in zip(list(members), list(values), strict=True):
            value_of = dict(_pairs(fields))
            for member in found:
                entry = member[: -SLOT_BYTES - 1].replace(b"\0\xff", b"\0")
                yield key[2:].decode(), entry.decode(), value_of.get(member, b"")

    def count(self, *names: str) -> int:
        return sum(self._ask(*(("ZCARD", self._base + b"i:" + name.encode()) for name in names)))

    def index_sizes(self, *kinds: str) -> dict[str, int]:
        names = [key[2:].decode() for key in self._keys("i")]
        wanted = [name for name in names if _is_wanted(name.split(":")[0], kinds)]
        sizes = self._read("ZCARD", [b"i:" + name.encode() for name in wanted])
        return {key[2:].decode(): count for key, count in sizes}


def _is_wanted(kind: str, kinds: tuple[str, ...]) -> bool:
    return kind in kinds if kinds else kind not in ("in", "live")


def _partition(key: bytes) -> str:
    found = HASHES.fullmatch(key)
    assert found is not None, key
    return found[1].decode()


def _cell(value: bytes) -> tuple[int, bytes]:
    version, _, rest = value.partition(b":")
    return int(version), rest


def _pairs(fields: Any) -> Iterable[tuple[bytes, bytes]]:
    if isinstance(fields, dict):  # as redis-py gives it, or flat, as the server does
        return fields.items()
    return zip(fields[::2], fields[1::2], strict=True)
