from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.sqlite import SqliteKeyValueStore
from floxide_amqp.drivers.sqlite.errors import is_busy, patiently, store_error
from floxide_amqp.exceptions import (
    CommitOutcomeUnknownError,
    InvalidBatchError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from floxide_amqp.ports.key_value import Add, Batch, Check, Committed, Enter, IndexRange, Key, Put, Read

KEY = Key("run-1", "a")
SLOT = Slot(1)


def sqlite_error(code: int, kind: type[sqlite3.Error] = sqlite3.OperationalError) -> sqlite3.Error:
    error = kind("what SQLite says")
    error.sqlite_errorcode = code
    error.sqlite_errorname = "SQLITE_NAME"
    return error


def put(value: bytes, key: Key = KEY) -> Batch:
    return Batch(slot=SLOT, writes=(Put(key, value),))


async def value_of(store: SqliteKeyValueStore) -> bytes:
    return (await store.read([Read(slot=SLOT, cells=(KEY,))])).snapshots[0].cells[0].value


@pytest.mark.parametrize(
    ("code", "kind", "retryable", "part"),
    [
        (sqlite3.SQLITE_BUSY, StoreUnavailableError, True, "another process kept it locked"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreUnavailableError, True, "another process kept it locked"),
        (sqlite3.SQLITE_BUSY_RECOVERY, StoreUnavailableError, True, "another process kept it locked"),
        (sqlite3.SQLITE_LOCKED, StoreUnavailableError, True, "locked"),
        (sqlite3.SQLITE_PROTOCOL, StoreUnavailableError, True, "locks of its write-ahead log"),
        (sqlite3.SQLITE_CANTOPEN, StoreUnavailableError, True, "is its folder there"),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreUnavailableError, True, "the disk or the file system failed"),
        (sqlite3.SQLITE_NOLFS, StoreUnavailableError, True, "cannot hold a file of this size"),
        (sqlite3.SQLITE_NOMEM, StoreUnavailableError, True, "out of memory"),
        (sqlite3.SQLITE_INTERRUPT, StoreUnavailableError, True, "interrupted"),
        (sqlite3.SQLITE_FULL, StoreFullError, True, "make room, then repeat"),
        (sqlite3.SQLITE_READONLY_DBMOVED, StoreReadOnlyError, False, "give this process write access"),
        (sqlite3.SQLITE_PERM, StoreReadOnlyError, False, "give this process write access"),
        (sqlite3.SQLITE_AUTH, StoreReadOnlyError, False, "give this process write access"),
        (sqlite3.SQLITE_CORRUPT_INDEX, StoreCorruptError, False, "restore a backup"),
        (sqlite3.SQLITE_NOTADB, StoreCorruptError, False, "is not an SQLite database"),
        (sqlite3.SQLITE_FORMAT, StoreCorruptError, False, "restore a backup"),
        (sqlite3.SQLITE_TOOBIG, InvalidBatchError, False, "too big"),
        (sqlite3.SQLITE_MISMATCH, InvalidBatchError, False, "wrong type"),
        (sqlite3.SQLITE_CONSTRAINT_NOTNULL, InvalidBatchError, False, "wrong type"),
    ],
)
def test_each_result_code_becomes_one_error_that_says_what_to_do(
    code: int, kind: type[StoreError], retryable: bool, part: str
) -> None:
    found = store_error(sqlite_error(code), store="/data/s.db")
    assert type(found) is kind
    assert found.retryable is retryable
    assert "/data/s.db" in str(found)
    assert part in str(found)
    assert "[SQLITE_NAME: what SQLite says]" in str(found)


def test_an_unforeseen_result_code_is_a_plain_store_error() -> None:
    found = store_error(sqlite_error(sqlite3.SQLITE_INTERNAL), store="s.db")
    assert type(found) is StoreError
    assert str(found) == "The store s.db failed inside SQLite: what SQLite says. Nothing was applied."


