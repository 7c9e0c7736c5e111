"""Reads a store's file without the engine: the tables, and the few fields of the records that the checker needs.

What is known here of the format is written here again on purpose, so that a mistake of the engine's own readers cannot
hide one of its writers. A store on a server would be another class with the same methods.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgpack

ITEM_STATUSES = ("pending", "in progress", "waiting retry", "held", "parked", "completed", "failed", "cancelled")
ENDED = ("completed", "failed")
OPEN_RUNS = ("runs.status:pending", "runs.status:running", "runs.status:paused")

Entries = list[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Item:
    item_id: str
    node: str
    queue: str
    status: str
    parent: str
    attempt: int
    owner: str
    successors: tuple[str, ...]
    turn: int
    due_ms: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A line of history."""

    item_id: str
    node: str
    status: str
    attempts: int
    at_ms: int
    worker: str


@dataclass(slots=True)
class StoredRun:
    """All that the store has of one run."""

    run_id: str
    status: str = "unknown"
    finished_at_ms: int | None = None
    failure: Any = None
    has_header: bool = False
    context: dict[str, Any] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    history: list[Ended] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    deltas: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    arrivals: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    live: list[str] = field(default_factory=list)


class StoreReader(Protocol):
    def open_runs(self) -> int:
        """How many runs are not over."""
        ...

    def left_over(self) -> dict[str, int]:
        """How many entries there are of what should be gone when all is quiet, by index."""
        ...

    def messages(self, queue: str, limit: int) -> list[tuple[str, str, str, int]]:
        """Some messages that are under way: entry, run, item, turn."""
        ...

    def item(self, run_id: str, item_id: str) -> Item | None: ...

    def runs(self) -> Iterator[StoredRun]: ...

    def index(self, name: str) -> Entries: ...

    def indexes(self) -> list[str]:
        """Names of the indexes that span all runs."""
        ...


def open_reader(url: str) -> StoreReader:
    """Return the reader for a store's URL."""
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        raise ValueError(f"There is no reader for {parts.scheme} yet: write one with the methods of StoreReader.")
    return SqliteReader(Path("/" + parts.path.lstrip("/")))


def plain(data: bytes) -> Any:
    """Unpack what the engine packed; its marks for tuples and sets fall away."""
    return _without_marks(msgpack.unpackb(data, strict_map_key=False))


def _without_marks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_marks(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_marks(each) for each in value if not isinstance(each, msgpack.ExtType)]
    return value


def payload(data: bytes) -> Any:
    """Unpack a payload: its tag is dropped."""
    return plain(data)[-1]


class SqliteReader:
    """Reads the SQLite store's file, also while the engine writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(query, parameters).fetchall()

    def open_runs(self) -> int:
        marks = ",".join("?" * len(OPEN_RUNS))
        return int(self._rows(f"SELECT count(*) FROM index_entries WHERE name IN ({marks})", *OPEN_RUNS)[0][0])

    def left_over(self) -> dict[str, int]:
        rows = self._rows(
            "SELECT name, count(*) FROM index_entries WHERE name IN (?,?,?,'timers') OR name GLOB 'messages:*' "
            "OR name GLOB 'owned:*' OR name GLOB 'parked:*' GROUP BY name", *OPEN_RUNS
        )  # fmt: skip
        return {str(name): int(count) for name, count in rows}

    def messages(self, queue: str, limit: int) -> list[tuple[str, str, str, int]]:
        rows = self._rows("SELECT entry, value FROM index_entries WHERE name=? LIMIT ?", f"messages:{queue}", limit)
        return [(entry, *plain(value)[1:4]) for entry, value in rows]

    def item(self, run_id: str, item_id: str) -> Item | None:
        rows = self._rows("SELECT version, value FROM cells WHERE partition=? AND name=?", run_id, f"i:{item_id}")
        return _item(*rows[0]) if rows else None

    def index(self, name: str) -> Entries:
        return self._rows("SELECT entry, value FROM index_entries WHERE name=? ORDER BY entry", name)

    def indexes(self) -> list[str]:
        names = [name for (name,) in self._rows("SELECT DISTINCT name FROM index_entries")]
        return [name for name in names if not name.startswith(("in:", "live:"))]

    def runs(self) -> Iterator[StoredRun]:
        found: dict[str, StoredRun] = {}
        cells = "SELECT partition, name, version, value FROM cells WHERE slot>=0"
        for partition, name, version, value in self._rows(cells):
            run = found.setdefault(partition, StoredRun(partition))
            _read_cell(run, name, version, value)
        for partition, name, value in self._rows("SELECT partition, name, value FROM counters WHERE slot>=0"):
            found.setdefault(partition, StoredRun(partition)).counters[name] = value
        logs = "SELECT partition, name, value FROM log_entries WHERE slot>=0 ORDER BY slot, partition, name, position"
        for partition, name, value in self._rows(logs):
            _read_line(found.setdefault(partition, StoredRun(partition)), name, plain(value))
        mine = "name GLOB 'in:*' OR name GLOB 'live:*'"
        indexes = f"SELECT name, entry, value FROM index_entries WHERE {mine} ORDER BY name, entry"
        for name, entry, value in self._rows(indexes):
            kind, run_id, *opener = name.split(":")
            run = found.setdefault(run_id, StoredRun(run_id))
            if kind == "live":
                run.live.append(entry)
            else:
                run.arrivals[opener[0]].append(payload(value))
        yield from found.values()


def _read_cell(run: StoredRun, name: str, version: int, value: bytes) -> None:
    if name == "header":
        run.has_header = True
        run.context = plain(plain_field(value, 6))
    elif name == "state":
        _, run.status, _, run.finished_at_ms, run.failure, *_ = plain(value)
    elif name.startswith("i:"):
        item = _item(version, value)
        run.items[item.item_id] = item


def plain_field(value: bytes, number: int) -> bytes:
    found = msgpack.unpackb(value)[number]
    assert isinstance(found, bytes)
    return found


def _item(version: int, value: bytes) -> Item:
    v = msgpack.unpackb(value)
    return Item(
        item_id=v[1], node=v[2], queue=v[3], status=ITEM_STATUSES[v[4]], parent=v[8], attempt=v[9], owner=v[10],
        due_ms=v[15], successors=tuple(v[16]), turn=version,
    )  # fmt: skip


def _read_line(run: StoredRun, name: str, v: list[Any]) -> None:
    if name == "h":
        run.history.append(Ended(v[1], v[2], ITEM_STATUSES[v[3]], v[4], v[5], v[7]))
    elif name == "e":
        run.errors.append((v[1], v[2]))
    elif name == "x":
        run.deltas.append((v[1], plain(v[2])))
