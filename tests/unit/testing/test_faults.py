from __future__ import annotations

import asyncio
import random

import pytest

from floxide_amqp.core.ids import Slot
from floxide_amqp.drivers.memory.key_value import MemoryKeyValueStore
from floxide_amqp.drivers.memory.work_queue import MemoryWorkQueue
from floxide_amqp.exceptions import CommitOutcomeUnknownError, StoreUnavailableError
from floxide_amqp.ports.key_value import Batch, Check, Conflict, Key, Put, Read
from floxide_amqp.ports.work_queue import Message, PublishOutcome
from floxide_amqp.testing.faults import FaultyKeyValueStore, StoreFaults
from floxide_amqp.testing.queue_faults import FaultyWorkQueue, QueueFaults
from floxide_amqp.testing.virtual_time import VirtualClock

CELL = Key("p", "cell")
PUT = Batch(slot=Slot(0), checks=(Check(CELL, 0),), writes=(Put(CELL, b"x"),))
SEEN = Read(slot=Slot(0), cells=(CELL,))
MESSAGE = Message(queue="q", body=b"body")


def store_with(faults: StoreFaults | None = None) -> FaultyKeyValueStore:
    return FaultyKeyValueStore(MemoryKeyValueStore(VirtualClock()), random.Random(1), faults)


async def version(store: FaultyKeyValueStore) -> int:
    return (await store.read([SEEN])).snapshots[0].cells[0].version


async def test_a_lost_reply_leaves_the_commit_applied() -> None:
    store = store_with()
    store.lose_next_replies()
    with pytest.raises(CommitOutcomeUnknownError):
        await store.commit([PUT])
    assert await version(store) == 1


async def test_a_refused_call_does_nothing_and_a_cut_lasts_until_healed() -> None:
    store = store_with()
    store.refuse_next()
    with pytest.raises(StoreUnavailableError):
        await store.commit([PUT])
    store.cut()
    with pytest.raises(StoreUnavailableError):
        await store.read([SEEN])
    store.heal()
    assert await version(store) == 0


async def test_a_touched_cell_makes_the_batch_conflict_and_keeps_its_value() -> None:
    store = store_with()
    await store.commit([PUT])
    store.faults = StoreFaults(touched=1.0, may_touch=lambda key: key == CELL)
    again = Batch(slot=Slot(0), checks=(Check(CELL, 1),), writes=(Put(CELL, b"y"),))
    reply = await store.commit([again])
    assert reply.outcomes == (Conflict(Check(CELL, 1)),)
    assert (await store.read([SEEN])).snapshots[0].cells[0].value == b"x"


@pytest.mark.parametrize(
    ("faults", "outcome", "arrive"),
    [
        (QueueFaults(), PublishOutcome.CONFIRMED, 1),
        (QueueFaults(dropped=1.0), PublishOutcome.CONFIRMED, 0),
        (QueueFaults(duplicated=1.0), PublishOutcome.CONFIRMED, 2),
        (QueueFaults(unconfirmed=1.0), PublishOutcome.UNKNOWN, 1),
        (QueueFaults(returned=1.0), PublishOutcome.RETURNED, 0),
        (QueueFaults(delayed=1.0), PublishOutcome.CONFIRMED, 1),
    ],
)
async def test_a_message_suffers_what_it_is_told_to(faults: QueueFaults, outcome: PublishOutcome, arrive: int) -> None:
    queue = FaultyWorkQueue(MemoryWorkQueue(), random.Random(1), faults)
    assert await queue.publish([MESSAGE]) == [outcome]
    await queue.settled()
    assert await queue.depth("q") == arrive


async def test_a_cut_gives_back_what_was_in_hand_and_nothing_can_be_settled_any_more() -> None:
    inner = MemoryWorkQueue()
    queue = FaultyWorkQueue(inner, random.Random(1))
    async with queue.consume(["q"], prefetch=1) as consumer:
        await queue.publish([MESSAGE])
        delivery = await consumer.receive()
        await queue.cut()
        await delivery.acknowledge()
        assert await inner.depth("q") == 1
        assert await queue.publish([MESSAGE]) == [PublishOutcome.UNKNOWN]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(consumer.receive(), 10)


async def test_a_cancelled_receive_loses_no_delivery() -> None:
    queue = FaultyWorkQueue(MemoryWorkQueue(), random.Random(1))
    async with queue.consume(["q"], prefetch=1) as consumer:
        receiving = asyncio.create_task(consumer.receive())
        await asyncio.sleep(0)
        await queue.publish([MESSAGE])
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        assert (await asyncio.wait_for(consumer.receive(), 1)).body == b"body"
