from __future__ import annotations

import asyncio

from floxide_amqp.drivers.memory.work_queue import MemoryWorkQueue
from floxide_amqp.ports.work_queue import Message


async def test_consumers_take_turns_also_when_messages_come_one_by_one() -> None:
    queue = MemoryWorkQueue()
    async with queue.consume(["q"], prefetch=20) as first, queue.consume(["q"], prefetch=20) as second:
        served = {"first": 0, "second": 0}

        async def take(name: str, consumer: object) -> None:
            while True:
                await consumer.receive()  # type: ignore[attr-defined]
                served[name] += 1

        tasks = [asyncio.create_task(take("first", first)), asyncio.create_task(take("second", second))]
        for _ in range(10):
            await queue.publish([Message(queue="q", body=b"x")])
            for _ in range(5):  # turns of the loop in which the one that was served asks again
                await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert served == {"first": 5, "second": 5}
