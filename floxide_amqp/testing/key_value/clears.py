"""Clearing a partition: what goes, what stays, and that a batch does nothing else beside it."""

# ruff: noqa: D102 - the names of tests are sentences

from __future__ import annotations

import pytest

from floxide_amqp.exceptions import StoreError
from floxide_amqp.ports.key_value import (
    ABSENT,
    Add,
    Append,
    Cell,
    Check,
    Clear,
    Committed,
    Conflict,
    Enter,
    IndexRange,
    Key,
    KeyValueStore,
    LogPage,
    Put,
    Read,
    Trim,
    When,
    Write,
)
from floxide_amqp.testing.key_value.harness import (
    OTHER_SLOT,
    SLOT,
    StoreTests,
    attempt,
    batch,
    cell,
    commit,
    counter,
    key,
    log,
    names,
    snapshot,
)


class ClearTests(StoreTests):
    """Clearing a partition, page by page."""

    async def _fill(self, store: KeyValueStore, partition: str, count: int = 5) -> None:
        for n in range(count):
            name = key(f"k{n}", partition)
            await commit(store, Put(name, b"v"), Add(name, 1), Append(name, (b"a", b"b")))

    async def test_clear_removes_cells_counters_and_logs_of_a_partition(self, store: KeyValueStore) -> None:
        await self._fill(store, "run-1", 1)
        outcome = await commit(store, Clear("run-1", 100))
        assert outcome.cleared == 3
        assert await cell(store, key("k0")) == Cell(0, b"")
        assert await counter(store, key("k0")) == 0
        assert await log(store, key("k0")) == LogPage(0, (), 0)

    async def test_clear_spares_what_it_is_told_to_keep(self, store: KeyValueStore) -> None:
        await self._fill(store, "run-1", 3)
        outcome = await commit(store, Clear("run-1", 100, ("k1", "unknown")))
        assert outcome.cleared == 6
        assert await cell(store, key("k1")) == Cell(1, b"v")
        assert await counter(store, key("k1")) == 1
        assert await log(store, key("k1")) == LogPage(0, (b"a", b"b"), 2)

    async def test_clear_spares_other_partitions_and_other_slots(self, store: KeyValueStore) -> None:
        await self._fill(store, "run-1", 1)
        await self._fill(store, "run-10", 1)
        await self._fill(store, "run", 1)
        await commit(store, Put(key("k0"), b"there"), slot=OTHER_SLOT)
        await commit(store, Clear("run-1", 100))
        assert await cell(store, key("k0", "run-10")) == Cell(1, b"v")
        assert await cell(store, key("k0", "run")) == Cell(1, b"v")
        assert await cell(store, key("k0"), slot=OTHER_SLOT) == Cell(1, b"there")

    async def test_clear_removes_no_more_than_it_is_told_to(self, store: KeyValueStore) -> None:
        await self._fill(store, "run-1", 5)
        removed = [(await commit(store, Clear("run-1", 4))).cleared for _ in range(5)]
        assert removed == [4, 4, 4, 3, 0]
        read = Read(slot=SLOT, cells=tuple(key(f"k{n}") for n in range(5)))
        assert (await snapshot(store, read)).cells == (Cell(0, b""),) * 5

    async def test_clear_of_nothing_removes_nothing(self, store: KeyValueStore) -> None:
        assert (await commit(store, Clear("run-1", 100))).cleared == 0
        await self._fill(store, "run-1", 1)
        assert (await commit(store, Clear("run-1", 0))).cleared == 0
        assert await cell(store, key("k0")) == Cell(1, b"v")

    async def test_a_trimmed_log_goes_whole_and_starts_at_position_zero_again(self, store: KeyValueStore) -> None:
        await commit(store, Append(key("log"), (b"a", b"b", b"c")))
        await commit(store, Trim(key("log"), 3))
        assert (await commit(store, Clear("run-1", 100))).cleared == 1
        outcome = await commit(store, Append(key("log"), (b"d",)))
        assert outcome.positions == {key("log"): 0}

    async def test_a_log_that_never_had_an_entry_is_no_record_to_clear(self, store: KeyValueStore) -> None:
        await commit(store, Append(key("log"), ()))
        assert (await commit(store, Clear("run-1", 100))).cleared == 0

    async def test_clear_leaves_index_entries(self, store: KeyValueStore) -> None:
        await commit(store, Enter("run-1", "a"), Put(key("k0"), b""))
        await commit(store, Clear("run-1", 100))
        assert await names(store, IndexRange("run-1")) == ["a"]

    async def test_a_clear_whose_check_fails_removes_nothing(self, store: KeyValueStore) -> None:
        await self._fill(store, "run-1", 1)
        checks = (Check(key("k0"), 2),)
        assert await attempt(store, batch(Clear("run-1", 100), checks=checks)) == Conflict(checks[0])
        assert await cell(store, key("k0")) == Cell(1, b"v")

    async def test_a_clear_sees_the_batches_before_it_and_is_seen_by_those_after_it(self, store: KeyValueStore) -> None:
        reply = await store.commit(
            [
                batch(Put(key("a"), b"one"), Add(key("n"), 5)),
                batch(Clear("run-1", 100), checks=(Check(key("a"), 1),)),
                batch(Put(key("a"), b"two"), Add(key("n"), 1), checks=(Check(key("a"), ABSENT),)),
            ]
        )
        assert reply.outcomes == (
            Committed(counters={key("n"): 5}),
            Committed(cleared=2),
            Committed(counters={key("n"): 1}),
        )
        assert await cell(store, key("a")) == Cell(1, b"two")

    @pytest.mark.parametrize(
        "writes",
        [
            (Clear("run-1", 1), Put(Key("run-1", "a"), b"")),
            (Put(Key("run-1", "a"), b""), Clear("run-1", 1)),
            (When(Key("run-1", "n"), 0, (Clear("run-1", 1),)),),
            (When(Key("run-1", "n"), 1, (), (Clear("run-1", 1),)),),
        ],
    )
    async def test_a_clear_among_other_writes_is_a_faulty_batch(
        self, store: KeyValueStore, writes: tuple[Write, ...]
    ) -> None:
        await self._fill(store, "run-1", 1)
        with pytest.raises(StoreError):
            await store.commit([batch(Clear("run-1", 100)), batch(*writes)])
        assert await cell(store, key("k0")) == Cell(1, b"v")
