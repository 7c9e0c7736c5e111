"""Snapshots, concurrent calls, cancelled calls, closing."""

# ruff: noqa: D102 - the names of tests are sentences

from __future__ import annotations

import asyncio
import time

import pytest

from floxide_amqp.exceptions import StoreError
from floxide_amqp.ports.key_value import (
    Add,
    Append,
    Cell,
    Check,
    Committed,
    Enter,
    Entry,
    IndexRange,
    Key,
    KeyValueStore,
    LogPage,
    LogRange,
    Put,
    Read,
    Snapshot,
    Write,
)
from floxide_amqp.testing.key_value.harness import (
    OTHER_SLOT,
    SLOT,
    StoreTests,
    StoreUnderTest,
    attempt,
    batch,
    cell,
    commit,
    counter,
    key,
    log,
)

HOUR_MS = 3_600_000
LEFT, RIGHT, LOG = key("left"), key("right"), key("log")
EVERYTHING = Read(
    slot=SLOT, cells=(LEFT, RIGHT), counters=(LEFT, RIGHT), logs=(LogRange(LOG),), indexes=(IndexRange("i"),)
)


def move(number: int) -> tuple[Write, ...]:
    """Write things that a consistent snapshot always sees agree."""
    value = b"%d" % number
    cells, counters = (Put(LEFT, value), Put(RIGHT, value)), (Add(LEFT, 1), Add(RIGHT, -1))
    return (*cells, *counters, Append(LOG, (value,)), Enter("i", "e", value))


def agrees(found: Snapshot) -> bool:
    """Tell whether a snapshot of `EVERYTHING` shows one moment."""
    left, right = found.cells
    return (
        left == right
        and left.version == found.counters[0] == -found.counters[1] == found.logs[0].length
        and (not left.version or found.logs[0].entries[-1] == left.value == found.indexes[0][0].value)
    )


class ReadTests(StoreTests):
    """One read, one consistent snapshot."""

    async def test_no_reads_have_no_snapshots(self, store: KeyValueStore) -> None:
        assert (await store.read([])).snapshots == ()

    async def test_an_empty_read_is_an_empty_snapshot(self, store: KeyValueStore) -> None:
        assert (await store.read([Read(slot=SLOT)])).snapshots == (Snapshot(),)

    async def test_a_snapshot_answers_in_the_order_asked(self, store: KeyValueStore) -> None:
        await commit(
            store,
            *(Put(key(name), name.encode()) for name in "abc"),
            *(Add(key(name), ord(name)) for name in "abc"),
            *(Append(key(name), (name.encode(),)) for name in "abc"),
            *(Enter(name, name) for name in "abc"),
        )
        read = Read(
            slot=SLOT,
            cells=(key("c"), key("none"), key("a"), key("c")),
            counters=(key("b"), key("none"), key("a")),
            logs=(LogRange(key("none")), LogRange(key("b")), LogRange(key("a"), 1)),
            indexes=(IndexRange("c"), IndexRange("none"), IndexRange("a")),
        )
        (found,) = (await store.read([read])).snapshots
        assert found == Snapshot(
            cells=(Cell(1, b"c"), Cell(0, b""), Cell(1, b"a"), Cell(1, b"c")),
            counters=(98, 0, 97),
            logs=(LogPage(0, (), 0), LogPage(0, (b"b",), 1), LogPage(1, (), 1)),
            indexes=((Entry("c", b"", SLOT),), (), (Entry("a", b"", SLOT),)),
        )

    async def test_many_reads_of_different_slots_are_answered_in_order(self, store: KeyValueStore) -> None:
        await commit(store, Put(key("a"), b"here"))
        await commit(store, Put(key("a"), b"there"), slot=OTHER_SLOT)
        reads = [Read(slot=OTHER_SLOT if n % 2 else SLOT, cells=(key("a"),)) for n in range(100)]
        found = (await store.read(reads)).snapshots
        assert [one.cells[0].value for one in found] == [b"here", b"there"] * 50

    async def test_hundreds_of_cells_and_counters_are_read_at_once(self, store: KeyValueStore) -> None:
        keys = tuple(Key(f"run-{n}", "x") for n in range(700))
        await commit(store, *(Put(one, one.partition.encode()) for one in keys), *(Add(one, 3) for one in keys))
        (found,) = (await store.read([Read(slot=SLOT, cells=keys, counters=keys)])).snapshots
        assert [one.value for one in found.cells] == [one.partition.encode() for one in keys]
        assert found.counters == (3,) * 700

    async def test_a_snapshot_never_shows_half_a_batch(self, store: KeyValueStore) -> None:
        async def write(writer: int) -> None:
            for number in range(60):
                await commit(store, *move(1_000 * writer + number))
                await asyncio.sleep(0)

        writers = [asyncio.create_task(write(n)) for n in range(3)]
        seen: list[Snapshot] = []
        while not all(writer.done() for writer in writers):
            seen += (await store.read([EVERYTHING, EVERYTHING])).snapshots
            await asyncio.sleep(0)
        await asyncio.gather(*writers)
        seen += (await store.read([EVERYTHING])).snapshots
        assert all(agrees(found) for found in seen)
        assert seen[-1].counters[0] == 180

    @pytest.mark.parametrize("count", [100, 400])
    async def test_a_snapshot_of_many_things_never_shows_half_a_batch(self, store: KeyValueStore, count: int) -> None:
        keys = tuple(Key(f"run-{n}", "x") for n in range(count))
        writes: tuple[Write, ...] = (*(Put(one, b"x") for one in keys), *(Add(one, 1) for one in keys))

        async def write() -> None:
            for _ in range(20):
                await commit(store, *writes)

        writer = asyncio.create_task(write())
        seen: list[Snapshot] = []
        while not writer.done():
            seen += (await store.read([Read(slot=SLOT, cells=keys, counters=keys)])).snapshots
            await asyncio.sleep(0)
        await writer
        seen += (await store.read([Read(slot=SLOT, cells=keys, counters=keys)])).snapshots
        assert all(len({*(one.version for one in found.cells), *found.counters}) == 1 for found in seen)
        assert seen[-1].counters[0] == 20

    async def test_what_was_committed_is_seen_by_every_later_read(self, store: KeyValueStore) -> None:
        for number in range(1, 101):
            await commit(store, Put(key("a"), b"%d" % number), Enter("i", f"{number:03d}"))
            found, entries = await asyncio.gather(cell(store, key("a")), store.scan(IndexRange("i", after="000")))
            assert found == Cell(number, b"%d" % number)
            assert len(entries) == number

    async def test_replies_carry_the_time(self, store: KeyValueStore) -> None:
        now = time.time_ns() // 1_000_000
        committed, found = await store.commit([]), await store.read([])
        assert abs(committed.now_ms - now) < HOUR_MS
        assert abs(found.now_ms - now) < HOUR_MS


