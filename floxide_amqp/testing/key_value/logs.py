"""Logs: absolute positions, trimming, pages."""

# ruff: noqa: D102 - the names of tests are sentences

from __future__ import annotations

import pytest

from floxide_amqp.ports.key_value import Append, CheckLength, Delete, KeyValueStore, LogPage, LogRange, Read, Trim
from floxide_amqp.testing.key_value.harness import SLOT, StoreTests, batch, commit, holds, key, log, snapshot

LOG = key("log")


class LogTests(StoreTests):
    """Appending and reading."""

    async def test_a_log_never_appended_to_is_empty(self, store: KeyValueStore) -> None:
        assert await log(store, LOG) == LogPage(0, (), 0)

    async def test_entries_keep_their_order_over_batches(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"a", b"b")))
        await commit(store, Append(LOG, (b"c",)))
        assert await log(store, LOG) == LogPage(0, (b"a", b"b", b"c"), 3)

    async def test_committed_tells_where_the_first_entry_went(self, store: KeyValueStore) -> None:
        assert (await commit(store, Append(LOG, (b"a", b"b")))).positions == {LOG: 0}
        outcome = await commit(store, Append(LOG, (b"c",)), Append(key("other"), (b"d",)))
        assert outcome.positions == {LOG: 2, key("other"): 0}

    async def test_two_appends_in_one_batch_follow_each_other(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"a",)))
        outcome = await commit(store, Append(LOG, (b"b", b"c")), Append(LOG, (b"d",)))
        assert outcome.positions == {LOG: 1}
        assert (await log(store, LOG)).entries == (b"a", b"b", b"c", b"d")

    async def test_appending_no_entries_changes_nothing_and_tells_the_next_position(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"a",)))
        assert (await commit(store, Append(LOG, ()))).positions == {LOG: 1}
        assert (await log(store, LOG)).length == 1

    async def test_equal_and_empty_entries_are_all_kept(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"", b"x", b"", b"x")))
        assert (await log(store, LOG)).entries == (b"", b"x", b"", b"x")

    @pytest.mark.parametrize(
        ("start", "limit", "page"),
        [
            (0, 2, LogPage(0, (b"0", b"1"), 5)),
            (2, 2, LogPage(2, (b"2", b"3"), 5)),
            (3, 100, LogPage(3, (b"3", b"4"), 5)),
            (5, 100, LogPage(5, (), 5)),
        ],
    )
    async def test_a_page_starts_where_asked_and_holds_at_most_the_limit(
        self, store: KeyValueStore, start: int, limit: int, page: LogPage
    ) -> None:
        await commit(store, Append(LOG, tuple(str(n).encode() for n in range(5))))
        assert await log(store, LOG, start, limit) == page

    async def test_a_page_past_the_end_is_empty_and_tells_the_length(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"a",)))
        page = await log(store, LOG, 9)
        assert (page.entries, page.length) == ((), 1)

    async def test_limit_zero_asks_only_for_the_length(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"a", b"b")))
        page = await log(store, LOG, 0, 0)
        assert (page.entries, page.length) == ((), 2)

    async def test_following_pages_reads_a_long_log_whole(self, store: KeyValueStore) -> None:
        entries = tuple(str(n).encode() for n in range(2_500))
        for first in range(0, len(entries), 100):
            await commit(store, Append(LOG, entries[first : first + 100]))
        found: list[bytes] = []
        while True:
            page = await log(store, LOG, len(found), 300)
            found += page.entries
            if page.first + len(page.entries) == page.length:
                break
        assert tuple(found) == entries

    async def test_an_entry_of_a_megabyte_comes_back(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"a", b"\x00\x01" * 524_288, b"z")))
        assert (await log(store, LOG)).entries == (b"a", b"\x00\x01" * 524_288, b"z")


