from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.sqlite import SqliteKeyValueStore, Synchronous, schema, statements
from floxide_amqp.exceptions import (
    ConfigurationError,
    StoreClosedError,
    StoreCorruptError,
    StoreSchemaError,
    StoreUnavailableError,
)
from floxide_amqp.ports.key_value import (
    Add,
    Append,
    Batch,
    Check,
    CheckLength,
    Committed,
    Delete,
    Durability,
    Enter,
    IndexRange,
    Key,
    Leave,
    Put,
    Read,
    Trim,
)

KEY = Key("run-1", "a")
SLOT = Slot(1)


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_synchronous_decides_what_is_promised(tmp_path: Path) -> None:
    for synchronous, durability, number in (
        (Synchronous.FULL, Durability.POWER_LOSS, 2),
        (Synchronous.NORMAL, Durability.PROCESS_CRASH, 1),
    ):
        store = await SqliteKeyValueStore.open(tmp_path / "s.db", synchronous=synchronous)
        assert store.durability is durability
        assert store._writer._connection is not None
        assert store._writer._connection.execute("PRAGMA synchronous").fetchone() == (number,)
        assert store.is_shared
        await store.aclose()


async def test_a_new_file_is_marked_as_a_store_and_logs_ahead(tmp_path: Path) -> None:
    store = await SqliteKeyValueStore.open(str(tmp_path / "s.db"))
    assert store.path == tmp_path / "s.db"
    await store.aclose()
    with sqlite3.connect(tmp_path / "s.db") as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (schema.APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


async def test_closing_leaves_one_file(tmp_path: Path) -> None:
    store = await SqliteKeyValueStore.open(tmp_path / "s.db")
    await store.commit([Batch(slot=SLOT, writes=(Put(KEY, b"x"),))])
    await store.aclose()
    assert files_in(tmp_path) == ["s.db"]


async def test_a_file_of_another_schema_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    await (await SqliteKeyValueStore.open(path)).aclose()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StoreSchemaError) as caught:
        await SqliteKeyValueStore.open(path)
    assert str(caught.value) == (
        f"The store {path} holds schema version 99, but this release of floxide_amqp reads schema version "
        f"{schema.SCHEMA_VERSION}. Use the release that wrote it, or name another path."
    )


@pytest.mark.parametrize("mark", ["CREATE TABLE users (id)", "PRAGMA user_version=1", "PRAGMA application_id=7"])
async def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute(mark)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreSchemaError, match="an SQLite database of another program"):
        await SqliteKeyValueStore.open(path)
    assert path.read_bytes() == before


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, " * 1_000)
    with pytest.raises(StoreCorruptError, match="the file is not an SQLite database"):
        await SqliteKeyValueStore.open(path)
    assert path.read_text() == "Dear diary, " * 1_000


async def test_a_path_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=re.escape("is its folder there and accessible?")):
        await SqliteKeyValueStore.open(tmp_path)


async def test_a_folder_that_is_missing_is_named_with_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError) as caught:
        await SqliteKeyValueStore.open(tmp_path / "missing" / "s.db")
    folder = tmp_path / "missing"
    assert f"the folder {folder} does not exist" in str(caught.value)
    assert f"make the folder (mkdir -p {folder}) or name another path" in str(caught.value)
    assert "reachable" not in str(caught.value)


@pytest.mark.parametrize("path", [":memory:", "", Path()])
async def test_what_names_no_file_is_a_configuration_error(path: str | Path) -> None:
    with pytest.raises(ConfigurationError, match="needs the path of a file"):
        await SqliteKeyValueStore.open(path)


async def test_a_negative_lock_timeout_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at least 0 seconds, not -1"):
        await SqliteKeyValueStore.open(tmp_path / "s.db", lock_timeout=-1)


async def test_a_file_locked_by_another_program_cannot_be_opened_in_time(tmp_path: Path) -> None:
    await (await SqliteKeyValueStore.open(tmp_path / "s.db")).aclose()
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailableError, match="another process kept it locked"):
        await SqliteKeyValueStore.open(tmp_path / "s.db", lock_timeout=0)
    other.close()


async def test_a_failed_open_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(StoreUnavailableError):
        await SqliteKeyValueStore.open(tmp_path / "missing" / "s.db")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("floxide-sqlite")]
    assert threading.active_count() <= before + 1  # the loop's own executor closed it


async def test_closed_from_two_tasks_at_once_both_wait(tmp_path: Path) -> None:
    store = await SqliteKeyValueStore.open(tmp_path / "s.db")
    await asyncio.gather(store.aclose(), store.aclose())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("floxide-sqlite")]
    with pytest.raises(StoreClosedError, match="is closed; open it again to go on"):
        await store.read([])


async def test_replies_carry_the_time_of_the_clock_given(tmp_path: Path) -> None:
    class Stopped:
        def now_ms(self) -> int:
            return 42

        def elapsed_ms(self) -> int:
            return 0

    store = await SqliteKeyValueStore.open(tmp_path / "s.db", clock=Stopped())
    assert (await store.commit([])).now_ms == 42
    assert (await store.read([])).now_ms == 42
    await store.aclose()


