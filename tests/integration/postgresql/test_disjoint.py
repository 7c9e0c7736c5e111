"""Groups that are committed without an interpreter: their outcomes and records are those of the general way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import NoReturn

import pytest

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.postgresql import PostgresqlKeyValueStore, commits
from floxide_amqp.drivers.postgresql.disjoint import DisjointProgram, NotDisjointError
from floxide_amqp.exceptions import InvalidBatchError
from floxide_amqp.ports.key_value import (
    ABSENT,
    PRESENT,
    Add,
    Append,
    Batch,
    Check,
    Committed,
    Conflict,
    Delete,
    Enter,
    IndexRange,
    Key,
    Leave,
    LogRange,
    Outcome,
    Put,
    Read,
    When,
    Write,
)
from tests.integration.postgresql.support import opened

PARTITIONS = [f"run-{number}" for number in range(12)]
SLOTS = [Slot(-1), Slot(3)]
CELLS, COUNTERS, LOGS, INDEXES = ["a", "b", "c"], ["n", "m"], ["log", "other"], ["i", "é"]
DELETED = ["c", "other"]
"""A cell and a log, of names that other batches write too."""

ADDED_ON_BRANCHES = "live"
"""A counter that no batch tests."""


def _entry(dice: random.Random, partition: str) -> Write:
    index, entry = dice.choice(INDEXES), f"{partition}:{dice.randrange(4)}"
    return Enter(index, entry, dice.randbytes(3)) if dice.random() < 0.5 else Leave(index, entry)


def _branches(dice: random.Random, partition: str, counter: Key) -> tuple[tuple[Write, ...], tuple[Write, ...]]:
    """Return the two ways of a `When`; one of them may be what several batches share, as the item of a join."""
    then: list[Write] = [Put(Key(partition, f"when {counter.name}"), dice.randbytes(3)), _entry(dice, partition)]
    if dice.random() < 0.5:
        then.append(Add(Key(partition, ADDED_ON_BRANCHES), dice.choice([-1, 1])))
    ways: list[tuple[Write, ...]] = [tuple(then), ()]
    if dice.random() < 0.2:
        ways.reverse()
    return ways[0], ways[1]


def _batch(dice: random.Random, partition: str, cells: Sequence[str] = CELLS) -> Batch:
    """Return a batch that writes nothing twice, but where it enters what it takes out."""
    writes: list[Write] = [Put(Key(partition, name), dice.randbytes(3)) for name in cells if dice.random() < 0.4]
    writes += [Delete(Key(partition, name)) for name in DELETED if dice.random() < 0.1]
    added = [Key(partition, name) for name in COUNTERS if dice.random() < 0.5]
    writes += [Add(counter, dice.choice([-1, 1])) for counter in added]
    if dice.random() < 0.5:
        writes.append(Add(Key(partition, ADDED_ON_BRANCHES), dice.choice([-1, 0, 1])))
    writes += [
        Append(Key(partition, name), tuple(dice.randbytes(2) for _ in range(dice.choice([1, 1, 3, 40]))))
        for name in LOGS
        if dice.random() < 0.5
    ]
    if dice.random() < 0.7:
        writes.append(_entry(dice, partition))
    for counter in added[: dice.randrange(3)]:
        writes.append(When(counter, dice.randrange(-1, 2), *_branches(dice, partition, counter)))
    dice.shuffle(writes)
    version = dice.choice([ABSENT, PRESENT, 1, 2]) if dice.random() < 0.1 else None
    checks = () if version is None else (Check(Key(partition, dice.choice(CELLS)), version),)
    return Batch(slot=SLOTS[PARTITIONS.index(partition) % 2], checks=checks, writes=tuple(writes))


def _step(dice: random.Random, partition: str, number: int) -> Batch:
    """Return a batch like that of an element of a fan-out: its own cell, and the join's where it is the last."""
    item, live, own = Key(partition, f"item {number}"), Key(partition, ADDED_ON_BRANCHES), Key(partition, "n")
    join = (Put(Key(partition, "when n"), b"join"), Enter("i", f"{partition}:join", b"join"), Add(live, 1))
    when = When(own, 0, join, (Leave("i", f"{partition}:{number}"),))
    checks = (Check(item, PRESENT),) if dice.random() < 0.05 else ()
    writes = (Put(item, b"done"), Append(Key(partition, "log"), (b"%d" % number,)), Add(own, -1), Add(live, -1), when)
    return Batch(slot=SLOTS[PARTITIONS.index(partition) % 2], checks=checks, writes=writes)