@pytest.mark.parametrize(
    "error",
    [OverflowError("Python int too large"), TypeError("no"), sqlite3.InterfaceError("type not supported")],
)
def test_values_the_module_cannot_bind_are_an_invalid_batch(error: Exception) -> None:
    assert type(store_error(error, store="s.db")) is InvalidBatchError


def test_waiting_ends_when_the_file_is_free() -> None:
    results = iter([sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), sqlite_error(sqlite3.SQLITE_LOCKED), None])

    def action() -> str:
        error = next(results)
        if error is not None:
            raise error
        return "done"

    assert patiently(action, timeout=30) == "done"


def test_waiting_ends_at_the_timeout_with_the_error() -> None:
    def action() -> None:
        raise sqlite_error(sqlite3.SQLITE_BUSY)

    with pytest.raises(sqlite3.OperationalError):
        patiently(action, timeout=0)


def test_other_errors_are_not_waited_for() -> None:
    error = sqlite_error(sqlite3.SQLITE_IOERR)
    results = iter([error])
    with pytest.raises(sqlite3.OperationalError) as caught:
        patiently(lambda: (_ for _ in ()).throw(next(results)), timeout=30)
    assert caught.value is error
    assert not is_busy(error)


@pytest.mark.fault(32)
async def test_a_file_kept_locked_is_unavailable_to_writers_and_open_to_readers(tmp_path: Path) -> None:
    store = await SqliteKeyValueStore.open(tmp_path / "s.db", lock_timeout=0)
    await store.commit([put(b"before")])
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="another process kept it locked"):
        await store.commit([put(b"after")])
    assert await value_of(store) == b"before"
    other.execute("ROLLBACK")
    other.close()
    await store.commit([put(b"after")])
    assert await value_of(store) == b"after"
    await store.aclose()


@pytest.mark.fault(30)
async def test_a_full_disk_applies_nothing_and_the_store_works_on_with_room(tmp_path: Path) -> None:
    store = await SqliteKeyValueStore.open(tmp_path / "s.db")
    await store.commit([put(b"before")])
    writer = store._writer._connection
    assert writer is not None
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreFullError) as caught:
        await store.commit([put(b"after"), put(bytes(1_000_000), Key("run-1", "big"))])
    assert caught.value.retryable
    assert await value_of(store) == b"before"
    writer.execute("PRAGMA max_page_count=1000000")
    await store.commit([put(b"after"), put(bytes(1_000_000), Key("run-1", "big"))])
    assert await value_of(store) == b"after"
    await store.aclose()


async def test_a_store_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    store = await SqliteKeyValueStore.open(tmp_path / "s.db")
    writer = store._writer._connection
    assert writer is not None
    writer.execute("PRAGMA query_only=ON")
    with pytest.raises(StoreReadOnlyError, match="give this process write access"):
        await store.commit([put(b"x")])
    await store.aclose()


async def test_a_damaged_file_is_corrupt_to_whoever_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = await SqliteKeyValueStore.open(path)
    await store.commit([put(b"%d" % n * 300, Key("run-1", f"{n}")) for n in range(200)])
    await store.aclose()
    contents = bytearray(path.read_bytes())
    contents[4096:] = b"\xff" * (len(contents) - 4096)
    path.write_bytes(contents)
    again = await SqliteKeyValueStore.open(path)
    with pytest.raises(StoreCorruptError, match="restore a backup"):
        await again.read([Read(slot=SLOT, cells=(Key("run-1", "77"),))])
    with pytest.raises(StoreCorruptError, match="restore a backup"):
        await again.commit([put(b"x")])
    with pytest.raises(StoreCorruptError, match="restore a backup"):
        await again.scan(IndexRange("i"))
    await again.aclose()


