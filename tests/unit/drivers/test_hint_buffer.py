from __future__ import annotations

import asyncio

from floxide_amqp.drivers.hint_buffer import GAP, HintBuffer


async def taken(buffer: HintBuffer, count: int) -> list[bytes]:
    return [await anext(buffer) for _ in range(count)]


async def test_hints_come_out_in_order() -> None:
    buffer = HintBuffer()
    buffer.put(b"1")
    buffer.put(b"2")
    assert await taken(buffer, 2) == [b"1", b"2"]


async def test_a_reader_that_falls_behind_loses_the_oldest_and_is_told() -> None:
    buffer = HintBuffer(capacity=3)
    for number in range(5):
        buffer.put(b"%d" % number)
    assert await taken(buffer, 3) == [GAP, b"3", b"4"]


async def test_gaps_in_a_row_are_one() -> None:
    buffer = HintBuffer()
    buffer.mark_gap()
    buffer.mark_gap()
    buffer.put(b"1")
    assert await taken(buffer, 2) == [GAP, b"1"]


async def test_closing_ends_the_iteration_of_a_waiting_reader() -> None:
    buffer = HintBuffer()

    async def read() -> list[bytes]:
        return [hint async for hint in buffer]

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    buffer.close()
    buffer.put(b"too late")
    assert await reading == []