class ConcurrencyTests(StoreTests):
    """Calls at the same time, from one event loop."""

    async def test_counters_lose_no_concurrent_add(self, store: KeyValueStore) -> None:
        async def add() -> list[int]:
            values: list[int] = []
            for _ in range(10):
                outcome = await commit(store, Add(key("n"), 1), Append(LOG, (b"x",)))
                values.append(outcome.counters[key("n")])
                assert outcome.positions[LOG] == values[-1] - 1
            return values

        seen = await asyncio.gather(*(add() for _ in range(30)))
        assert sorted(value for values in seen for value in values) == list(range(1, 301))
        assert await counter(store, key("n")) == 300
        assert (await log(store, LOG)).length == 300

    async def test_of_many_who_put_the_same_version_exactly_one_wins(self, store: KeyValueStore) -> None:
        for version in range(10):
            contenders = [
                batch(Put(key("a"), b"%d" % n), checks=(Check(key("a"), version),), slot=SLOT) for n in range(8)
            ]
            outcomes = await asyncio.gather(*(attempt(store, contender) for contender in contenders))
            (winner,) = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Committed)]
            assert await cell(store, key("a")) == Cell(version + 1, b"%d" % winner)

    async def test_read_modify_write_under_checks_loses_nothing(self, store: KeyValueStore) -> None:
        async def raise_by_one() -> None:
            while True:
                found = await cell(store, key("a"))
                value = b"%d" % (int(found.value or b"0") + 1)
                outcome = await attempt(store, batch(Put(key("a"), value), checks=(Check(key("a"), found.version),)))
                if isinstance(outcome, Committed):
                    return

        await asyncio.gather(*(raise_by_one() for _ in range(12)))
        assert await cell(store, key("a")) == Cell(12, b"12")

    async def test_a_cancelled_commit_is_applied_whole_or_not_at_all(self, store: KeyValueStore) -> None:
        for number in range(40):
            call = asyncio.create_task(store.commit([batch(*move(number)), batch(*move(number))]))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        (found,) = (await store.read([EVERYTHING])).snapshots
        assert agrees(found)

    async def test_a_cancelled_call_does_not_disturb_those_after_it(self, store: KeyValueStore) -> None:
        calls = [asyncio.create_task(store.commit([batch(Add(key("n"), 1))])) for _ in range(10)]
        reads = [asyncio.create_task(store.read([EVERYTHING])) for _ in range(10)]
        scans = [asyncio.create_task(store.scan(IndexRange("i"))) for _ in range(10)]
        await asyncio.sleep(0)
        for call in (*calls[::2], *reads[::2], *scans[::2]):
            call.cancel()
        await asyncio.gather(*calls, *reads, *scans, return_exceptions=True)
        assert not any(call.cancelled() for call in (*calls[1::2], *reads[1::2], *scans[1::2]))
        before = await counter(store, key("n"))
        assert 5 <= before <= 10
        assert (await commit(store, Add(key("n"), 1))).counters == {key("n"): before + 1}


class LifecycleTests(StoreTests):
    """Declared capabilities and closing."""

    async def test_the_store_says_what_its_author_declared(
        self, store: KeyValueStore, under_test: StoreUnderTest
    ) -> None:
        assert (store.durability, store.is_shared) == (under_test.durability, under_test.is_shared)

    async def test_closing_twice_does_nothing(self, store: KeyValueStore) -> None:
        await store.aclose()
        await store.aclose()

    async def test_a_closed_store_refuses_with_a_store_error(self, store: KeyValueStore) -> None:
        await store.aclose()
        with pytest.raises(StoreError):
            await store.commit([batch(Add(key("n"), 1))])
        with pytest.raises(StoreError):
            await store.read([EVERYTHING])
        with pytest.raises(StoreError):
            await store.scan(IndexRange("i"))

    async def test_closing_waits_for_the_commits_under_way(self, store: KeyValueStore) -> None:
        calls = [asyncio.create_task(store.commit([batch(Add(key("n"), 1))])) for _ in range(20)]
        await asyncio.sleep(0)
        await store.aclose()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert not [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
