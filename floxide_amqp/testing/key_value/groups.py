"""Batches and groups: atomicity, order, conflicts, branches on counters."""

# ruff: noqa: D102 - the names of tests are sentences

from __future__ import annotations

from dataclasses import replace

from floxide_amqp.ports.key_value import (
    ABSENT,
    PRESENT,
    Add,
    Append,
    Cell,
    Check,
    CheckLength,
    Committed,
    Conflict,
    Delete,
    Enter,
    Entry,
    IndexRange,
    Key,
    KeyValueStore,
    Leave,
    LogPage,
    LogRange,
    Put,
    Read,
    Trim,
    When,
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

N = key("n")
LOG = key("log")


def mark(name: str) -> Enter:
    """Leave a trace that the branch it stands in was taken."""
    return Enter("taken", name)


class GroupTests(StoreTests):
    """Many batches in one commit."""

    async def test_a_group_of_none_has_no_outcomes(self, store: KeyValueStore) -> None:
        assert (await store.commit([])).outcomes == ()

    async def test_a_conflict_leaves_everything_as_it_was(self, store: KeyValueStore) -> None:
        await commit(store, Put(key("a"), b"old"), Add(N, 1), Append(LOG, (b"x", b"y")), Enter("i", "in", b"old"))
        everything = Read(
            slot=SLOT,
            cells=(key("a"), key("b")),
            counters=(N,),
            logs=(LogRange(LOG), LogRange(key("b"))),
            indexes=(IndexRange("i"),),
        )
        before = await snapshot(store, everything)
        writes = (
            Put(key("a"), b"new"),
            Put(key("b"), b"new"),
            Delete(key("a")),
            Add(N, 9),
            Append(LOG, (b"z",)),
            Append(key("b"), (b"z",)),
            Trim(LOG, 1),
            Enter("i", "in", b"new"),
            Enter("i", "new"),
            Leave("i", "in"),
            When(N, 10, (Put(key("b"), b""),), (Put(key("b"), b""),)),
        )
        check = Check(key("b"), PRESENT)
        assert await attempt(store, batch(*writes, checks=(check,))) == Conflict(check)
        assert await snapshot(store, everything) == before

    async def test_a_conflict_does_not_disturb_the_others_and_outcomes_are_in_order(self, store: KeyValueStore) -> None:
        refused = Check(key("missing"), PRESENT)
        reply = await store.commit(
            [
                batch(Add(N, 1)),
                batch(Add(N, 10), Put(key("a"), b""), checks=(refused,)),
                batch(Add(N, 100)),
                batch(checks=(Check(key("a"), 1),)),
            ]
        )
        assert reply.outcomes == (
            Committed(counters={N: 1}),
            Conflict(refused),
            Committed(counters={N: 101}),
            Conflict(Check(key("a"), 1)),
        )
        assert await counter(store, N) == 101

    async def test_each_batch_sees_those_before_it(self, store: KeyValueStore) -> None:
        reply = await store.commit(
            [
                batch(Put(key("a"), b"one"), checks=(Check(key("a"), ABSENT),)),
                batch(Put(key("a"), b"two"), checks=(Check(key("a"), 1),)),
                batch(Put(key("a"), b"lost"), checks=(Check(key("a"), 1),)),
                batch(Append(LOG, (b"x", b"y")), checks=(Check(key("a"), 2),)),
                batch(Append(LOG, (b"z",)), Delete(key("a")), checks=(CheckLength(LOG, 2),)),
                batch(Add(N, 4), Enter("i", "e", b"first"), checks=(Check(key("a"), ABSENT),)),
                batch(When(N, 4, (Leave("i", "e"), Enter("i", "f"))), Put(key("a"), b"again")),
            ]
        )
        assert [type(outcome) for outcome in reply.outcomes] == [Committed, Committed, Conflict, *[Committed] * 4]
        assert await cell(store, key("a")) == Cell(1, b"again")
        assert await log(store, LOG) == LogPage(0, (b"x", b"y", b"z"), 3)
        assert await names(store, IndexRange("i")) == ["f"]

    async def test_positions_and_counters_are_those_of_the_moment_of_each_batch(self, store: KeyValueStore) -> None:
        reply = await store.commit([batch(Add(N, 1), Append(LOG, (b"a", b"b"))) for _ in range(3)])
        assert reply.outcomes == tuple(Committed(positions={LOG: 2 * n}, counters={N: n + 1}) for n in range(3))

    async def test_batches_of_a_group_may_belong_to_different_slots(self, store: KeyValueStore) -> None:
        reply = await store.commit(
            [
                batch(Put(key("a"), b"here")),
                batch(Put(key("a"), b"there"), checks=(Check(key("a"), ABSENT),), slot=OTHER_SLOT),
            ]
        )
        assert not any(isinstance(outcome, Conflict) for outcome in reply.outcomes)
        assert (await cell(store, key("a"), slot=OTHER_SLOT)).value == b"there"

    async def test_a_group_of_a_thousand_batches_is_applied_in_order(self, store: KeyValueStore) -> None:
        batches = [
            batch(Put(key("a"), b"%d" % n), Append(LOG, (b"%d" % n,)), Add(N, 1), checks=(Check(key("a"), n),))
            for n in range(1_000)
        ]
        reply = await store.commit(batches)
        assert all(isinstance(outcome, Committed) for outcome in reply.outcomes)
        assert await cell(store, key("a")) == Cell(1_000, b"999")
        assert (await log(store, LOG)).entries == tuple(b"%d" % n for n in range(1_000))

    async def test_a_batch_of_a_thousand_writes_is_one_batch(self, store: KeyValueStore) -> None:
        keys = tuple(Key("run-1", f"cell-{n}") for n in range(1_000))
        await commit(store, *(Put(one, one.name.encode()) for one in keys))
        found = await snapshot(store, Read(slot=SLOT, cells=keys))
        assert [one.value for one in found.cells] == [one.name.encode() for one in keys]
        await commit(store, *(Delete(one) for one in keys[1:]))
        found = await snapshot(store, Read(slot=SLOT, cells=keys))
        assert [one.version for one in found.cells] == [1] + [0] * 999

    async def test_token_and_witness_do_not_change_what_a_batch_does(self, store: KeyValueStore) -> None:
        marked = replace(batch(Put(key("a"), b"..token..")), token=b"token", witness=key("a"))
        assert await attempt(store, marked) == Committed()
        assert await cell(store, key("a")) == Cell(1, b"..token..")


class WhenTests(StoreTests):
    """Branches on a counter's value."""

    async def test_then_is_applied_where_the_counter_equals(self, store: KeyValueStore) -> None:
        await commit(store, Add(N, 2))
        await commit(store, When(N, 2, then=(mark("then"),), otherwise=(mark("otherwise"),)))
        assert await names(store, IndexRange("taken")) == ["then"]

    async def test_otherwise_is_applied_where_it_does_not(self, store: KeyValueStore) -> None:
        await commit(store, When(N, 2, then=(mark("then"),), otherwise=(mark("otherwise"),)))
        assert await names(store, IndexRange("taken")) == ["otherwise"]

    async def test_nothing_is_applied_without_an_otherwise(self, store: KeyValueStore) -> None:
        await commit(store, When(N, 2, then=(mark("then"),)))
        assert await names(store, IndexRange("taken")) == []

    async def test_an_absent_counter_equals_zero(self, store: KeyValueStore) -> None:
        await commit(store, When(N, 0, then=(mark("then"),)))
        assert await names(store, IndexRange("taken")) == ["then"]

    async def test_it_sees_the_adds_of_its_own_batch_wherever_they_stand(self, store: KeyValueStore) -> None:
        await commit(store, Add(N, 3))
        await commit(store, Add(N, -1), When(N, 0, then=(mark("zero"),)), Add(N, -2))
        assert await names(store, IndexRange("taken")) == ["zero"]

    async def test_it_comes_after_all_other_operations(self, store: KeyValueStore) -> None:
        await commit(store, When(N, 0, then=(Put(key("a"), b"when"), Leave("i", "e"))), Put(key("a"), b"plain"))
        assert await cell(store, key("a")) == Cell(2, b"when")
        await commit(store, When(N, 0, then=(Leave("i", "e"),)), Enter("i", "e"))
        assert await names(store, IndexRange("i")) == []

    async def test_whens_are_evaluated_in_order_each_seeing_those_before(self, store: KeyValueStore) -> None:
        await commit(
            store,
            When(N, 0, then=(Add(N, 1), mark("first"))),
            When(N, 0, then=(mark("wrong"),), otherwise=(Add(N, 1), mark("second"))),
            When(N, 2, then=(mark("third"),)),
        )
        assert await names(store, IndexRange("taken")) == ["first", "second", "third"]

    async def test_branches_nest(self, store: KeyValueStore) -> None:
        inner = When(key("m"), 5, then=(mark("5"),), otherwise=(When(key("m"), 6, then=(mark("6"),)),))
        for amount in (5, 1):
            await commit(store, Add(key("m"), amount), When(N, 0, then=(inner,), otherwise=(mark("wrong"),)))
        assert await names(store, IndexRange("taken")) == ["5", "6"]

    async def test_a_nested_when_comes_after_the_other_operations_of_its_branch(self, store: KeyValueStore) -> None:
        nested = When(N, 1, then=(mark("after the add"),), otherwise=(mark("wrong"),))
        await commit(store, When(N, 0, then=(nested, Add(N, 1))))
        assert await names(store, IndexRange("taken")) == ["after the add"]

    async def test_an_applied_branch_does_all_kinds_of_writes(self, store: KeyValueStore) -> None:
        await commit(store, Put(key("old"), b""), Append(LOG, (b"a", b"b")), Enter("i", "old"))
        outcome = await commit(
            store,
            When(
                N,
                0,
                then=(
                    Put(key("new"), b"value"),
                    Delete(key("old")),
                    Append(LOG, (b"c",)),
                    Trim(LOG, 1),
                    Enter("i", "new", b"value"),
                    Leave("i", "old"),
                    Add(key("m"), 3),
                ),
            ),
        )
        assert outcome == Committed(positions={LOG: 2}, counters={N: 0, key("m"): 3})
        found = await snapshot(
            store,
            Read(slot=SLOT, cells=(key("new"), key("old")), logs=(LogRange(LOG),), indexes=(IndexRange("i"),)),
        )
        assert found.cells == (Cell(1, b"value"), Cell(0, b""))
        assert found.logs == (LogPage(1, (b"b", b"c"), 3),)
        assert found.indexes == ((Entry("new", b"value", SLOT),),)

    async def test_counters_tested_are_reported_and_those_of_branches_not_taken_are_not(
        self, store: KeyValueStore
    ) -> None:
        await commit(store, Add(N, 7))
        outcome = await commit(
            store,
            When(
                N,
                7,
                then=(Add(key("in then"), 1), When(key("tested inside"), 1, then=(Add(key("deeper"), 1),))),
                otherwise=(Add(key("in otherwise"), 1), When(key("never tested"), 0, then=())),
            ),
        )
        assert outcome.counters == {N: 7, key("in then"): 1, key("tested inside"): 0}

    async def test_a_counter_is_reported_as_it_is_after_the_whole_batch(self, store: KeyValueStore) -> None:
        outcome = await commit(store, Add(N, 1), When(N, 1, then=(Add(N, 10), When(N, 11, then=(Add(N, 100),)))))
        assert outcome.counters == {N: 111}

    async def test_exactly_one_of_many_batches_brings_a_counter_to_zero(self, store: KeyValueStore) -> None:
        await commit(store, Add(N, 20))
        last = When(N, 0, then=(Append(LOG, (b"fired",)),))
        reply = await store.commit([batch(Add(N, -1), last) for _ in range(20)])
        assert [bool(o.positions) for o in reply.outcomes if isinstance(o, Committed)] == [False] * 19 + [True]
        assert (await log(store, LOG)).entries == (b"fired",)