class FailingCommit:
    """A connection whose COMMIT fails as SQLite would report it, and what else is told to."""

    def __init__(self, connection: sqlite3.Connection, code: int, *others: str) -> None:
        self.connection = connection
        self.code = code
        self.failing = ("COMMIT", *others)

    def execute(self, sql: str, parameters: object = ()) -> sqlite3.Cursor:
        if sql in self.failing:
            raise sqlite_error(self.code)
        return self.connection.execute(sql, parameters)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> object:
        return getattr(self.connection, name)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_IOERR_FSYNC, CommitOutcomeUnknownError),
        (sqlite3.SQLITE_IOERR_WRITE, CommitOutcomeUnknownError),
        (sqlite3.SQLITE_FULL, StoreFullError),
        (sqlite3.SQLITE_BUSY, StoreUnavailableError),
    ],
)
async def test_only_a_disk_that_fails_in_the_sync_leaves_the_outcome_unknown(
    tmp_path: Path, code: int, kind: type[StoreError]
) -> None:
    store = await SqliteKeyValueStore.open(tmp_path / "s.db", lock_timeout=0)
    connection = store._writer._connection
    assert connection is not None
    store._writer._connection = FailingCommit(connection, code)  # type: ignore[assignment]
    with pytest.raises(StoreError) as caught:
        await store.commit([put(b"x")])
    assert type(caught.value) is kind
    store._writer._connection = connection
    assert (await store.commit([Batch(slot=SLOT, checks=(Check(KEY, 0),), writes=(Put(KEY, b"y"),))])).outcomes == (
        Committed(),
    )
    await store.aclose()


@pytest.mark.parametrize(
    ("number", "kind"), [(1, CommitOutcomeUnknownError), (1 << 63, InvalidBatchError)], ids=["at commit", "before"]
)
async def test_a_disk_that_fails_in_the_rollback_too_changes_nothing_of_what_is_said_and_of_what_comes_after(
    tmp_path: Path, number: int, kind: type[StoreError]
) -> None:
    store = await SqliteKeyValueStore.open(tmp_path / "s.db", lock_timeout=0)
    connection = store._writer._connection
    assert connection is not None
    failing = FailingCommit(connection, sqlite3.SQLITE_IOERR_FSYNC, "ROLLBACK")
    store._writer._connection = failing  # type: ignore[assignment]
    with pytest.raises(StoreError) as caught:
        await store.commit([put(b"x"), Batch(slot=SLOT, writes=(Add(KEY, number),))])
    assert type(caught.value) is kind
    for version in (0, 1):
        check = Check(KEY, version)
        assert (await store.commit([Batch(slot=SLOT, checks=(check,), writes=(Put(KEY, b"y"),))])).outcomes == (
            Committed(),
        )
    await store.aclose()


@pytest.mark.parametrize(
    "faulty",
    [
        Batch(slot=SLOT, writes=(Put(Key("run-1", "\ud800"), b""),)),
        Batch(slot=SLOT, writes=(Enter("i", "\udfff"),)),
        Batch(slot=Slot(1 << 70), writes=(Put(KEY, b""),)),
        Batch(slot=SLOT, writes=(Put(KEY, object()),)),  # type: ignore[arg-type]
        Batch(slot=SLOT, writes=(Put(KEY, None),)),  # type: ignore[arg-type]
        Batch(slot=SLOT, writes=(Enter("i", "e", None),)),  # type: ignore[arg-type]
        Batch(slot=SLOT, writes=(Add(KEY, 1 << 63),)),
    ],
    ids=["surrogate in a key", "surrogate in an entry", "huge slot", "no bytes", "none", "none entered", "overflow"],
)
async def test_a_group_no_store_can_hold_is_refused_whole(tmp_path: Path, faulty: Batch) -> None:
    store = await SqliteKeyValueStore.open(tmp_path / "s.db")
    with pytest.raises(InvalidBatchError, match="Nothing of the group was applied"):
        await store.commit([put(b"x"), faulty])
    assert await value_of(store) == b""
    await store.commit([put(b"y")])
    assert await value_of(store) == b"y"
    await store.aclose()


async def test_a_value_beyond_the_limit_of_sqlite_is_an_invalid_batch(tmp_path: Path) -> None:
    store = await SqliteKeyValueStore.open(tmp_path / "s.db")
    writer = store._writer._connection
    assert writer is not None
    writer.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
    with pytest.raises(InvalidBatchError, match="too big"):
        await store.commit([put(bytes(200_000))])
    await store.aclose()
