"""Places for messages on their way: never too many, in turn, and none is lost."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from floxide_amqp.drivers.amqp.publish_window import PublishWindow


async def test_all_of_a_batch_have_places_or_none_has() -> None:
    window = PublishWindow(3, 100)
    assert window.take(2, 60)
    assert not window.take(2, 1)
    assert not window.take(1, 41)
    assert window.take(1, 40)
    assert not window.take(1, 0)


async def test_one_that_is_longer_than_all_may_be_together_goes_alone() -> None:
    window = PublishWindow(3, 100)
    assert window.take(1, 101)
    assert not window.take(1, 0)
    window.leave(101)
    assert not window.take(2, 101)


async def test_whoever_waited_longest_is_next_and_newcomers_wait_behind() -> None:
    window, order = PublishWindow(2, 100), list[str]()

    async def wait(name: str, size: int) -> None:
        assert await window.wait(size, 0.0)
        order.append(name)

    assert window.take(2, 2)
    waiting = [asyncio.create_task(wait(name, size)) for name, size in (("large", 100), ("small", 1), ("last", 1))]
    await asyncio.sleep(0)
    window.leave(1)
    assert not window.take(1, 1)  # though it would fit: the large one waits for it
    window.leave(1)
    await asyncio.sleep(0)
    assert order == ["large"]
    window.leave(100)
    await asyncio.gather(*waiting)
    assert order == ["large", "small", "last"]


async def test_nobody_is_woken_for_whom_there_is_no_place() -> None:
    window, steps = PublishWindow(1, 100), 0

    class Counted(asyncio.Future[bool]):
        def set_result(self, result: bool) -> None:
            nonlocal steps
            steps += 1
            super().set_result(result)

    asyncio.get_running_loop().create_future = lambda: Counted()  # type: ignore[method-assign]
    assert window.take(1, 1)
    waiting = [asyncio.create_task(window.wait(1, 0.0)) for _ in range(50)]
    await asyncio.sleep(0)
    for number in range(50):
        assert steps == number
        window.leave(1)
    assert await asyncio.gather(*waiting) == [True] * 50


async def test_whose_time_is_over_goes_without_and_holds_up_nobody() -> None:
    window = PublishWindow(1, 100)
    assert window.take(1, 1)
    early, late = (asyncio.create_task(window.wait(1, asked_at)) for asked_at in (1.0, 2.0))
    await asyncio.sleep(0)
    window.give_up(asked_before=2.0)
    assert await early is False
    assert not late.done()
    window.leave(1)
    assert await late is True


async def test_a_place_that_is_given_to_somebody_cancelled_at_that_moment_is_the_next_ones() -> None:
    window = PublishWindow(1, 100)
    assert window.take(1, 1)
    first, second, third = (asyncio.create_task(window.wait(1, 0.0)) for _ in range(3))
    await asyncio.sleep(0)
    window.leave(1)
    first.cancel()  # who has a place, and does not know yet
    await asyncio.wait({first})
    assert await second is True
    third.cancel()
    await asyncio.wait({third})
    window.leave(1)
    assert window.take(1, 1)


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 60))
async def test_there_are_never_too_many_and_everybody_gets_a_place(seed: int, most: int, most_bytes: int) -> None:
    window, chance, held = PublishWindow(most, most_bytes), random.Random(seed), list[int]()

    async def hold(size: int) -> None:
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        if not await window.wait(size, 0.0):
            return
        held.append(size)
        assert len(held) == 1 or (len(held) <= most and sum(held) <= most_bytes)
        try:
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
        finally:
            held.remove(size)
            window.leave(size)

    holders = [asyncio.create_task(hold(chance.randrange(80))) for _ in range(20)]
    for _ in range(4):
        await asyncio.sleep(0)
        chance.choice(holders).cancel()
    results = await asyncio.gather(*holders, return_exceptions=True)
    assert [each for each in results if each and not isinstance(each, asyncio.CancelledError)] == []
    assert held == []
    assert window.take(1, most_bytes + 1)