def _group(dice: random.Random) -> list[Batch]:
    """Return a group of which several batches are of one partition, more often than not."""
    if dice.random() < 0.3:
        partition, steps = dice.choice(PARTITIONS), dice.choice([1, 3, 30])
        opened = Batch(
            slot=SLOTS[PARTITIONS.index(partition) % 2],
            writes=(Add(Key(partition, "n"), dice.choice([0, 1, steps, steps])), Add(Key(partition, "live"), steps)),
        )
        return [opened, *(_step(dice, partition, number) for number in range(steps))]
    partitions = dice.choices(PARTITIONS[: dice.choice([2, 12])], k=dice.choice([1, 2, 8]))
    apart = dice.random() < 0.7
    return [_batch(dice, each, CELLS[at % 3 : at % 3 + 1] if apart else CELLS) for at, each in enumerate(partitions)]


async def _everything(store: PostgresqlKeyValueStore) -> object:
    """Return all that a store holds."""
    reads = [
        Read(
            slot=SLOTS[number % 2],
            cells=tuple(Key(partition, name) for name in [*CELLS, *(f"when {name}" for name in COUNTERS)]),
            counters=tuple(Key(partition, name) for name in [*COUNTERS, ADDED_ON_BRANCHES]),
            logs=tuple(LogRange(Key(partition, name)) for name in LOGS),
        )
        for number, partition in enumerate(PARTITIONS)
    ]
    listed = [(await store.records(slot)).records for slot in SLOTS]
    entries = [await store.scan(IndexRange(index)) for index in INDEXES]
    return (await store.read(reads)).snapshots, listed, entries


def _partitions(batch: Batch) -> set[str]:
    """Return where a batch is at home, as far as its cells, counters and logs tell."""
    keys = [
        write.key if isinstance(write, Put) else write.counter for write in batch.writes if isinstance(write, Put | Add)
    ]
    return {key.partition for key in keys}


def _is_disjoint(group: Sequence[Batch]) -> bool:
    try:
        DisjointProgram(group, space=b"")
    except NotDisjointError:
        return False
    return True


def _refuses(*_: object, **__: object) -> NoReturn:
    raise NotDisjointError


async def _commit(store: PostgresqlKeyValueStore, group: Sequence[Batch]) -> tuple[Outcome, ...]:
    return (await store.commit(group)).outcomes


