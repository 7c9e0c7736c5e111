"""Indexes: order, ranges, slots, scans."""

# ruff: noqa: D102 - the names of tests are sentences

from __future__ import annotations

import pytest

from floxide_amqp.core.ids import Slot
from floxide_amqp.ports.key_value import Enter, Entry, IndexRange, KeyValueStore, Leave
from floxide_amqp.testing.key_value.harness import OTHER_SLOT, SLOT, StoreTests, commit, index, names

BY_CODE_POINT = [
    "\x01",
    " ",
    "!",
    "10",
    "9",
    "A",
    "Z",
    "_",
    "a",
    "a\x1fb",
    "a b",
    "a/b",
    "aa",
    "b",
    "z",
    "~",
    "é",
    "ß",
    "ÿ",
    "Ā",
    "ⴀ",
    "日本",
    "\ue000",  # above every surrogate, so UTF-16 would sort it after the next but one
    "\uffff",
    "\U00010000",
    "😀",
]
"""A locale, a case-blind collation and UTF-16 each sort these differently."""


class IndexTests(StoreTests):
    """Entries and ranges."""

    async def test_an_unknown_index_is_empty(self, store: KeyValueStore) -> None:
        assert await index(store, IndexRange("none")) == ()
        assert list(await store.scan(IndexRange("none"))) == []

    async def test_an_entry_comes_back_with_its_value_and_slot(self, store: KeyValueStore) -> None:
        await commit(store, Enter("i", "a", b"one"), Enter("i", "b"))
        assert await index(store, IndexRange("i")) == (Entry("a", b"one", SLOT), Entry("b", b"", SLOT))

    async def test_entering_again_replaces_the_value(self, store: KeyValueStore) -> None:
        await commit(store, Enter("i", "a", b"one"), Enter("i", "a", b"two"))
        await commit(store, Enter("i", "a", b"three"))
        assert await index(store, IndexRange("i")) == (Entry("a", b"three", SLOT),)

    async def test_an_entry_that_left_is_gone(self, store: KeyValueStore) -> None:
        await commit(store, Enter("i", "a"), Enter("i", "b"))
        await commit(store, Leave("i", "a"))
        assert await names(store, IndexRange("i")) == ["b"]

    async def test_leaving_twice_or_never_having_entered_does_nothing(self, store: KeyValueStore) -> None:
        await commit(store, Enter("i", "a"))
        await commit(store, Leave("i", "a"), Leave("i", "a"), Leave("i", "b"), Leave("none", "a"))
        assert await names(store, IndexRange("i")) == []

    async def test_enters_and_leaves_of_one_batch_apply_in_order(self, store: KeyValueStore) -> None:
        await commit(store, Enter("i", "a"), Leave("i", "a"), Leave("i", "b"), Enter("i", "b", b"in"))
        assert await index(store, IndexRange("i")) == (Entry("b", b"in", SLOT),)

    async def test_indexes_do_not_share_entries(self, store: KeyValueStore) -> None:
        await commit(store, Enter("i", "a"), Enter("j", "b"), Enter("ij", "c"))
        assert await names(store, IndexRange("i")) == ["a"]
        assert await names(store, IndexRange("j")) == ["b"]

    async def test_entries_sort_by_their_code_points(self, store: KeyValueStore) -> None:
        expected = sorted(BY_CODE_POINT, key=lambda text: [ord(character) for character in text])
        await commit(store, *(Enter("i", entry) for entry in reversed(expected)))
        assert await names(store, IndexRange("i")) == expected
        assert [entry.entry for entry in await store.scan(IndexRange("i"))] == expected

    async def test_bounds_follow_code_points_too(self, store: KeyValueStore) -> None:
        await commit(store, *(Enter("i", entry) for entry in BY_CODE_POINT))
        assert await names(store, IndexRange("i", after="\ue000", before="😀")) == ["\uffff", "\U00010000"]
        assert await names(store, IndexRange("i", after="A", before="a")) == ["Z", "_"]

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            (IndexRange("i"), "abcde"),
            (IndexRange("i", after="b"), "cde"),
            (IndexRange("i", after="bb"), "cde"),
            (IndexRange("i", before="d"), "abc"),
            (IndexRange("i", after="a", before="e"), "bcd"),
            (IndexRange("i", after="a", before="e", reverse=True), "dcb"),
            (IndexRange("i", after="b", before="c"), ""),
            (IndexRange("i", after="d", before="b"), ""),
            (IndexRange("i", after="e"), ""),
            (IndexRange("i", before="a"), ""),
            (IndexRange("i", before=""), ""),
            (IndexRange("i", limit=2), "ab"),
            (IndexRange("i", limit=2, reverse=True), "ed"),
            (IndexRange("i", after="b", limit=1), "c"),
            (IndexRange("i", before="d", limit=2, reverse=True), "cb"),
            (IndexRange("i", limit=0), ""),
            (IndexRange("i", reverse=True), "edcba"),
        ],
    )
    async def test_a_range_lies_strictly_between_its_bounds(
        self, store: KeyValueStore, asked: IndexRange, expected: str
    ) -> None:
        await commit(store, *(Enter("i", entry) for entry in "cadbe"))
        assert await names(store, asked) == list(expected)
        assert [entry.entry for entry in await store.scan(asked)] == list(expected)

    async def test_an_index_of_thousands_is_paged_in_both_directions(self, store: KeyValueStore) -> None:
        expected = [f"{number:05d}" for number in range(3_000)]
        shuffled = [expected[number * 1_009 % len(expected)] for number in range(len(expected))]
        for first in range(0, len(shuffled), 500):
            await commit(store, *(Enter("i", entry) for entry in shuffled[first : first + 500]))
        forwards: list[str] = []
        while page := await names(store, IndexRange("i", after=forwards[-1] if forwards else "", limit=700)):
            forwards += page
        backwards: list[str] = []
        while page := await names(
            store, IndexRange("i", before=backwards[-1] if backwards else None, limit=700, reverse=True)
        ):
            backwards += page
        assert forwards == expected
        assert backwards == expected[::-1]

    async def test_thousands_of_entries_leave_again(self, store: KeyValueStore) -> None:
        entries = [f"{number:05d}" for number in range(3_000)]
        await commit(store, *(Enter("i", entry) for entry in entries))
        await commit(store, *(Leave("i", entry) for entry in entries if int(entry) % 100))
        assert await names(store, IndexRange("i")) == entries[::100]


