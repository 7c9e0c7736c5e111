"""Listing the records of a slot: what comes, what it says, and that pages add up."""

# ruff: noqa: D102 - the names of tests are sentences

from __future__ import annotations

import pytest

from floxide_amqp.core.ids import Slot
from floxide_amqp.ports.key_value import (
    Add,
    Append,
    Clear,
    Delete,
    Enter,
    Key,
    KeyValueStore,
    Put,
    RecordInfo,
    RecordKind,
    Trim,
)
from floxide_amqp.testing.key_value.harness import OTHER_SLOT, SLOT, StoreTests, commit, key

CELL, COUNTER, LOG = RecordKind.CELL, RecordKind.COUNTER, RecordKind.LOG
MOST_PAGES = 10_000


async def pages(
    store: KeyValueStore, *, slot: Slot = SLOT, partition: str | None = None, limit: int = 1_000
) -> list[tuple[RecordInfo, ...]]:
    """Read all pages; a listing that never ends fails."""
    found: list[tuple[RecordInfo, ...]] = []
    after = b""
    for _ in range(MOST_PAGES):
        page = await store.records(slot, partition=partition, after=after, limit=limit)
        found.append(page.records)
        if page.after is None:
            return found
        after = page.after
    raise AssertionError(f"The listing did not end within {MOST_PAGES} pages.")


async def listed(
    store: KeyValueStore, *, slot: Slot = SLOT, partition: str | None = None, limit: int = 1_000
) -> dict[tuple[Key, RecordKind], RecordInfo]:
    """List everything, without the counters that are 0; what came twice must have come alike."""
    found: dict[tuple[Key, RecordKind], RecordInfo] = {}
    for page in await pages(store, slot=slot, partition=partition, limit=limit):
        for record in page:
            assert found.setdefault((record.key, record.kind), record) == record
    return {at: record for at, record in found.items() if record.kind is not COUNTER or record.number}


