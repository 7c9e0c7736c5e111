"""Cells, checks, counters, deletes, and what addresses and values may be."""

# ruff: noqa: D102 - the names of tests are sentences

from __future__ import annotations

import pytest

from floxide_amqp.exceptions import StoreError
from floxide_amqp.ports.key_value import (
    ABSENT,
    PRESENT,
    Add,
    Append,
    Cell,
    Check,
    CheckLength,
    Conflict,
    Delete,
    Enter,
    IndexRange,
    Key,
    KeyValueStore,
    LogPage,
    Put,
    Read,
)
from floxide_amqp.testing.key_value.harness import (
    INT64_MAX,
    INT64_MIN,
    OTHER_SLOT,
    SLOT,
    StoreTests,
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

ODD_NAMES = [
    "",
    " ",
    "a/b:c|d",
    'it\'s "quoted" -- ; DROP TABLE cells',
    "%_*?[a-z]\\",
    "{slot}",
    "tab\there\nline\x1funit",
    "Ünïcödé",
    "ünïcödé",
    "e\u0301",  # not the same as the next: nothing is normalised
    "\u00e9",
    "日本語",
    "\uffff",
    "😀",
    "x" * 500,
]


class CellTests(StoreTests):
    """Cells and their versions."""

    async def test_an_absent_cell_has_version_zero_and_no_bytes(self, store: KeyValueStore) -> None:
        assert await cell(store, key("a")) == Cell(0, b"")

    async def test_the_first_put_makes_version_one(self, store: KeyValueStore) -> None:
        await commit(store, Put(key("a"), b"one"))
        assert await cell(store, key("a")) == Cell(1, b"one")

    async def test_every_put_adds_one_even_of_the_same_value(self, store: KeyValueStore) -> None:
        for _ in range(3):
            await commit(store, Put(key("a"), b"same"))
        assert await cell(store, key("a")) == Cell(3, b"same")

    async def test_two_puts_in_one_batch_add_two_and_the_last_value_stays(self, store: KeyValueStore) -> None:
        await commit(store, Put(key("a"), b"one"), Put(key("a"), b"two"))
        assert await cell(store, key("a")) == Cell(2, b"two")

    async def test_a_deleted_cell_is_back_at_version_zero(self, store: KeyValueStore) -> None:
        await commit(store, Put(key("a"), b"one"))
        await commit(store, Delete(key("a")))
        assert await cell(store, key("a")) == Cell(0, b"")

    async def test_a_cell_put_again_after_a_delete_starts_at_version_one(self, store: KeyValueStore) -> None:
        await commit(store, Put(key("a"), b"one"), Put(key("a"), b"two"))
        await commit(store, Delete(key("a")))
        await commit(store, Put(key("a"), b"three"))
        assert await cell(store, key("a")) == Cell(1, b"three")

    async def test_a_delete_and_a_put_in_one_batch_start_again_at_version_one(self, store: KeyValueStore) -> None:
        await commit(store, Put(key("a"), b"one"), Put(key("a"), b"two"))
        await commit(store, Delete(key("a")), Put(key("a"), b"three"))
        assert await cell(store, key("a")) == Cell(1, b"three")

    async def test_a_put_and_a_delete_in_one_batch_leave_nothing(self, store: KeyValueStore) -> None:
        await commit(store, Put(key("a"), b"one"), Delete(key("a")))
        assert await cell(store, key("a")) == Cell(0, b"")

    async def test_an_empty_value_is_a_cell_that_is_there(self, store: KeyValueStore) -> None:
        await commit(store, Put(key("a"), b""))
        assert await cell(store, key("a")) == Cell(1, b"")
        assert await holds(store, Check(key("a"), PRESENT))

    @pytest.mark.parametrize("value", [b"\x00", bytes(range(256)), b"\xff\xfe", b"\x00" * 3 + b"text"])
    async def test_values_are_any_bytes(self, store: KeyValueStore, value: bytes) -> None:
        await commit(store, Put(key("a"), value))
        assert (await cell(store, key("a"))).value == value

    async def test_a_value_of_eight_megabytes_comes_back(self, store: KeyValueStore) -> None:
        value = bytes(range(256)) * (8 * 4096)
        await commit(store, Put(key("big"), value))
        assert (await cell(store, key("big"))).value == value

    async def test_names_are_opaque(self, store: KeyValueStore) -> None:
        for number, name in enumerate(ODD_NAMES):
            await commit(store, Put(key(name), str(number).encode()), Put(Key(name, "x"), str(number).encode()))
        found = await snapshot(store, Read(slot=SLOT, cells=tuple(key(name) for name in ODD_NAMES)))
        assert [one.value for one in found.cells] == [str(number).encode() for number in range(len(ODD_NAMES))]
        found = await snapshot(store, Read(slot=SLOT, cells=tuple(Key(name, "x") for name in ODD_NAMES)))
        assert [one.value for one in found.cells] == [str(number).encode() for number in range(len(ODD_NAMES))]

    async def test_partition_and_name_do_not_run_together(self, store: KeyValueStore) -> None:
        await commit(store, Put(Key("ab", "c"), b"one"), Put(Key("a", "bc"), b"two"), Put(Key("a/b", "c"), b"three"))
        asked = (Key("ab", "c"), Key("a", "bc"), Key("a/b", "c"), Key("a", "b/c"))
        found = await snapshot(store, Read(slot=SLOT, cells=asked))
        assert [one.value for one in found.cells] == [b"one", b"two", b"three", b""]

    async def test_the_same_key_in_two_slots_is_two_things(self, store: KeyValueStore) -> None:
        await commit(store, Put(key("a"), b"one"), Add(key("a"), 1), Append(key("a"), (b"x",)))
        assert await cell(store, key("a"), slot=OTHER_SLOT) == Cell(0, b"")
        assert await counter(store, key("a"), slot=OTHER_SLOT) == 0
        assert (await log(store, key("a"), slot=OTHER_SLOT)).length == 0


class CheckTests(StoreTests):
    """Preconditions."""

    async def test_absent_holds_only_for_a_cell_that_is_not_there(self, store: KeyValueStore) -> None:
        assert await holds(store, Check(key("a"), ABSENT))
        await commit(store, Put(key("a"), b""))
        assert not await holds(store, Check(key("a"), ABSENT))

    async def test_present_holds_only_for_a_cell_that_is_there(self, store: KeyValueStore) -> None:
        assert not await holds(store, Check(key("a"), PRESENT))
        await commit(store, Put(key("a"), b""))
        assert await holds(store, Check(key("a"), PRESENT))

    async def test_a_number_holds_only_for_that_version(self, store: KeyValueStore) -> None:
        await commit(store, Put(key("a"), b""), Put(key("a"), b""))
        held = [version for version in range(1, 5) if await holds(store, Check(key("a"), version))]
        assert held == [2]

    async def test_a_counter_or_a_log_of_the_same_key_is_no_cell(self, store: KeyValueStore) -> None:
        await commit(store, Add(key("a"), 1), Append(key("a"), (b"x",)))
        assert await holds(store, Check(key("a"), ABSENT))

    async def test_a_log_never_appended_to_has_length_zero(self, store: KeyValueStore) -> None:
        assert await holds(store, CheckLength(key("log"), 0))
        assert not await holds(store, CheckLength(key("log"), 1))

    async def test_check_length_asks_for_the_next_position(self, store: KeyValueStore) -> None:
        await commit(store, Append(key("log"), (b"a", b"b")))
        held = [length for length in range(4) if await holds(store, CheckLength(key("log"), length))]
        assert held == [2]

    async def test_checks_are_evaluated_before_the_first_write(self, store: KeyValueStore) -> None:
        checks = (Check(key("a"), ABSENT), CheckLength(key("log"), 0))
        outcome = await attempt(store, batch(Put(key("a"), b""), Append(key("log"), (b"x",)), checks=checks))
        assert not isinstance(outcome, Conflict)

    async def test_the_first_check_that_fails_is_reported(self, store: KeyValueStore) -> None:
        checks = (Check(key("a"), ABSENT), Check(key("b"), PRESENT), CheckLength(key("log"), 9), Check(key("c"), 4))
        assert await attempt(store, batch(checks=checks)) == Conflict(checks[1])
        assert await attempt(store, batch(checks=checks[2:])) == Conflict(checks[2])

    async def test_a_batch_without_checks_or_writes_is_committed(self, store: KeyValueStore) -> None:
        outcome = await commit(store)
        assert (outcome.positions, outcome.counters) == ({}, {})


class CounterTests(StoreTests):
    """Counters."""

    async def test_an_absent_counter_is_zero(self, store: KeyValueStore) -> None:
        assert await counter(store, key("n")) == 0

    async def test_adds_sum_up(self, store: KeyValueStore) -> None:
        await commit(store, Add(key("n"), 5), Add(key("n"), -7))
        await commit(store, Add(key("n"), 0), Add(key("n"), -1))
        assert await counter(store, key("n")) == -3

    async def test_committed_tells_each_counter_after_the_batch(self, store: KeyValueStore) -> None:
        await commit(store, Add(key("n"), 10), Add(key("untouched"), 1))
        outcome = await commit(store, Add(key("n"), 1), Add(key("m"), -2), Add(key("n"), 2), Add(key("z"), 0))
        assert outcome.counters == {key("n"): 13, key("m"): -2, key("z"): 0}

    async def test_a_counter_reaches_the_limits_of_64_bits(self, store: KeyValueStore) -> None:
        outcome = await commit(store, Add(key("max"), INT64_MAX), Add(key("min"), INT64_MIN))
        assert outcome.counters == {key("max"): INT64_MAX, key("min"): INT64_MIN}
        assert await counter(store, key("max")) == INT64_MAX
        assert await counter(store, key("min")) == INT64_MIN

    @pytest.mark.parametrize(("start", "amount"), [(INT64_MAX, 1), (INT64_MIN, -1), (0, INT64_MAX + 1)])
    async def test_beyond_64_bits_the_group_is_faulty_and_nothing_of_it_applies(
        self, store: KeyValueStore, start: int, amount: int
    ) -> None:
        await commit(store, Add(key("n"), start), Put(key("kept"), b"before"), Append(key("log"), (b"first",)))
        earlier = batch(
            Put(key("kept"), b"after"), Put(key("a"), b""), Append(key("log"), (b"second",)), Delete(key("log"))
        )
        faulty = batch(Put(key("b"), b""), Add(key("m"), 1), Add(key("n"), amount))
        with pytest.raises(StoreError) as caught:
            await store.commit([earlier, faulty, batch(Put(key("c"), b""))])
        assert not caught.value.retryable
        read = Read(slot=SLOT, cells=(key("kept"), key("a"), key("b"), key("c")), counters=(key("n"), key("m")))
        found = await snapshot(store, read)
        assert found.cells == (Cell(1, b"before"), Cell(0, b""), Cell(0, b""), Cell(0, b""))
        assert found.counters == (start, 0)
        assert await log(store, key("log")) == LogPage(0, (b"first",), 1)

    async def test_a_store_works_on_after_a_faulty_group(self, store: KeyValueStore) -> None:
        with pytest.raises(StoreError):
            await store.commit([batch(Add(key("n"), INT64_MAX), Add(key("n"), 1))])
        assert (await commit(store, Add(key("n"), 1))).counters == {key("n"): 1}


class DeleteTests(StoreTests):
    """Deletes reach whatever a key addresses."""

    async def test_a_cell_a_counter_and_a_log_may_share_a_key(self, store: KeyValueStore) -> None:
        await commit(store, Put(key("a"), b"one"), Add(key("a"), 5), Append(key("a"), (b"x",)))
        assert await cell(store, key("a")) == Cell(1, b"one")
        assert await counter(store, key("a")) == 5
        assert await log(store, key("a")) == LogPage(0, (b"x",), 1)

    async def test_delete_removes_all_three(self, store: KeyValueStore) -> None:
        await commit(store, Put(key("a"), b"one"), Add(key("a"), 5), Append(key("a"), (b"x",)))
        await commit(store, Put(key("b"), b"other"))
        await commit(store, Delete(key("a")))
        assert await cell(store, key("a")) == Cell(0, b"")
        assert await counter(store, key("a")) == 0
        assert await log(store, key("a")) == LogPage(0, (), 0)
        assert await cell(store, key("b")) == Cell(1, b"other")

    async def test_delete_of_nothing_does_nothing(self, store: KeyValueStore) -> None:
        await commit(store, Delete(key("a")))
        assert await cell(store, key("a")) == Cell(0, b"")

    async def test_a_deleted_counter_starts_at_zero_again(self, store: KeyValueStore) -> None:
        await commit(store, Add(key("n"), 5))
        outcome = await commit(store, Delete(key("n")), Add(key("n"), 1))
        assert outcome.counters == {key("n"): 1}

    async def test_a_counter_deleted_after_an_add_is_reported_as_zero(self, store: KeyValueStore) -> None:
        outcome = await commit(store, Add(key("n"), 5), Delete(key("n")))
        assert outcome.counters == {key("n"): 0}
        assert await counter(store, key("n")) == 0

    async def test_a_deleted_log_starts_at_position_zero_again(self, store: KeyValueStore) -> None:
        await commit(store, Append(key("log"), (b"a", b"b")))
        outcome = await commit(store, Delete(key("log")), Append(key("log"), (b"c",)))
        assert outcome.positions == {key("log"): 0}
        assert await log(store, key("log")) == LogPage(0, (b"c",), 1)

    async def test_an_index_entry_is_not_deleted_with_a_key_of_its_name(self, store: KeyValueStore) -> None:
        await commit(store, Enter("a", "run-1"), Put(Key("run-1", "a"), b""))
        await commit(store, Delete(Key("run-1", "a")))
        assert await names(store, IndexRange("a")) == ["run-1"]
