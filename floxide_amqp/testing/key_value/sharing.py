"""What only durable and shared stores promise: reopening, and other processes."""

# ruff: noqa: D102 - the names of tests are sentences

from __future__ import annotations

import asyncio
import sys

from floxide_amqp.ports.key_value import (
    Add,
    Append,
    Cell,
    Check,
    CheckLength,
    Delete,
    Durability,
    Enter,
    Entry,
    IndexRange,
    KeyValueStore,
    LogPage,
    LogRange,
    Put,
    Read,
    Snapshot,
    Trim,
)
from floxide_amqp.testing.key_value.child import CELL, COUNTER, LOG, ROUNDS
from floxide_amqp.testing.key_value.harness import (
    SLOT,
    StoreTests,
    StoreUnderTest,
    attempt,
    batch,
    cell,
    commit,
    counter,
    holds,
    key,
    log,
    names,
    snapshot,
)

CHILD_COUNT = 3


class DurableTests(StoreTests):
    """For stores whose durability is more than nothing."""

    async def test_it_claims_durability(self, under_test: StoreUnderTest) -> None:
        assert under_test.durability is not Durability.NOTHING

    async def test_what_was_committed_is_there_when_opened_again(self, under_test: StoreUnderTest) -> None:
        store = await under_test.open()
        await commit(
            store,
            *(Put(key("a"), b"%d" % n) for n in range(3)),
            Put(key("gone"), b""),
            Add(key("n"), -5),
            Append(key("log"), (b"a", b"b", b"c")),
            Append(key("all trimmed"), (b"a", b"b")),
            *(Enter("i", entry, entry.encode()) for entry in ("b", "a", "gone")),
        )
        await commit(store, Trim(key("log"), 1), Trim(key("all trimmed"), 2))
        await commit(store, Delete(key("gone")), *(Enter("i", "a", b"replaced"),))
        read = Read(
            slot=SLOT,
            cells=(key("a"), key("gone")),
            counters=(key("n"),),
            logs=(LogRange(key("log")), LogRange(key("all trimmed"))),
            indexes=(IndexRange("i"),),
        )
        before = await snapshot(store, read)
        await store.aclose()
        again = await under_test.open()
        assert await snapshot(again, read) == before
        assert before == Snapshot(
            cells=(Cell(3, b"2"), Cell(0, b"")),
            counters=(-5,),
            logs=(LogPage(1, (b"b", b"c"), 3), LogPage(2, (), 2)),
            indexes=((Entry("a", b"replaced", SLOT), Entry("b", b"b", SLOT), Entry("gone", b"gone", SLOT)),),
        )
        await again.aclose()

    async def test_versions_positions_and_counters_go_on_when_opened_again(self, under_test: StoreUnderTest) -> None:
        for opening in range(3):
            store = await under_test.open()
            assert await holds(store, Check(key("a"), opening), CheckLength(key("log"), opening))
            outcome = await commit(store, Put(key("a"), b""), Append(key("log"), (b"x",)), Add(key("n"), 1))
            assert outcome.positions == {key("log"): opening}
            assert outcome.counters == {key("n"): opening + 1}
            await commit(store, Trim(key("log"), opening + 1))
            await store.aclose()

    async def test_a_conflict_is_not_there_when_opened_again_either(self, under_test: StoreUnderTest) -> None:
        store = await under_test.open()
        await attempt(store, batch(Put(key("a"), b""), checks=(Check(key("a"), 5),)))
        await store.aclose()
        again = await under_test.open()
        assert await cell(again, key("a")) == Cell(0, b"")
        await again.aclose()


class SharedTests(DurableTests):
    """For stores that several processes may open at once."""

    async def test_it_claims_to_be_shared(self, under_test: StoreUnderTest) -> None:
        assert under_test.is_shared

    async def test_another_handle_sees_every_commit_at_once(
        self, store: KeyValueStore, under_test: StoreUnderTest
    ) -> None:
        other = await under_test.open()
        for number in range(1, 31):
            writer, reader = (store, other) if number % 2 else (other, store)
            await commit(writer, Put(key("a"), b"%d" % number), Enter("i", f"{number:02d}"), Add(key("n"), 1))
            assert await cell(reader, key("a")) == Cell(number, b"%d" % number)
            assert len(await names(reader, IndexRange("i"))) == number
            assert len(await reader.scan(IndexRange("i"))) == number
            assert await counter(reader, key("n")) == number
        await other.aclose()

    async def test_closing_one_handle_leaves_the_other_working(
        self, store: KeyValueStore, under_test: StoreUnderTest
    ) -> None:
        other = await under_test.open()
        await commit(other, Add(key("n"), 1))
        await other.aclose()
        assert (await commit(store, Add(key("n"), 1))).counters == {key("n"): 2}

    async def test_many_can_open_an_empty_store_at_the_same_time(self, under_test: StoreUnderTest) -> None:
        stores = await asyncio.gather(*(under_test.open() for _ in range(6)))
        await asyncio.gather(*(commit(store, Add(key("n"), 1)) for store in stores))
        assert await counter(stores[0], key("n")) == len(stores)
        for store in stores:
            await store.aclose()

    async def test_many_processes_take_turns_and_lose_nothing(
        self, store: KeyValueStore, under_test: StoreUnderTest
    ) -> None:
        command = [sys.executable, "-m", "floxide_amqp.testing.key_value.child", under_test.opener, under_test.address]
        children = [
            await asyncio.create_subprocess_exec(
                *command, f"child-{n}", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
            for n in range(CHILD_COUNT)
        ]
        answers = await asyncio.gather(*(child.communicate() for child in children))
        assert [errors.decode() for _, errors in answers] == [""] * CHILD_COUNT
        total = CHILD_COUNT * ROUNDS
        assert await counter(store, COUNTER) == total
        assert await cell(store, CELL) == Cell(total, b"%d" % total)
        entries = [entry.decode() for entry in (await log(store, LOG, limit=total + 1)).entries]
        for n in range(CHILD_COUNT):
            own = [entry for entry in entries if entry.startswith(f"child-{n}/")]
            assert own == [f"child-{n}/{number:05d}" for number in range(ROUNDS)]
        assert await names(store, IndexRange("hammered", limit=total + 1)) == sorted(entries)