class RecordTests(StoreTests):
    """What a slot holds."""

    async def test_a_slot_never_written_to_holds_no_records(self, store: KeyValueStore) -> None:
        assert await listed(store) == {}

    async def test_a_cell_is_listed_with_its_version_and_the_size_of_its_value(self, store: KeyValueStore) -> None:
        await commit(store, Put(key("a"), b"old"))
        await commit(store, Put(key("a"), b"\x00" * 1_234), Put(key("empty"), b""))
        assert await listed(store) == {
            (key("a"), CELL): RecordInfo(key("a"), CELL, 1_234, 2),
            (key("empty"), CELL): RecordInfo(key("empty"), CELL, 0, 1),
        }

    async def test_a_counter_is_listed_with_its_value(self, store: KeyValueStore) -> None:
        await commit(store, Add(key("up"), 7), Add(key("down"), -3))
        assert await listed(store) == {
            (key("up"), COUNTER): RecordInfo(key("up"), COUNTER, 8, 7),
            (key("down"), COUNTER): RecordInfo(key("down"), COUNTER, 8, -3),
        }

    async def test_a_log_is_listed_with_its_next_position_and_the_size_of_what_it_still_has(
        self, store: KeyValueStore
    ) -> None:
        await commit(store, Append(key("log"), (b"12345",) * 10))
        await commit(store, Trim(key("log"), 4))
        assert await listed(store) == {(key("log"), LOG): RecordInfo(key("log"), LOG, 30, 10)}

    async def test_a_log_trimmed_to_nothing_is_listed_and_one_never_appended_to_is_not(
        self, store: KeyValueStore
    ) -> None:
        await commit(store, Append(key("log"), (b"a", b"b")), Append(key("never"), ()))
        await commit(store, Trim(key("log"), 2))
        assert await listed(store) == {(key("log"), LOG): RecordInfo(key("log"), LOG, 0, 2)}

    async def test_a_cell_a_counter_and_a_log_of_one_key_are_three_records(self, store: KeyValueStore) -> None:
        await commit(store, Put(key("a"), b"v"), Add(key("a"), 1), Append(key("a"), (b"x",)))
        assert set(await listed(store)) == {(key("a"), CELL), (key("a"), COUNTER), (key("a"), LOG)}

    async def test_what_was_deleted_or_cleared_is_listed_no_more(self, store: KeyValueStore) -> None:
        writes = (Put(key("a"), b"v"), Add(key("a"), 1), Append(key("a"), (b"x",)))
        await commit(store, *writes, Put(key("b", "run-2"), b""), Append(key("b", "run-2"), (b"y",)))
        await commit(store, Delete(key("a")))
        assert set(await listed(store)) == {(key("b", "run-2"), CELL), (key("b", "run-2"), LOG)}
        await commit(store, Clear("run-2", 100))
        assert await listed(store) == {}

    async def test_index_entries_are_no_records(self, store: KeyValueStore) -> None:
        await commit(store, Enter("run-1", "a", b"value"))
        assert await listed(store) == {}
        assert await listed(store, partition="run-1") == {}

    async def test_a_slot_is_listed_without_what_others_hold(self, store: KeyValueStore) -> None:
        await commit(store, Put(key("here"), b""))
        await commit(store, Put(key("there"), b""), Append(key("there"), (b"x",)), slot=OTHER_SLOT)
        assert set(await listed(store)) == {(key("here"), CELL)}
        assert set(await listed(store, slot=OTHER_SLOT)) == {(key("there"), CELL), (key("there"), LOG)}

    async def test_a_partition_is_listed_without_those_whose_names_begin_alike(self, store: KeyValueStore) -> None:
        for partition in ("run-1", "run-10", "run", "run-1:x"):
            await commit(store, Put(key("a", partition), b""), Add(key("n", partition), 1))
        assert set(await listed(store, partition="run-1")) == {(key("a"), CELL), (key("n"), COUNTER)}
        assert set(await listed(store, partition="run-")) == set()

    async def test_names_of_any_characters_are_listed_as_they_are(self, store: KeyValueStore) -> None:
        names = ["", " ", "a:b", "a/b", "{a}", "*", "[a]?", "\\", "'\"", "é", "\uffff", "😀", "n" * 300]
        await commit(store, *[Put(Key(f"r{name}", name), b"") for name in names])
        assert {key for key, _ in await listed(store, limit=2)} == {Key(f"r{name}", name) for name in names}
        for name in names:
            assert {key for key, _ in await listed(store, partition=f"r{name}")} == {Key(f"r{name}", name)}

    @pytest.mark.parametrize("limit", [1, 2, 7, 1_000])
    @pytest.mark.parametrize("partition", [None, "run-3"])
    async def test_pages_of_any_size_add_up_to_everything(
        self, store: KeyValueStore, limit: int, partition: str | None
    ) -> None:
        expected: set[tuple[Key, RecordKind]] = set()
        for number in range(6):
            for name in ("a", "b"):
                at = key(name, f"run-{number}")
                await commit(store, Put(at, b"v"), Add(at, 1), Append(at, (b"x", b"y")))
                expected |= {(at, CELL), (at, COUNTER), (at, LOG)} if partition in {None, at.partition} else set()
        assert set(await listed(store, partition=partition, limit=limit)) == expected

    async def test_a_page_holds_about_as_many_as_asked_for(self, store: KeyValueStore) -> None:
        for number in range(0, 2_000, 100):
            await commit(store, *[Put(key(f"k{n}"), b"") for n in range(number, number + 100)])
        found = await pages(store, limit=100)
        assert sum(map(len, found)) >= 2_000
        assert max(map(len, found)) <= 1_000

    async def test_what_stays_comes_although_others_come_and_go_between_the_pages(self, store: KeyValueStore) -> None:
        stays = [key(f"k{n:03d}") for n in range(0, 60, 2)]
        goes = [key(f"k{n:03d}") for n in range(1, 60, 2)]
        for at in (*stays, *goes):
            await commit(store, Put(at, b"v"), Append(at, (b"x",)))
        seen: set[tuple[Key, RecordKind]] = set()
        after: bytes | None = b""
        while after is not None:
            page = await store.records(SLOT, after=after, limit=5)
            seen |= {(record.key, record.kind) for record in page.records}
            after = page.after
            if goes:
                await commit(store, Delete(goes.pop()), Put(key(f"new{len(goes)}"), b"v"), Trim(stays[len(goes)], 1))
        assert seen >= {(at, kind) for at in stays for kind in (CELL, LOG)}
