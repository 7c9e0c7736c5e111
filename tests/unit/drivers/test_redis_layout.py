from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.redis.layout import (
    CLUSTER_TAGS,
    HASH_SLOTS,
    Layout,
    bounds,
    check_slot,
    entry_of,
    hash_slot,
    member,
    number_of,
    number_text,
    tag_names,
)
from floxide_amqp.drivers.redis.lives import Lives
from floxide_amqp.drivers.redis.scanning import Page, merged
from floxide_amqp.exceptions import InvalidBatchError, StoreDataLostError
from floxide_amqp.ports.key_value import Entry, IndexRange

texts = st.text(st.sampled_from(["\0", "\x01", "a", "b", "é", "\uffff", "😀"]), max_size=4)
slots = st.sampled_from([-1, 0, 7, 63, 64, 1 << 20])


@given(texts, slots, texts, slots)
def test_members_sort_as_their_entries_and_slots_do(one: str, its: int, other: str, others: int) -> None:
    assert (member(one, its) < member(other, others)) == ((one, its) < (other, others))


@given(texts, slots, st.binary(max_size=3))
def test_a_member_says_its_entry_and_slot(entry: str, slot: int, value: bytes) -> None:
    assert entry_of(member(entry, slot), value) == Entry(entry, value, Slot(slot))


@given(texts, slots, texts, st.none() | texts)
def test_bounds_hold_what_lies_strictly_between_them(entry: str, slot: int, after: str, before: str | None) -> None:
    least, greatest = bounds(after, before)
    assert least[:1] == b"["
    found = least[1:] <= member(entry, slot) and (greatest == b"+" or member(entry, slot) < greatest[1:])
    assert found == (entry > after and (before is None or entry < before))


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_numbers_of_64_bits_come_back_exactly(number: int) -> None:
    text = number_text(number)
    assert number_of(text if isinstance(text, int) else text.encode()) == number
    assert isinstance(text, int) == (abs(number) < 1 << 53)


@pytest.mark.parametrize("count", [1, CLUSTER_TAGS])
def test_tags_lie_evenly_over_the_hash_slots(count: int) -> None:
    names = tag_names(count)
    assert [hash_slot(name) * count // HASH_SLOTS for name in names] == list(range(count))


def test_partitions_and_names_never_run_together() -> None:
    layout = Layout("p", 1)
    found = {
        layout.lists(1, "a") + "b:c",
        layout.lists(1, "a:b") + "c",
        layout.lists(1, "") + "a:b:c",
        layout.records(1, "a:b:c"),
        layout.records(11, "a"),
        layout.records(1, "1:a"),
    }
    assert len(found) == 6


@pytest.mark.parametrize("slot", [1 << 40, -(1 << 40)])
def test_a_slot_that_cannot_be_written_down_is_refused(slot: int) -> None:
    with pytest.raises(InvalidBatchError, match="there is no slot"):
        check_slot(slot, store="s")


entries = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), unique=True, max_size=60)


@given(entries, st.integers(1, 8), st.integers(0, 50), st.booleans())
def test_a_merged_scan_is_the_range_and_asks_for_little_more(
    found: list[tuple[int, int]], tags: int, limit: int, reverse: bool
) -> None:
    everything = [Entry(f"{entry:02d}", b"", Slot(slot)) for entry, slot in found]
    everything.sort(key=lambda one: (one.entry, one.slot), reverse=reverse)
    fetched = 0

    async def fetch(pages: Sequence[Page]) -> list[list[Entry]]:
        nonlocal fetched
        answers: list[list[Entry]] = []
        for page in pages:
            mine = [one for one in everything if one.slot % tags == page.tag]
            start = 0 if page.beyond is None else mine.index(page.beyond) + 1
            answers.append(mine[start : start + page.limit])
            fetched += len(answers[-1])
        return answers

    result = asyncio.run(merged(IndexRange("i", limit=limit, reverse=reverse), tags, fetch))
    assert result == everything[:limit]
    assert fetched <= 4 * limit + 16 * tags


def test_a_store_that_goes_on_with_less_than_was_seen_is_noticed() -> None:
    lives = Lives(b"me", store="s")
    assert not lives.knows(b"0", b"life 1")
    lives.saw(b"0", 3, b"life 1")
    lives.saw(b"0", 7)
    lives.saw(b"0", 5)
    assert lives.knows(b"0", b"life 1")
    assert lives.last(b"0") == (b"life 1", 7)
    assert lives.verdict(b"0", [1, 2, 3, []]) is None
    assert lives.lost is None
    lost = lives.verdict(b"0", [b"LOST", 5])
    assert isinstance(lost, StoreDataLostError)
    assert lives.lost is lost
    assert "went on with commit 5, and had reported commit 7 before" in str(lost)


def test_a_new_life_begins_with_its_own_sequence() -> None:
    lives = Lives(b"me", store="s")
    lives.saw(b"0", 9, b"life 1")
    lives.saw(b"0", 4, b"life 2")
    assert lives.last(b"0") == (b"life 2", 4)
