from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.memory import sorted_entries
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.drivers.memory.sorted_entries import SortedEntries
from floxide_amqp.exceptions import InvalidBatchError, StoreClosedError
from floxide_amqp.ports.key_value import Add, Append, Batch, Durability, Enter, IndexRange, Key, Leave, LogRange, Read

KEY = Key("run-1", "n")
SLOT = Slot(1)


def batch(*writes: Add | Append | Enter | Leave) -> Batch:
    return Batch(slot=SLOT, writes=writes)


async def test_a_memory_store_promises_nothing_beyond_its_process() -> None:
    store = MemoryKeyValueStore()
    assert store.durability is Durability.NOTHING
    assert not store.is_shared


async def test_replies_carry_the_time_of_the_clock_given() -> None:
    class Stopped:
        def now_ms(self) -> int:
            return 42

        def elapsed_ms(self) -> int:
            return 0

    store = MemoryKeyValueStore(Stopped())
    assert (await store.commit([])).now_ms == 42
    assert (await store.read([])).now_ms == 42


async def test_an_overflow_names_the_counter() -> None:
    store = MemoryKeyValueStore()
    with pytest.raises(InvalidBatchError) as caught:
        await store.commit([batch(Add(KEY, 1 << 63))])
    assert str(caught.value) == (
        "The store memory cannot do what was asked: adding 9223372036854775808 to counter "
        "Key(partition='run-1', name='n') leaves 64 bits signed. Nothing of the group was applied; "
        "repeating it will fail again."
    )


async def test_nothing_is_kept_of_an_index_whose_last_entry_has_left() -> None:
    store = MemoryKeyValueStore()
    for number in range(100):
        index = f"live:run-{number}"
        await store.commit([batch(Enter(index, "a"), Enter(index, "b")), batch(Leave(index, "a"), Leave(index, "b"))])
        await store.commit([batch(Leave(index, "b"))])
    assert not store._indexes


@pytest.mark.parametrize("entries", [("a", "b"), ("a",), ()])
async def test_an_index_is_as_it_was_when_a_group_that_emptied_and_filled_it_is_undone(
    entries: tuple[str, ...],
) -> None:
    store = MemoryKeyValueStore()
    await store.commit([batch(*(Enter("i", entry, b"1") for entry in entries))])
    before = await store.scan(IndexRange("i"))
    emptied = batch(Leave("i", "a"), Leave("i", "b"), Enter("i", "c"))
    with pytest.raises(InvalidBatchError):
        await store.commit([emptied, batch(Leave("i", "c"), Enter("i", "b", b"2"), Add(KEY, 1 << 63))])
    assert await store.scan(IndexRange("i")) == before
    assert bool(store._indexes) == bool(entries)


async def test_a_closed_memory_store_says_so() -> None:
    store = MemoryKeyValueStore()
    await store.aclose()
    with pytest.raises(StoreClosedError, match="The store memory is closed; open it again to go on"):
        await store.scan(IndexRange("i"))


def test_threads_with_event_loops_of_their_own_lose_nothing() -> None:
    store = MemoryKeyValueStore()

    async def work(name: str) -> None:
        for number in range(300):
            entry = f"{number:03d}/{name}"
            await store.commit([batch(Add(KEY, 1), Append(KEY, (b"x",)), Enter("i", entry)), batch(Enter("j", name))])
            (found,) = (await store.read([Read(slot=SLOT, counters=(KEY,), logs=(LogRange(KEY, limit=0),))])).snapshots
            assert found.counters[0] == found.logs[0].length
            await store.scan(IndexRange("i", limit=5, reverse=True))
            await store.commit([batch(Leave("j", name))])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda name: asyncio.run(work(name)), "abcd"))
    (found,) = asyncio.run(
        store.read([Read(slot=SLOT, counters=(KEY,), indexes=(IndexRange("i", limit=2_000), IndexRange("j")))])
    ).snapshots
    assert found.counters == (1_200,)
    assert [entry.entry for entry in found.indexes[0]] == [f"{n:03d}/{name}" for n in range(300) for name in "abcd"]
    assert found.indexes[1] == ()


entry_keys = st.tuples(st.text("ab😀", max_size=3), st.integers(-1, 2))
changes = st.lists(st.tuples(st.booleans(), entry_keys, st.binary(max_size=1)), max_size=80)


@given(changes, st.text("ab", max_size=2), st.none() | st.text("ab😀", max_size=2), st.booleans())
def test_sorted_entries_are_a_sorted_dictionary_however_small_the_chunks(
    steps: list[tuple[bool, tuple[str, int], bytes]], after: str, before: str | None, reverse: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_entries, "CHUNK_SIZE", 4)
        entries, model = SortedEntries(), dict[tuple[str, int], bytes]()
        for enters, key, value in steps:
            if enters:
                assert entries.enter(key, value) == model.get(key)
                model[key] = value
            else:
                assert entries.leave(key) == model.pop(key, None)
        assert len(entries) == len(model)
        expected = sorted(
            [
                (entry, slot, value)
                for (entry, slot), value in model.items()
                if entry > after and (before is None or entry < before)
            ],
            reverse=reverse,
        )
        assert list(entries.between(after, before, reverse=reverse)) == expected


@given(changes)
def test_chunks_of_sorted_entries_keep_their_bounds(steps: list[tuple[bool, tuple[str, int], bytes]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_entries, "CHUNK_SIZE", 4)
        entries = SortedEntries()
        for enters, key, value in steps:
            entries.restore(key, value if enters else None)
            chunks = entries._chunks
            assert all(0 < len(chunk) <= 8 for chunk in chunks)
            assert entries._largest == [chunk[-1] for chunk in chunks]
            assert sorted(entries._values) == [one for chunk in chunks for one in chunk]


@pytest.mark.parametrize("after", [b"x", b"[]", b"[0]", b'[9, "a", "b"]', b'["a", "b", "c"]', b"\xff"])
async def test_a_listing_does_not_go_on_behind_what_is_no_cursor(after: bytes) -> None:
    store = MemoryKeyValueStore()
    with pytest.raises(InvalidBatchError, match="the listing goes on behind what is no cursor of it"):
        await store.records(SLOT, after=after)
