"""Reads a store without the engine: its tables, and the few fields of the records that the checker needs.

What is known here of the format is written here again on purpose, so that a mistake of the engine's own readers cannot
hide one of its writers. Each kind of store has a class with the methods of `Tables` and no more: what the rows mean is
the same for all.
"""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgpack

from tests.chaos.merging import Snapshot, StoredContext

ITEM_STATUSES = ("pending", "in progress", "waiting retry", "held", "parked", "completed", "failed", "cancelled")
ENDED = ("completed", "failed", "cancelled")
OPEN_RUNS = ("runs.status:pending", "runs.status:running", "runs.status:paused", "runs.status:compensating")
OF_ITSELF = ("begun", "posted", "mail", "waits", "children", "tickets")
"""What stands in place of a join's opener in the names of indexes in which a run keeps what is no arrival."""

SYSTEM = "floxide"
"""The partition of what belongs to the server."""

OF_STORE = " "
"""What the partitions begin with that are no run's: schedules, concurrency keys."""

FAR_MS = 300_000
"""Nothing that is due later is waited for."""


def removes_a_record(timer: str) -> bool:
    """Whether a timer is there to remove a record that nobody needs any more, such as of a concurrency key."""
    return ": " in timer and ": schedule:" not in timer


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
    lost: int = 0


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
    context: StoredContext = field(default_factory=StoredContext)
    items: dict[str, Item] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    history: list[Ended] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    arrivals: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    live: list[str] = field(default_factory=list)
    workflow: str = ""
    parent: str = ""
    forked_from: str = ""
    created_at_ms: int = 0
    starts_at_ms: int = 0
    cells: set[str] = field(default_factory=set)
    audit: list[tuple[str, str]] = field(default_factory=list)
    of_itself: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


class StoreAwayError(Exception):
    """The store cannot be read just now, as is to be expected while it is being mistreated."""


class Tables(Protocol):
    """What a store holds, as rows. Each method may raise `StoreAwayError`."""

    def cell(self, partition: str, name: str) -> tuple[int, bytes] | None:
        """Version and value of one cell."""
        ...

    def cells(self) -> Iterable[tuple[str, str, int, bytes]]:
        """Partition, name, version, value."""
        ...

    def counters(self) -> Iterable[tuple[str, str, int]]:
        """Partition, name, value."""
        ...

    def log_entries(self) -> Iterable[tuple[str, str, int, bytes]]:
        """Partition, name, position, value: those of one log one after the other, in their order."""
        ...

    def index(self, name: str, limit: int | None = None) -> Entries:
        """The entries of one index, in their order."""
        ...

    def index_entries(self, *kinds: str) -> Iterable[tuple[str, str, bytes]]:
        """Name, entry, value, of the indexes whose names begin with one of `kinds` and a colon, in their order."""
        ...

    def count(self, *names: str) -> int:
        """How many entries some indexes have, together."""
        ...

    def index_sizes(self, *kinds: str) -> dict[str, int]:
        """How many entries each index of some kinds has; without kinds, each but those of single runs."""
        ...


def open_reader(url: str) -> StoreReader:
    """Return the reader for a store's URL."""
    parts = urlsplit(url)
    if parts.scheme == "postgresql":
        from tests.chaos.postgresql_tables import PostgresqlTables

        return StoreReader(PostgresqlTables(url))
    if parts.scheme == "redis":
        from tests.chaos.redis_tables import RedisTables

        return StoreReader(RedisTables(url))
    return StoreReader(SqliteTables(Path("/" + parts.path.lstrip("/"))))


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