async def test_a_second_event_loop_may_use_the_store(tmp_path: Path) -> None:
    store = await SqliteKeyValueStore.open(tmp_path / "s.db")

    async def work() -> None:
        for number in range(30):
            await store.commit([Batch(slot=SLOT, writes=(Add(KEY, 1), Enter("i", str(number))))])
            await store.scan(IndexRange("i"))

    with ThreadPoolExecutor(1) as threads:
        other = asyncio.get_running_loop().run_in_executor(threads, lambda: asyncio.run(work()))
        await asyncio.gather(work(), other)
    assert (await store.read([Read(slot=SLOT, counters=(KEY,))])).snapshots[0].counters == (60,)
    await store.aclose()


async def test_the_event_loop_runs_on_while_a_commit_waits_for_the_lock(tmp_path: Path) -> None:
    store = await SqliteKeyValueStore.open(tmp_path / "s.db")
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    commit = asyncio.create_task(store.commit([Batch(slot=SLOT, writes=(Add(KEY, 1),))]))
    found = await store.read([Read(slot=SLOT, counters=(KEY,))])
    assert found.snapshots[0].counters == (0,)
    assert not commit.done()
    other.execute("COMMIT")
    other.close()
    await commit
    await store.aclose()


def every_statement() -> list[str]:
    writes = [statements.leave_index, *(statements.delete_from(t) for t in ("cells", "counters", "log_entries"))]
    ranges = [
        statements.index_query(bounded=bounded, one_slot=one_slot, reverse=reverse)
        for bounded in (False, True)
        for one_slot in (False, True)
        for reverse in (False, True)
    ]
    return [
        *(statement(count) for statement in writes for count in (1, 2, statements.MOST_ROWS)),
        *(statements.numbers(count) for count in statements.NUMBER_SIZES),
        *(f"SELECT {kind.sql}" for kind in (statements.CELL, statements.COUNTER, statements.LOG)),
        statements.TRIM_LOG,
        statements.LOG_QUERY,
        *ranges,
    ]