class SlotTests(StoreTests):
    """One index spans the slots; an entry belongs to one."""

    async def test_a_read_sees_only_entries_of_its_own_slot(self, store: KeyValueStore) -> None:
        await commit(store, Enter("i", "a"), Enter("i", "c"))
        await commit(store, Enter("i", "b"), Enter("i", "d"), slot=OTHER_SLOT)
        assert await names(store, IndexRange("i")) == ["a", "c"]
        assert await names(store, IndexRange("i"), slot=OTHER_SLOT) == ["b", "d"]
        assert await names(store, IndexRange("i", limit=1, reverse=True)) == ["c"]
        assert await names(store, IndexRange("i"), slot=Slot(9)) == []

    async def test_a_scan_sees_all_slots_in_the_order_of_the_keys(self, store: KeyValueStore) -> None:
        expected = [Entry(f"{number:03d}", b"%d" % number, Slot(number * 7 % 64)) for number in range(130)]
        for entry in reversed(expected):
            await commit(store, Enter("i", entry.entry, entry.value), slot=entry.slot)
        assert list(await store.scan(IndexRange("i"))) == expected
        assert list(await store.scan(IndexRange("i", after="009", before="020", limit=5))) == expected[10:15]
        assert list(await store.scan(IndexRange("i", limit=3, reverse=True))) == expected[:-4:-1]

    async def test_the_system_slot_is_a_slot_like_others(self, store: KeyValueStore) -> None:
        await commit(store, Enter("i", "b"), slot=Slot(-1))
        await commit(store, Enter("i", "a"))
        assert await names(store, IndexRange("i"), slot=Slot(-1)) == ["b"]
        assert [entry.slot for entry in await store.scan(IndexRange("i"))] == [SLOT, Slot(-1)]

    async def test_one_entry_key_entered_from_two_slots_is_two_entries(self, store: KeyValueStore) -> None:
        await commit(store, Enter("i", "a", b"here"))
        await commit(store, Enter("i", "a", b"there"), slot=OTHER_SLOT)
        assert await index(store, IndexRange("i")) == (Entry("a", b"here", SLOT),)
        assert list(await store.scan(IndexRange("i"))) == [
            Entry("a", b"here", SLOT),
            Entry("a", b"there", OTHER_SLOT),
        ]

    async def test_leaving_from_one_slot_keeps_the_entry_of_another(self, store: KeyValueStore) -> None:
        await commit(store, Enter("i", "a"))
        await commit(store, Leave("i", "a"), slot=OTHER_SLOT)
        assert await names(store, IndexRange("i")) == ["a"]
