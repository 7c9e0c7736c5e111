"""Natural batching, splitting, lost replies and patience."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.exceptions import (
    CommitOutcomeUnknownError,
    InvalidBatchError,
    StoreFullError,
    StoreUnavailableError,
)
from floxide_amqp.ports.key_value import Add, Batch, Check, CommitReply, Committed, Conflict, Key, Put, Read
from floxide_amqp.stores.session import MAX_GROUP, Session
from floxide_amqp.testing.faults import FaultyKeyValueStore
from floxide_amqp.testing.virtual_time import VirtualClock

SLOT = Slot(0)
CELL, COUNTER = Key("p", "cell"), Key("p", "n")


class SlowStore(FaultyKeyValueStore):
    """Takes a second per round trip and remembers how many batches each brought."""

    def __init__(self) -> None:
        super().__init__(MemoryKeyValueStore(VirtualClock()), random.Random(0))
        self.groups: list[int] = []

    async def commit(self, batches: Sequence[Batch]) -> CommitReply:
        self.groups.append(len(batches))
        await asyncio.sleep(1)
        return await super().commit(batches)


def session_of(store: FaultyKeyValueStore, patience: float = 60.0) -> Session:
    return Session(store, VirtualClock(), patience_seconds=patience)


def put(session: Session, number: int, *, version: int | None = None, add: int = 1) -> Batch:
    token = session.new_token()
    checks = () if version is None else (Check(CELL, version),)
    return Batch(
        slot=SLOT, checks=checks, writes=(Put(CELL, b"%d " % number + token), Add(COUNTER, add)), token=token,
        witness=CELL,
    )  # fmt: skip


async def counted(session: Session) -> int:
    return (await session.read(Read(slot=SLOT, counters=(COUNTER,)))).counters[0]


async def test_what_arrives_during_a_round_trip_goes_together_in_the_next() -> None:
    store = SlowStore()
    session = session_of(store)
    await asyncio.gather(*(session.commit(put(session, n)) for n in range(50)))
    assert store.groups in ([50], [1, 49])
    assert await counted(session) == 50


async def test_a_group_has_a_limit() -> None:
    store = SlowStore()
    session = session_of(store)
    await asyncio.gather(*(session.commit(put(session, n)) for n in range(MAX_GROUP + 10)))
    assert max(store.groups) <= MAX_GROUP
    assert await counted(session) == MAX_GROUP + 10


async def test_a_caller_that_is_cancelled_takes_nothing_out_of_the_group() -> None:
    store = SlowStore()
    session = session_of(store)
    first, second = (asyncio.create_task(session.commit(put(session, n))) for n in range(2))
    await asyncio.sleep(0.5)
    first.cancel()
    assert isinstance(await second, Committed)
    assert await counted(session) == 2


@pytest.mark.fault(32)
async def test_a_faulty_batch_fails_alone() -> None:
    store = SlowStore()
    session = session_of(store)
    await session.commit(put(session, 0))
    faulty = put(session, 1, add=1 << 63)
    outcomes = await asyncio.gather(
        session.commit(put(session, 2)), session.commit(faulty), session.commit(put(session, 3)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [Committed, InvalidBatchError, Committed]
    assert await counted(session) == 3


async def test_a_conflict_is_not_an_error_of_the_group() -> None:
    store = SlowStore()
    session = session_of(store)
    outcomes = await asyncio.gather(*(session.commit(put(session, n, version=0)) for n in range(3)))
    assert [type(outcome) for outcome in outcomes] == [Committed, Conflict, Conflict]


@pytest.mark.fault(27)
@pytest.mark.parametrize("applied", [0, 1, 2, 3])
async def test_after_a_lost_reply_each_batch_is_settled_by_its_own_witness(applied: int) -> None:
    inner = MemoryKeyValueStore(VirtualClock())
    store = FaultyKeyValueStore(inner, random.Random(0))
    session = session_of(store)
    cells = [Key("p", f"cell{n}") for n in range(3)]
    tokens = [session.new_token() for _ in cells]
    batches = [
        Batch(
            slot=SLOT, checks=(Check(cell, 0),), writes=(Put(cell, token), Add(COUNTER, 1)), token=token, witness=cell
        )
        for cell, token in zip(cells, tokens, strict=True)
    ]

    async def half(given: Sequence[Batch]) -> None:
        store.before_commit = _nothing
        await inner.commit(given[:applied])

    store.before_commit = half
    store.lose_next_replies()
    outcomes = await asyncio.gather(*(session.commit(batch) for batch in batches))
    assert [type(outcome) for outcome in outcomes] == [Committed] * 3
    assert await counted(session) == 3


async def _nothing(batches: Sequence[Batch]) -> None:
    return


async def test_a_lost_reply_of_a_batch_overwritten_since_is_a_conflict_and_not_a_second_commit() -> None:
    inner = MemoryKeyValueStore(VirtualClock())
    store = FaultyKeyValueStore(inner, random.Random(0))
    session = session_of(store)

    async def overwritten(batches: Sequence[Batch]) -> None:
        store.before_commit = _nothing
        await inner.commit(batches)
        await inner.commit([Batch(slot=SLOT, writes=(Put(CELL, b"somebody else"),))])
        store.lose_next_replies()

    store.before_commit = overwritten
    assert isinstance(await session.commit(put(session, 1, version=0)), Conflict)
    assert await counted(session) == 1


@pytest.mark.fault(27)
async def test_a_commit_that_may_have_been_applied_is_not_reported_as_refused() -> None:
    store = FaultyKeyValueStore(MemoryKeyValueStore(VirtualClock()), random.Random(0))
    session = session_of(store, patience=10.0)

    async def cut(batches: Sequence[Batch]) -> None:
        store.cut()  # once applied, so that the reply is lost and nobody can tell

    store.after_commit = cut
    began = asyncio.get_running_loop().time()
    outcomes = await asyncio.gather(
        *(session.commit(put(session, n, version=0)) for n in range(30)), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {CommitOutcomeUnknownError}
    assert asyncio.get_running_loop().time() - began <= 20  # all together, not one after the other
    store.heal()
    assert await counted(session) == 1


async def test_a_commit_whose_replies_are_all_lost_is_not_repeated_for_ever() -> None:
    class Lossy(FaultyKeyValueStore):
        tries = 0

        async def commit(self, batches: Sequence[Batch]) -> CommitReply:
            self.tries += 1
            raise CommitOutcomeUnknownError(store="lossy", reason="injected")

    store = Lossy(MemoryKeyValueStore(VirtualClock()), random.Random(0))
    session = session_of(store, patience=10.0)
    async with asyncio.timeout(30):
        with pytest.raises(CommitOutcomeUnknownError):
            await session.commit(put(session, 1))
    assert store.tries < 30
    assert await counted(session) == 0


async def test_an_unreachable_store_is_waited_for() -> None:
    store = FaultyKeyValueStore(MemoryKeyValueStore(VirtualClock()), random.Random(0))
    session = session_of(store)
    store.refuse_next(5)
    assert isinstance(await session.commit(put(session, 1)), Committed)
    assert await counted(session) == 1


class _FullStore(FaultyKeyValueStore):
    """A store without space for the next commits."""

    is_full_for = 5

    async def commit(self, batches: Sequence[Batch]) -> CommitReply:
        if self.is_full_for:
            self.is_full_for -= 1
            raise StoreFullError(store="full", reason="injected")
        return await super().commit(batches)


@pytest.mark.fault(30)
async def test_a_full_store_is_waited_for_so_that_no_body_runs_again() -> None:
    store = _FullStore(MemoryKeyValueStore(VirtualClock()), random.Random(0))
    session = session_of(store, patience=60.0)
    outcomes = await asyncio.gather(session.commit(put(session, 1)), session.commit(put(session, 2)))
    assert all(isinstance(outcome, Committed) for outcome in outcomes)
    store.is_full_for = 1_000
    with pytest.raises(StoreFullError):
        await session.commit(put(session, 1))
    assert await counted(session) == 2


async def test_what_was_applied_of_a_split_group_is_not_reported_as_refused() -> None:
    store = SlowStore()
    session = session_of(store, patience=5.0)
    await session.commit(put(session, 0))

    async def fail_after_the_first(batches: Sequence[Batch]) -> None:
        if len(store.groups) == 4:  # the first of the group is applied by then
            store.cut()

    store.before_commit = fail_after_the_first
    outcomes = await asyncio.gather(
        session.commit(put(session, 2)),
        session.commit(put(session, 1, add=1 << 63)),
        session.commit(put(session, 3)),
        return_exceptions=True,
    )
    store.heal()
    assert await counted(session) == 1 + sum(isinstance(outcome, Committed) for outcome in outcomes)
    assert isinstance(outcomes[-1], StoreUnavailableError)


async def test_patience_has_an_end_and_the_next_call_starts_anew() -> None:
    store = FaultyKeyValueStore(MemoryKeyValueStore(VirtualClock()), random.Random(0))
    session = session_of(store, patience=10.0)
    store.cut()
    began = asyncio.get_running_loop().time()
    with pytest.raises(StoreUnavailableError):
        await session.commit(put(session, 1))
    assert 5 < asyncio.get_running_loop().time() - began <= 10
    store.heal()
    assert isinstance(await session.commit(put(session, 1)), Committed)


async def test_the_time_is_the_stores_and_not_this_process() -> None:
    store = FaultyKeyValueStore(MemoryKeyValueStore(VirtualClock(skew_ms=90_000)), random.Random(0))
    session, clock = session_of(store), VirtualClock()
    assert session.now_ms() == clock.now_ms()
    await counted(session)
    assert session.now_ms() == clock.now_ms() + 90_000


async def test_a_jump_of_the_machines_clock_moves_nothing_once_the_store_has_told_its_time() -> None:
    clock = VirtualClock(skew_ms=7_000)
    session = Session(MemoryKeyValueStore(VirtualClock()), clock)
    assert session.now_ms() == clock.now_ms()  # there is nothing else to go by yet
    await counted(session)
    told = session.now_ms()
    clock.skew_ms = -3_600_000
    assert session.now_ms() == told == VirtualClock().now_ms()
    await asyncio.sleep(12)
    assert session.now_ms() == told + 12_000


async def test_drain_waits_for_what_is_in_flight() -> None:
    store = SlowStore()
    session = session_of(store)
    task = asyncio.create_task(session.commit(put(session, 1)))
    await asyncio.sleep(0)
    await session.drain()
    await asyncio.sleep(0)
    assert task.done()
    await task
