from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from floxide_amqp import Limits, Workflow, node
from floxide_amqp.drivers.memory.work_queue import MemoryWorkQueue
from floxide_amqp.ports.work_queue import Consumer, Message
from floxide_amqp.runtime.intake import Intake
from tests.unit.runtime.cluster import Cluster


class CountedQueue(MemoryWorkQueue):
    """Counts its subscriptions, as a broker that pushes messages ahead would be held by them."""

    def __init__(self) -> None:
        super().__init__()
        self.taking = 0
        self.opened = 0
        self.ended = 0

    @asynccontextmanager
    async def consume(  # type: ignore[override]  # a wider context manager than the parent names
        self, queues: Sequence[str], *, prefetch: int
    ) -> AsyncGenerator[Consumer]:
        async with super().consume(queues, prefetch=prefetch) as consumer:
            self.opened += 1
            self.taking += 1
            stop = consumer.stop

            async def stop_once() -> None:
                self.taking -= 1
                await stop()

            consumer.stop = stop_once  # type: ignore[method-assign]
            yield consumer
        self.ended += 1


@pytest.fixture
def queue() -> CountedQueue:
    return CountedQueue()


async def _publish(queue: MemoryWorkQueue, count: int) -> None:
    await queue.publish([Message(queue="default", body=b"%d" % n) for n in range(count)])


async def test_the_intake_unsubscribes_while_long_steps_take_all_slots(queue: CountedQueue) -> None:
    await _publish(queue, 4)
    intake = Intake(queue, ["default"], 2)
    slots = [await intake.take(), await intake.take()]
    await intake.note_long(slots[0])
    assert queue.taking == 0
    await slots[0].delivery.acknowledge()
    await intake.give_back(slots[0])
    third = await intake.take()
    assert (third.delivery.body, queue.taking, queue.opened) == (b"2", 1, 2)
    await intake.close()


async def test_one_long_step_among_many_slots_does_not_stop_the_intake(queue: CountedQueue) -> None:
    await _publish(queue, 4)
    intake = Intake(queue, ["default"], 4)
    slots = [await intake.take() for _ in range(4)]
    await intake.note_long(slots[0])
    assert queue.taking == 1
    await intake.close()


async def test_a_stopped_subscription_ends_when_its_last_delivery_is_worked_off(queue: CountedQueue) -> None:
    await _publish(queue, 2)
    intake = Intake(queue, ["default"], 2)
    slots = [await intake.take(), await intake.take()]
    await intake.note_long(slots[0])
    await intake.note_long(slots[1])
    for slot in slots:
        assert queue.ended == 0
        await slot.delivery.acknowledge()
        await intake.give_back(slot)
    assert queue.ended == 1
    await intake.close()


async def test_closing_the_intake_gives_deliveries_in_hand_back(queue: CountedQueue) -> None:
    await _publish(queue, 1)
    intake = Intake(queue, ["default"], 1)
    await intake.take()
    await intake.close()
    again = Intake(queue, ["default"], 1)
    slot = await again.take()
    assert slot.delivery.redelivered
    await again.close()


async def test_a_cancelled_take_leaves_its_slot_free(queue: CountedQueue) -> None:
    intake = Intake(queue, ["default"], 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(intake.take(), 0.1)
    await _publish(queue, 1)
    assert (await intake.take()).delivery.body == b"0"
    await intake.close()


@node
async def linger(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


class Lingering(Workflow[float, float]):
    start = linger


async def test_a_worker_takes_messages_in_again_when_a_long_step_has_ended(cluster: Callable[..., Cluster]) -> None:
    alone = cluster(Lingering, limits=Limits(concurrency=1))
    await alone.start_worker()
    client = alone.client()
    await client.start(Lingering, 20.0)
    waiting = [await client.start(Lingering, 1.0, run_id=f"short-{n}") for n in range(3)]
    assert [await run.result(60) for run in waiting] == [1.0, 1.0, 1.0]
    for n in range(3):
        await alone.check_completed(f"short-{n}")
