"""Large values lie apart in an SQLite file, go with their rows, and are set apart in the files of an older schema."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from floxide_amqp import Context, EventLog, Floxide, Workflow, WorkflowCtx, node
from floxide_amqp.apps import stores
from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.sqlite import SqliteKeyValueStore, schema
from floxide_amqp.drivers.sqlite.schema import LARGE_BYTES
from floxide_amqp.exceptions import StoreCorruptError
from floxide_amqp.ports.key_value import (
    Append,
    Batch,
    Cell,
    Clear,
    Delete,
    Enter,
    Entry,
    IndexRange,
    Key,
    Leave,
    LogRange,
    Put,
    Read,
    Snapshot,
    Trim,
    Write,
)

SLOT = Slot(3)
KEY, LOG = Key("run", "a"), Key("run", "log")
SMALL, LARGE, OTHER = b"s" * LARGE_BYTES, b"L" * (LARGE_BYTES + 1), b"O" * 100_000
EVERYTHING = Read(slot=SLOT, cells=(KEY,), logs=(LogRange(LOG),), indexes=(IndexRange("index"),))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteKeyValueStore]:
    opened = await SqliteKeyValueStore.open(tmp_path / "s.db")
    yield opened
    await opened.aclose()


async def write(store: SqliteKeyValueStore, *writes: Write) -> None:
    await store.commit([Batch(slot=SLOT, writes=writes)])


async def read(store: SqliteKeyValueStore) -> Snapshot:
    return (await store.read([EVERYTHING])).snapshots[0]


def apart(store: SqliteKeyValueStore) -> list[int]:
    """The lengths of what lies apart."""
    with closing(sqlite3.connect(store.path)) as connection:
        return sorted(length for (length,) in connection.execute("SELECT length(data) FROM large_values"))


async def test_values_of_all_sizes_are_read_as_they_were_written(store: SqliteKeyValueStore) -> None:
    await write(store, Put(KEY, LARGE), Append(LOG, (SMALL, OTHER, b"", LARGE)), Enter("index", "e", LARGE))
    found = await read(store)
    assert found.cells == (Cell(1, LARGE),)
    assert found.logs[0].entries == (SMALL, OTHER, b"", LARGE)
    assert found.indexes == ((Entry("e", LARGE, SLOT),),)
    assert list(await store.scan(IndexRange("index"))) == [Entry("e", LARGE, SLOT)]
    assert apart(store) == [len(LARGE)] * 3 + [len(OTHER)]
    assert [record.size for record in (await store.records(SLOT)).records] == [
        len(LARGE), len(SMALL) + len(OTHER) + len(LARGE),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "last",
    [Put(KEY, SMALL), Put(KEY, LARGE), Delete(KEY), Clear("run", 100, ())],
    ids=lambda write: type(write).__name__,
)
async def test_a_large_value_goes_when_another_takes_its_place_or_its_row_goes(
    store: SqliteKeyValueStore, last: Write
) -> None:
    await write(store, Put(KEY, OTHER))
    await write(store, last)
    assert apart(store) == ([len(LARGE)] if last == Put(KEY, LARGE) else [])


async def test_large_entries_go_with_their_log_and_their_index(store: SqliteKeyValueStore) -> None:
    await write(store, Append(LOG, (LARGE, OTHER, LARGE)), Enter("index", "e", OTHER), Enter("index", "f", LARGE))
    await write(store, Trim(LOG, 2), Leave("index", "e"))
    assert apart(store) == [len(LARGE)] * 2
    await write(store, Enter("index", "f", b""), Delete(LOG))
    assert apart(store) == []


async def test_many_large_values_in_one_group_each_stay(store: SqliteKeyValueStore) -> None:
    """Statements of several rows are filled up by repeating the last one, which would take its large value away."""
    keys = tuple([Key("run", f"{number:03}") for number in range(130)])
    for count in (1, 2, 5, 130):
        values = [bytes([number]) * (LARGE_BYTES - 1 + number % 3 * 1_000) for number in range(count)]
        await write(store, *(Put(key, value) for key, value in zip(keys, values, strict=False)))
        found = (await store.read([Read(slot=SLOT, cells=keys[:count])])).snapshots[0].cells
        assert [cell.value for cell in found] == values
    assert len(apart(store)) == sum(number % 3 > 0 for number in range(130))


def as_version_1(path: Path) -> None:
    """Make a file what the first schema would have made it."""
    with closing(sqlite3.connect(path)) as connection:
        for table in ("cells", "log_entries", "index_entries"):
            connection.execute(f"DROP TRIGGER {table}_with_large_value")
            inline = "UPDATE {} SET value=(SELECT data FROM large_values WHERE id=value) WHERE typeof(value)='integer'"
            connection.execute(inline.format(table))
        connection.execute("DROP TABLE large_values")
        connection.execute("PRAGMA user_version=1")
        connection.commit()


class Told(Context):
    log: EventLog[str] = EventLog()


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@node
async def tell(ctx: WorkflowCtx[Told], text: Text) -> Text:
    ctx.state.log.append(text.text)
    return text


@node
async def shorten(text: Text) -> int:
    return len(text.text)


class Telling(Workflow[Text, int, Told]):
    start = tell
    edges = (tell >> shorten,)


async def test_a_file_of_the_first_schema_is_brought_to_this_one_and_keeps_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MIGRATED_AT_ONCE", 2)
    path = tmp_path / "runs.db"
    app = Floxide(store=f"sqlite:///{path}", workflows=[Telling])
    texts = {f"run-{number}": Text(str(number) * number * 1_000) for number in range(4)}
    async with app.orchestrator() as orchestrator:
        for run_id, text in texts.items():
            handle = await orchestrator.start(Telling, text, run_id=run_id)
            assert await handle.result() == len(text.text)
    as_version_1(path)
    async with app.orchestrator() as orchestrator:
        for run_id, text in texts.items():
            assert list((await orchestrator.context(Telling, run_id)).log) == [text.text]
            assert await orchestrator.handle(Telling, run_id).result() == len(text.text)
        again = await orchestrator.start(Telling, Text("x" * 5_000), run_id="later")
        assert await again.result() == 5_000
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)
        for table in ("cells", "log_entries", "index_entries"):
            inline = f"SELECT count(*) FROM {table} WHERE typeof(value)='blob' AND length(value)>{LARGE_BYTES}"
            assert connection.execute(inline).fetchone() == (0,)
        ids = "SELECT value FROM {} WHERE typeof(value)='integer'"
        rows = " UNION ALL ".join(map(ids.format, ("cells", "log_entries", "index_entries")))
        large = [row[0] for row in connection.execute("SELECT id FROM large_values ORDER BY id")]
        assert sorted(row[0] for row in connection.execute(rows)) == large
        assert len(large) > 4


async def test_a_file_that_cannot_be_brought_to_this_schema_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.db"
    store = await SqliteKeyValueStore.open(path)
    await write(store, Put(KEY, LARGE), Append(LOG, (OTHER,)))
    await store.aclose()
    as_version_1(path)
    moved = schema._MIGRATIONS[0]

    def breaks_off(connection: sqlite3.Connection) -> None:
        moved(connection)
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(schema, "_MIGRATIONS", (breaks_off,))
        with pytest.raises(MemoryError):
            await SqliteKeyValueStore.open(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("SELECT value FROM cells").fetchall() == [(LARGE,)]
    store = await SqliteKeyValueStore.open(path)
    assert (await read(store)).cells == (Cell(1, LARGE),)
    await store.aclose()


async def test_looking_at_an_older_file_changes_nothing_and_migrating_does(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    await (await SqliteKeyValueStore.open(path)).aclose()
    as_version_1(path)
    before, url = path.read_bytes(), f"sqlite:///{path}"
    assert "An earlier release made it." in (await stores.examine(url)).warnings[0]
    assert path.read_bytes() == before
    assert schema.version_of(path) == 1
    assert "has this release's tables" in await stores.migrate(url)
    assert schema.version_of(path) == schema.SCHEMA_VERSION
    assert (await stores.examine(url)).warnings == ()


async def test_a_file_that_is_no_database_is_no_older_store(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(b"something else" * 1_000)
    with pytest.raises(StoreCorruptError):
        await SqliteKeyValueStore.is_older(path)
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE users (id)")
    assert not await SqliteKeyValueStore.is_older(tmp_path / "other.db")