class TrimTests(StoreTests):
    """Forgetting the beginning of a log."""

    async def test_positions_of_the_others_do_not_change(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"a", b"b", b"c")))
        await commit(store, Trim(LOG, 2))
        assert await log(store, LOG, 2) == LogPage(2, (b"c",), 3)
        assert (await commit(store, Append(LOG, (b"d",)))).positions == {LOG: 3}

    async def test_a_page_from_before_the_trim_starts_at_what_is_kept(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"a", b"b", b"c")), Trim(LOG, 2))
        assert await log(store, LOG) == LogPage(2, (b"c",), 3)
        assert await log(store, LOG, 1, 1) == LogPage(2, (b"c",), 3)

    async def test_a_log_trimmed_to_its_end_goes_on_where_it_was(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"a", b"b")))
        await commit(store, Trim(LOG, 2))
        assert await log(store, LOG) == LogPage(2, (), 2)
        assert await holds(store, CheckLength(LOG, 2))
        assert (await commit(store, Append(LOG, (b"c",)))).positions == {LOG: 2}
        assert await log(store, LOG) == LogPage(2, (b"c",), 3)

    async def test_a_trim_beyond_the_end_forgets_all_and_invents_no_position(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"a", b"b")))
        await commit(store, Trim(LOG, 99))
        assert await log(store, LOG) == LogPage(2, (), 2)

    async def test_a_trim_to_before_an_earlier_trim_does_nothing(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"a", b"b", b"c")))
        await commit(store, Trim(LOG, 2))
        await commit(store, Trim(LOG, 1))
        assert await log(store, LOG) == LogPage(2, (b"c",), 3)

    async def test_a_trim_of_a_log_never_appended_to_does_nothing(self, store: KeyValueStore) -> None:
        await commit(store, Trim(LOG, 3))
        assert await log(store, LOG) == LogPage(0, (), 0)

    async def test_trims_and_appends_of_one_batch_apply_in_order(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"a", b"b")))
        outcome = await commit(
            store, Trim(LOG, 1), Append(LOG, (b"c", b"d")), Trim(LOG, 3), Append(LOG, (b"e",)), Trim(LOG, 2)
        )
        assert outcome.positions == {LOG: 2}
        assert await log(store, LOG) == LogPage(3, (b"d", b"e"), 5)

    async def test_a_deleted_log_forgets_its_trim(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"a", b"b")), Trim(LOG, 1))
        await commit(store, Delete(LOG))
        await commit(store, Append(LOG, (b"c",)))
        assert await log(store, LOG) == LogPage(0, (b"c",), 1)

    async def test_a_trimmed_then_deleted_log_of_one_batch_starts_again(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"a", b"b")))
        await commit(store, Trim(LOG, 1), Delete(LOG), Append(LOG, (b"c", b"d")), Trim(LOG, 1))
        assert await log(store, LOG) == LogPage(1, (b"d",), 2)

    async def test_what_one_group_appends_and_deletes_is_gone(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"a", b"b")), Delete(LOG))
        assert await log(store, LOG) == LogPage(0, (), 0)
        await store.commit([batch(Append(LOG, (b"c", b"d"))), batch(Delete(LOG)), batch(Append(LOG, (b"e",)))])
        assert await log(store, LOG) == LogPage(0, (b"e",), 1)

    async def test_what_one_batch_appends_and_trims_is_forgotten(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"a", b"b", b"c")), Trim(LOG, 2), Append(LOG, (b"d",)), Trim(LOG, 4))
        assert await log(store, LOG) == LogPage(4, (), 4)
        assert (await commit(store, Append(LOG, (b"e",)))).positions == {LOG: 4}
        assert await log(store, LOG) == LogPage(4, (b"e",), 5)

    async def test_limit_zero_tells_the_length_of_a_trimmed_log(self, store: KeyValueStore) -> None:
        await commit(store, Append(LOG, (b"a", b"b")), Trim(LOG, 2))
        found = await snapshot(store, Read(slot=SLOT, logs=(LogRange(LOG, 0, 0),)))
        assert found.logs == (LogPage(2, (), 2),)