@pytest.mark.parametrize("sql", every_statement(), ids=lambda sql: f"{sql[:60]}, {sql.count('?')} parameters")
def test_every_statement_searches_by_key_and_sorts_nothing(sql: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(schema.TABLES + schema.LARGE_VALUES)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", ("0",) * sql.count("?"))]
    connection.close()
    assert any(step.startswith("SEARCH") for step in plan)
    assert not [step for step in plan if step.startswith("SCAN") and not _is_given(step)]
    assert not [step for step in plan if "TEMP B-TREE" in step]


def _is_given(step: str) -> bool:
    """Whether the rows are those of the statement itself: no table is called a subquery."""
    return "CONSTANT ROW" in step or "VALUES" in step or step.startswith("SCAN (subquery-")


def test_no_statement_has_more_parameters_than_an_older_sqlite_takes() -> None:
    widest = [statements.put_cells(statements.MOST_ROWS), statements.numbers(statements.NUMBER_SIZES[-1])]
    assert max(sql.count("?") for sql in [*every_statement(), *widest]) <= 999


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        (statements.LOG_QUERY, "value"),
        (statements.index_query(bounded=True, one_slot=True, reverse=True), "entry,value,slot"),
    ],
)
def test_folding_rows_into_one_changes_nothing_about_how_they_are_found(sql: str, columns: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(schema.TABLES + schema.LARGE_VALUES)
    folded = statements.folded(sql, columns)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {folded}", ("0",) * sql.count("?"))]
    connection.close()
    steps = [step for step in plan if "SCALAR SUBQUERY" not in step and "large_values" not in step]
    assert [step.split()[0] for step in steps] == ["CO-ROUTINE", "SEARCH", "SCAN"]
    assert [step.split()[0] for step in plan if "large_values" in step] == ["SEARCH"]
    assert not [step for step in plan if "TEMP B-TREE" in step]


@pytest.mark.parametrize("count", [1, 2, 5, 7, 33, 127, 128])
def test_rows_are_filled_up_to_few_sizes_with_rows_of_nulls(count: int) -> None:
    rows = [(number, "a") for number in range(count)]
    found = statements.filled(rows)
    assert len(found) in statements.SIZES
    assert found == rows + [(None, None)] * (len(found) - count)
    assert len(found) <= 1.5 * count


def test_no_rows_are_filled_up_to_none() -> None:
    assert statements.filled([]) == []


@pytest.mark.parametrize("count", [1, 2, 3, 59, 60, 61, 119, 120, 121, 300])
async def test_however_many_things_a_group_asks_about_each_gets_its_own_numbers(tmp_path: Path, count: int) -> None:
    store = await SqliteKeyValueStore.open(tmp_path / "s.db")
    keys = [Key("run-1", f"{number}") for number in range(count)]
    trimmed = Key("run-1", "trimmed")

    def batch(number: int, *, length: int) -> Batch:
        checks = (Check(keys[number], length and number % 7 + 1), CheckLength(keys[number], length and number % 5 + 1))
        puts = (Put(keys[number], b"x"),) * (number % 7 + 1)
        appended = Append(keys[number], (b"x",) * (number % 5 + 1))
        return Batch(slot=SLOT, checks=checks, writes=(*puts, Add(keys[number], number - 100), appended))

    await store.commit([Batch(slot=SLOT, writes=(Append(trimmed, (b"x",) * 3), Trim(trimmed, 3)))])
    for length in (0, 1):
        reply = await store.commit([batch(number, length=length) for number in range(count)])
        assert reply.outcomes == tuple(
            Committed(positions={key: length * (n % 5 + 1)}, counters={key: (length + 1) * (n - 100)})
            for n, key in enumerate(keys)
        )
    found = await store.commit([Batch(slot=SLOT, checks=(CheckLength(trimmed, 3), Check(trimmed, 0)))])
    assert found.outcomes == (Committed(),)
    await store.aclose()


class RaisedBetween:
    """A connection after each of whose SELECTs another one raises all cells and counters, in one commit."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self.path = path
        self.statements: list[str] = []

    def execute(self, sql: str, parameters: object = ()) -> sqlite3.Cursor:
        self.statements.append(sql)
        found = self.connection.execute(sql, parameters)  # type: ignore[arg-type]
        if sql.startswith("SELECT"):
            with closing(sqlite3.connect(self.path)) as other, other:
                other.execute("UPDATE cells SET version=version+1")
                other.execute("UPDATE counters SET value=value+1")
        return found

    def __getattr__(self, name: str) -> object:
        return getattr(self.connection, name)


@pytest.mark.parametrize(
    ("cells", "counters", "is_one_statement"),
    [
        (statements.FEW_ROWS, 0, True),
        (12, statements.FEW_ROWS - 12, True),
        (12, statements.FEW_ROWS - 11, False),
        (statements.MOST_ROWS, 0, True),
        (0, statements.MOST_ROWS, True),
        (statements.MOST_ROWS + 1, 0, False),
        (0, 3 * statements.MOST_ROWS, False),
    ],
)
@pytest.mark.parametrize("is_one_read", [True, False])
async def test_all_that_a_read_finds_is_of_one_commit_however_much_it_asks_for(
    tmp_path: Path, cells: int, counters: int, is_one_statement: bool, is_one_read: bool
) -> None:
    store = await SqliteKeyValueStore.open(tmp_path / "s.db")
    put, added = ([Key("run-1", f"{kind}{n}") for n in range(count)] for kind, count in (("c", cells), ("n", counters)))
    writes = (*(Put(key, b"x") for key in put), *(Add(key, 1) for key in added))
    await store.commit([Batch(slot=SLOT, writes=writes)])
    readers = [RaisedBetween(store._readers._idle.get(), tmp_path / "s.db") for _ in range(2)]  # type: ignore[arg-type]
    for reader in readers:
        store._readers._idle.put(reader)  # type: ignore[arg-type]
    asked = [Read(slot=SLOT, cells=(key,)) for key in put] + [Read(slot=SLOT, counters=(key,)) for key in added]
    if is_one_read:
        asked = [Read(slot=SLOT, cells=tuple(put), counters=tuple(added))]
    for _ in range(2):
        found = (await store.read(asked)).snapshots
        numbers = [number for each in found for number in (*(cell.version for cell in each.cells), *each.counters)]
        assert len(numbers) == cells + counters
        assert len(set(numbers)) == 1
    assert ("BEGIN" not in readers[0].statements) is is_one_statement
    await store.aclose()


async def test_what_was_trimmed_deleted_or_left_takes_no_rows(tmp_path: Path) -> None:
    store = await SqliteKeyValueStore.open(tmp_path / "s.db")
    other = Key("run-1", "b")
    enters = (Append(KEY, (b"x",) * 5), Append(other, (b"x",) * 5), Put(other, b""), Add(other, 1), Enter("i", "a"))
    await store.commit([Batch(slot=SLOT, writes=(*enters, Trim(KEY, 3), Trim(other, 2)))])
    await store.commit([Batch(slot=SLOT, writes=(Trim(KEY, 4), Delete(other), Leave("i", "a")))])
    await store.aclose()
    with sqlite3.connect(tmp_path / "s.db") as connection:
        assert connection.execute("SELECT name, position FROM log_entries").fetchall() == [("a", 4)]
        assert connection.execute("SELECT name, start FROM log_starts").fetchall() == [("a", 4)]
        for table in ("cells", "counters", "index_entries"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    connection.close()


async def test_a_trim_in_the_batch_of_its_append_writes_only_what_is_kept(tmp_path: Path) -> None:
    store = await SqliteKeyValueStore.open(tmp_path / "s.db")
    await store.commit([Batch(slot=SLOT, writes=(Append(KEY, (b"x",) * 5), Trim(KEY, 3)))])
    await store.aclose()
    with sqlite3.connect(tmp_path / "s.db") as connection:
        assert connection.execute("SELECT position FROM log_entries").fetchall() == [(3,), (4,)]
    connection.close()
