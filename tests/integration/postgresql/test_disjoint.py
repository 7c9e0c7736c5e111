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
from floxide_amqp.ports.key_value import (
    ABSENT,
    PRESENT,
    Add,
    Append,
    Batch,
    Check,
    Committed,
    Conflict,
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


def _entry(dice: random.Random, partition: str) -> Write:
    index, entry = dice.choice(INDEXES), f"{partition}:{dice.randrange(4)}"
    return Enter(index, entry, dice.randbytes(3)) if dice.random() < 0.5 else Leave(index, entry)


def _batch(dice: random.Random, partition: str) -> Batch:
    """Return a batch that writes nothing twice, but where it enters what it takes out."""
    writes: list[Write] = [Put(Key(partition, name), dice.randbytes(3)) for name in CELLS if dice.random() < 0.4]
    added = [Key(partition, name) for name in COUNTERS if dice.random() < 0.5]
    writes += [Add(counter, dice.choice([-1, 1])) for counter in added]
    writes += [
        Append(Key(partition, name), tuple(dice.randbytes(2) for _ in range(dice.choice([1, 1, 3]))))
        for name in LOGS
        if dice.random() < 0.5
    ]
    writes += [_entry(dice, partition) for _ in range(dice.randrange(3))]
    for counter in added[: dice.randrange(3)]:
        branches = [(Put(Key(partition, f"when {counter.name}"), dice.randbytes(3)), _entry(dice, partition)), ()]
        dice.shuffle(branches)
        writes.append(When(counter, dice.randrange(-1, 2), *branches))
    dice.shuffle(writes)
    version = dice.choice([ABSENT, PRESENT, 1, 2]) if dice.random() < 0.1 else None
    checks = () if version is None else (Check(Key(partition, dice.choice(CELLS)), version),)
    return Batch(slot=SLOTS[PARTITIONS.index(partition) % 2], checks=checks, writes=tuple(writes))


async def _everything(store: PostgresqlKeyValueStore) -> object:
    """Return all that a store holds."""
    reads = [
        Read(
            slot=SLOTS[number % 2],
            cells=tuple(Key(partition, name) for name in [*CELLS, *(f"when {name}" for name in COUNTERS)]),
            counters=tuple(Key(partition, name) for name in COUNTERS),
            logs=tuple(LogRange(Key(partition, name)) for name in LOGS),
        )
        for number, partition in enumerate(PARTITIONS)
    ]
    listed = [(await store.records(slot)).records for slot in SLOTS]
    entries = [await store.scan(IndexRange(index)) for index in INDEXES]
    return (await store.read(reads)).snapshots, listed, entries


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
    one_way = {True: 0, False: 0}
    async with opened(postgresql_url) as store, opened(f"{postgresql_url}-2") as other:
        for _ in range(80):
            group = [_batch(dice, partition) for partition in dice.sample(PARTITIONS, dice.choice([1, 2, 8]))]
            found = await _commit(store, group)
            with monkeypatch.context() as patch:
                patch.setattr(commits, "DisjointProgram", _refuses)
                assert await _commit(other, group) == found
            is_whole = all(isinstance(outcome, Committed) for outcome in found)
            one_way[is_whole and _is_disjoint(group)] += 1
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