async def test_both_ways_of_a_commit_come_to_the_same(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(20)
    one_way = {(is_disjoint, is_shared): 0 for is_disjoint in (True, False) for is_shared in (True, False)}
    async with opened(postgresql_url) as store, opened(f"{postgresql_url}-2") as other:
        for _ in range(300):
            group = _group(dice)
            found = await _commit(store, group)
            with monkeypatch.context() as patch:
                patch.setattr(commits, "DisjointProgram", _refuses)
                assert await _commit(other, group) == found
            is_whole = all(isinstance(outcome, Committed) for outcome in found)
            is_shared = len({check_key for batch in group for check_key in _partitions(batch)}) < len(group)
            one_way[is_whole and _is_disjoint(group), is_shared] += 1
        assert await _everything(store) == await _everything(other)
    assert min(one_way.values()) > 20


async def test_a_group_of_which_one_check_fails_is_committed_but_for_that_batch(postgresql_url: str) -> None:
    taken = Key("run-0", "a")
    async with opened(postgresql_url, pool_size=1) as store:
        await store.commit([Batch(slot=Slot(3), writes=(Put(taken, b"before"),))])
        late = Batch(slot=Slot(3), checks=(Check(taken, ABSENT),), writes=(Put(taken, b"after"), Enter("i", "late")))
        good = Batch(slot=Slot(3), checks=(Check(Key("run-1", "a"), ABSENT),), writes=(Put(Key("run-1", "a"), b"new"),))
        assert await _commit(store, [late, good]) == (Conflict(Check(taken, ABSENT)), Committed())
        reply = await store.read([Read(slot=Slot(3), cells=(taken, Key("run-1", "a")))])
        assert reply.snapshots[0].cells == ((1, b"before"), (1, b"new"))
        assert await store.scan(IndexRange("i")) == ()


async def test_counters_at_the_ends_of_64_bits_are_counted_batch_by_batch(postgresql_url: str) -> None:
    """Whatever the sum is of what a group adds: it may be within 64 bits where a batch leaves them, and the reverse."""
    slot, counter, most = Slot(3), Key("run-0", "n"), 2**63 - 1

    def adds(*amounts: int) -> list[Batch]:
        return [Batch(slot=slot, writes=(Add(counter, amount), When(counter, most, ()))) for amount in amounts]

    async with opened(postgresql_url) as store:
        found = await _commit(store, adds(-most, most, most, -most))
        assert found == tuple(Committed(counters={counter: value}) for value in (-most, 0, most, 0))
        with pytest.raises(InvalidBatchError):
            await _commit(store, adds(5, most, -most))
        assert (await store.read([Read(slot=slot, counters=(counter,))])).snapshots[0].counters == (0,)


async def test_commits_of_both_ways_at_once_lose_nothing(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As while workers of the release before, which know the general way alone, go on beside new ones."""
    dice = random.Random(7)
    done: dict[str, list[tuple[bytes, int, int]]] = {partition: [] for partition in PARTITIONS[:4]}

    def either(group: Sequence[Batch], *, space: bytes) -> DisjointProgram:
        return _refuses() if dice.random() < 0.5 else DisjointProgram(group, space=space)

    def batch(partition: str, name: bytes) -> Batch:
        counter, hit = Key(partition, "n"), Enter("hit", name.decode())
        put, append = Put(Key(partition, "a"), name), Append(Key(partition, "log"), (name,))
        return Batch(slot=Slot(3), writes=(put, Add(counter, 1), append, When(counter, 3, (hit,))))

    async def work(store: PostgresqlKeyValueStore, worker: int) -> None:
        for number in range(10):
            group = {partition: f"{worker}-{number}-{partition}".encode() for partition in dice.sample([*done], 2)}
            outcomes = await _commit(store, [batch(*each) for each in group.items()])
            for (partition, name), outcome in zip(group.items(), outcomes, strict=True):
                assert isinstance(outcome, Committed)
                counted, position = outcome.counters[Key(partition, "n")], outcome.positions[Key(partition, "log")]
                done[partition].append((name, counted, position))

    monkeypatch.setattr(commits, "DisjointProgram", either)
    async with opened(postgresql_url, pool_size=4) as store:
        await asyncio.gather(*(work(store, worker) for worker in range(4)))
        hits = await store.scan(IndexRange("hit"))
        for partition, committed in done.items():
            committed.sort(key=lambda each: each[1])
            cells, logs = (Key(partition, "a"),), (LogRange(Key(partition, "log")),)
            (found,) = (await store.read([Read(slot=Slot(3), cells=cells, logs=logs)])).snapshots
            assert [each[1:] for each in committed] == [(n + 1, n) for n in range(len(committed))]
            assert found.logs[0].entries == tuple(name for name, *_ in committed)
            assert found.cells[0] == (len(committed), committed[-1][0])
        assert sorted(hit.entry for hit in hits) == sorted(each[2][0].decode() for each in done.values())


@pytest.mark.parametrize("partition", PARTITIONS[:6])
async def test_of_all_elements_of_a_fan_out_one_puts_its_join(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch, partition: str
) -> None:
    """Workers of this release and of one before it end elements of one scope at the same time, many in a group."""
    dice, slot = random.Random(partition), Slot(3)
    own, live, log = Key(partition, "n"), Key(partition, "live"), Key(partition, "log")

    def either(group: Sequence[Batch], *, space: bytes) -> DisjointProgram:
        return _refuses() if dice.random() < 0.3 else DisjointProgram(group, space=space)

    def element(number: int) -> Batch:
        join = (Put(Key(partition, "join"), b"%d" % number), Add(live, 1))
        writes = (Put(Key(partition, f"item {number}"), b""), Add(own, -1), Add(live, -1))
        return Batch(slot=slot, writes=(*writes, Append(log, (b"%d" % number,)), When(own, 0, join)))

    async def work(store: PostgresqlKeyValueStore, numbers: Sequence[int]) -> None:
        for at in range(0, len(numbers), 5):
            group = numbers[at : at + 5]
            for number, outcome in zip(group, await _commit(store, [element(each) for each in group]), strict=True):
                assert isinstance(outcome, Committed)
                seen[number] = (outcome.counters[own], outcome.positions[log])

    seen: dict[int, tuple[int, int]] = {}
    async with opened(postgresql_url, pool_size=4) as store:
        await store.commit([Batch(slot=slot, writes=(Add(own, 80), Add(live, 80)))])
        monkeypatch.setattr(commits, "DisjointProgram", either)
        await asyncio.gather(*(work(store, range(first, 80, 4)) for first in range(4)))
        read = Read(slot=slot, cells=(Key(partition, "join"),), counters=(own, live))
        (found,) = (await store.read([read])).snapshots
    (last,) = [number for number, (left, _) in seen.items() if left == 0]
    assert found.cells[0] == (1, b"%d" % last)
    assert found.counters == (0, 1)
    assert sorted(seen.values()) == [(left, 79 - left) for left in range(80)]