class SqliteTables:
    """The SQLite store's file, also while the engine writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(query, parameters).fetchall()

    def _with_values(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask for rows that end with a value, or with the id that a large one has in a table of its own."""
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=30)) as connection:
            connection.execute("BEGIN")  # both reads see one moment
            rows = connection.execute(query, parameters).fetchall()
            if not any(isinstance(row[-1], int) for row in rows):
                return rows
            large = dict(connection.execute("SELECT id, data FROM large_values"))
            return [(*row[:-1], large[row[-1]] if isinstance(row[-1], int) else row[-1]) for row in rows]

    def cell(self, partition: str, name: str) -> tuple[int, bytes] | None:
        rows = self._with_values("SELECT version, value FROM cells WHERE partition=? AND name=?", partition, name)
        return (rows[0][0], rows[0][1]) if rows else None

    def cells(self) -> Iterable[tuple[str, str, int, bytes]]:
        return self._with_values("SELECT partition, name, version, value FROM cells WHERE slot>=0")

    def counters(self) -> Iterable[tuple[str, str, int]]:
        return self._rows("SELECT partition, name, value FROM counters WHERE slot>=0")

    def log_entries(self) -> Iterable[tuple[str, str, int, bytes]]:
        columns = "partition, name, position"
        return self._with_values(f"SELECT {columns}, value FROM log_entries WHERE slot>=0 ORDER BY slot, {columns}")

    def index(self, name: str, limit: int | None = None) -> Entries:
        query = "SELECT entry, value FROM index_entries WHERE name=? ORDER BY entry LIMIT ?"
        return self._with_values(query, name, -1 if limit is None else limit)

    def index_entries(self, *kinds: str) -> Iterable[tuple[str, str, bytes]]:
        mine = " OR ".join("name GLOB ?" for _ in kinds)
        query = f"SELECT name, entry, value FROM index_entries WHERE {mine} ORDER BY name, entry"
        return self._with_values(query, *(f"{kind}:*" for kind in kinds))

    def count(self, *names: str) -> int:
        marks = ",".join("?" * len(names))
        return int(self._rows(f"SELECT count(*) FROM index_entries WHERE name IN ({marks})", *names)[0][0])

    def index_sizes(self, *kinds: str) -> dict[str, int]:
        mine = " OR ".join("name=? OR name GLOB ?" for _ in kinds) or "name NOT GLOB 'in:*' AND name NOT GLOB 'live:*'"
        names = [name for kind in kinds for name in (kind, f"{kind}:*")]
        return dict(self._rows(f"SELECT name, count(*) FROM index_entries WHERE {mine} GROUP BY name", *names))


class StoreReader:
    """Says what the rows mean."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def open_runs(self) -> int:
        """How many runs are not over."""
        return self.tables.count(*OPEN_RUNS)

    def left_over(self) -> dict[str, int]:
        """How many entries there are of what should be gone when all is quiet, by index.

        Timers that are due much later are of runs that have ended meanwhile, or those runs are among what is left.
        """
        found = self.tables.index_sizes("runs.status", "messages", "owned", "parked", "timers", "letters")
        ended = {f"runs.status:{status}" for status in ENDED}
        soon = f"{(time.time_ns() // 1_000_000) + FAR_MS:014d}"
        if "timers" in found:
            found["timers"] = sum(
                entry < soon and not removes_a_record(entry) for entry, _ in self.tables.index("timers")
            )
        return {name: count for name, count in found.items() if count and name not in ended}

    def of_store(self) -> dict[str, dict[str, bytes]]:
        """Cells that are no run's: by partition, such as `` schedule:beat``, and name."""
        found: dict[str, dict[str, bytes]] = defaultdict(dict)
        for partition, name, _, value in self.tables.cells():
            if partition.startswith(OF_STORE):
                found[partition][name] = value
        return found

    def quarantine(self) -> Entries:
        """What nobody could read: each entry, and the record of it."""
        found = self.tables.index("quarantine")
        return [
            (entry, value or (self.tables.cell(SYSTEM, f"quarantine:{entry}") or (0, b""))[1]) for entry, value in found
        ]

    def queues_of_keys(self) -> dict[str, list[str]]:
        """Who waits for each concurrency key, by its partition."""
        found: dict[str, list[str]] = defaultdict(list)
        for name, entry, _ in self.tables.index_entries("in"):
            partition, _, what = name.partition(":")[2].rpartition(":")
            if partition.startswith(OF_STORE) and what == "tickets":
                found[partition].append(entry)
        return found

    def messages(self, queue: str, limit: int) -> list[tuple[str, str, str, int]]:
        """Some messages that are under way: entry, run, item, turn."""
        return [(entry, *plain(value)[1:4]) for entry, value in self.tables.index(f"messages:{queue}", limit)]

    def item(self, run_id: str, item_id: str) -> Item | None:
        found = self.tables.cell(run_id, f"i:{item_id}")
        return _item(*found) if found else None

    def index(self, name: str) -> Entries:
        return self.tables.index(name)

    def indexes(self) -> list[str]:
        """Names of the indexes that span all runs."""
        return list(self.tables.index_sizes())

    def runs(self) -> Iterator[StoredRun]:
        found: dict[str, StoredRun] = {}
        for partition, name, version, value in self.tables.cells():
            if not partition.startswith(OF_STORE):
                _read_cell(found.setdefault(partition, StoredRun(partition)), name, version, value)
        for partition, name, count in self.tables.counters():
            if partition.startswith(OF_STORE):
                continue
            found.setdefault(partition, StoredRun(partition)).counters[name] = count
        for partition, name, position, value in self.tables.log_entries():
            if partition.startswith(OF_STORE):
                continue
            _read_line(found.setdefault(partition, StoredRun(partition)), name, position, plain(value))
        for name, entry, value in self.tables.index_entries("in", "live"):
            kind, _, rest = name.partition(":")
            run_id, _, opener = (rest, "", "") if kind == "live" else rest.rpartition(":")  # ids may have colons
            if run_id.startswith(OF_STORE):
                continue
            run = found.setdefault(run_id, StoredRun(run_id))
            if kind == "live":
                run.live.append(entry)
            elif opener in OF_ITSELF:
                run.of_itself[opener].append(entry)
            else:
                run.arrivals[opener].append(payload(value))
        yield from found.values()


