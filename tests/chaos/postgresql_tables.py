"""The rows of a store in PostgreSQL, read with plain SQL over a connection of one's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg

from tests.chaos.store_reader import Entries, StoreAwayError

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0

AWAY = (
    asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError, TimeoutError
)  # fmt: skip

KIND = "split_part(convert_from(name, 'UTF8'), ':', 1)"
"""What an index's name begins with."""


class PostgresqlTables:
    """A schema of a database; names are UTF-8 in columns of bytes."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._url = parts._replace(query="").geturl()
        self._schema = parse_qs(parts.query).get("schema", ["floxide"])[0]

    def _rows(self, query: str, *parameters: object) -> list[Any]:
        """Ask in a thread of its own: callers may be in one where a loop runs."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self._ask(query, parameters)).result()

    async def _ask(self, query: str, parameters: tuple[object, ...]) -> list[Any]:
        try:
            settings = {"search_path": f'"{self._schema}"'}
            connection = await asyncpg.connect(self._url, timeout=CONNECT_SECONDS, server_settings=settings)
            try:
                return list(await connection.fetch(query, *parameters, timeout=ANSWER_SECONDS))
            finally:
                connection.terminate()
        except AWAY as error:
            raise StoreAwayError(f"{type(error).__name__}: {error}") from error

    def cell(self, partition: str, name: str) -> tuple[int, bytes] | None:
        query = "SELECT version, value FROM cells WHERE partition=$1 AND name=$2"
        rows = self._rows(query, partition.encode(), name.encode())
        return (rows[0][0], rows[0][1]) if rows else None

    def cells(self) -> Iterable[tuple[str, str, int, bytes]]:
        query = "SELECT partition, name, version, value FROM cells WHERE slot>=0"
        for partition, name, version, value in self._rows(query):
            yield partition.decode(), name.decode(), version, value

    def counters(self) -> Iterable[tuple[str, str, int]]:
        for partition, name, value in self._rows("SELECT partition, name, value FROM counters WHERE slot>=0"):
            yield partition.decode(), name.decode(), value

    def log_entries(self) -> Iterable[tuple[str, str, int, bytes]]:
        columns = "partition, name, position"
        query = f"SELECT {columns}, value FROM log_entries WHERE slot>=0 ORDER BY slot, {columns}"
        for partition, name, position, value in self._rows(query):
            yield partition.decode(), name.decode(), position, value

    def index(self, name: str, limit: int | None = None) -> Entries:
        query = "SELECT entry, value FROM index_entries WHERE name=$1 ORDER BY entry LIMIT $2"
        return [(entry.decode(), value) for entry, value in self._rows(query, name.encode(), limit)]

    def index_entries(self, *kinds: str) -> Iterable[tuple[str, str, bytes]]:
        query = f"SELECT name, entry, value FROM index_entries WHERE {KIND} = ANY($1) ORDER BY name, entry"
        for name, entry, value in self._rows(query, list(kinds)):
            yield name.decode(), entry.decode(), value

    def count(self, *names: str) -> int:
        names_bytes = [name.encode() for name in names]
        return int(self._rows("SELECT count(*) FROM index_entries WHERE name = ANY($1)", names_bytes)[0][0])

    def index_sizes(self, *kinds: str) -> dict[str, int]:
        wanted = f"{KIND} = ANY($1)" if kinds else f"{KIND} <> ALL($1)"
        query = f"SELECT name, count(*) FROM index_entries WHERE {wanted} GROUP BY name"
        return {name.decode(): count for name, count in self._rows(query, list(kinds or ("in", "live")))}