def save(tables: Tables, path: Path) -> None:
    """Write what a store on a server holds to an SQLite file that can be read when the server is gone."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_SAVED)
        connection.executemany("INSERT INTO cells VALUES (0,?,?,?,?)", tables.cells())
        connection.executemany("INSERT INTO counters VALUES (0,?,?,?)", tables.counters())
        connection.executemany("INSERT INTO log_entries VALUES (0,?,?,?,?)", tables.log_entries())
        connection.executemany("INSERT INTO index_entries VALUES (?,?,0,?)", tables.index_entries("in", "live"))
        for index in tables.index_sizes():
            found = StoreReader(tables).quarantine() if index == "quarantine" else tables.index(index)
            entries = ((index, entry, value) for entry, value in found)
            connection.executemany("INSERT INTO index_entries VALUES (?,?,0,?)", entries)
        connection.commit()


_SAVED = """
CREATE TABLE cells (slot, partition, name, version, value);
CREATE TABLE counters (slot, partition, name, value);
CREATE TABLE log_entries (slot, partition, name, position, value);
CREATE TABLE index_entries (name, entry, slot, value);
"""
"""Without keys: what is wrong in a store may be double."""


def _read_cell(run: StoredRun, name: str, version: int, value: bytes) -> None:
    run.cells.add(name)
    if name == "header":
        _read_header(run, msgpack.unpackb(value, strict_map_key=False))
    elif name == "state":
        _, run.status, _, run.finished_at_ms, run.failure, *_ = plain(value)
    elif name.startswith("i:"):
        item = _item(version, value)
        run.items[item.item_id] = item
    elif name in ("xs", "xt"):
        _, position, fields, segments, kept = msgpack.unpackb(value)
        run.context.snapshots.append(Snapshot(position, plain(fields), segments, dict(kept)))
    elif name.startswith("xc:"):
        _, path, _, elements = msgpack.unpackb(value)
        run.context.segments[int(name[3:])] = (path, plain(elements))


def _read_header(run: StoredRun, v: list[Any]) -> None:
    run.has_header = True
    run.workflow, run.created_at_ms, run.starts_at_ms = v[2], v[7], v[12]
    run.parent = v[11][0] if v[11] else ""
    run.forked_from = v[13][0] if v[13] else ""
    run.context.initial = plain(v[6])


def _item(version: int, value: bytes) -> Item:
    v = msgpack.unpackb(value)
    return Item(
        item_id=v[1], node=v[2], queue=v[3], status=ITEM_STATUSES[v[4]], parent=v[8], attempt=v[9], owner=v[10],
        due_ms=v[15], successors=tuple(v[16]), turn=version, lost=v[21],
    )  # fmt: skip


def _read_line(run: StoredRun, name: str, position: int, v: list[Any]) -> None:
    if name == "h":
        run.history.append(Ended(v[1], v[2], ITEM_STATUSES[v[3]], v[4], v[5], v[7]))
    elif name == "e":
        run.errors.append((v[1], v[2]))
    elif name == "a":
        run.audit.append((v[2], v[3]))
    elif name == "x":
        run.context.deltas.append((position, v[1], plain(v[2])))
