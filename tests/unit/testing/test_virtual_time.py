from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from floxide_amqp.drivers.running_clock import RunningClock
from floxide_amqp.ports.clock import SystemClock
from floxide_amqp.testing import virtual_time
from floxide_amqp.testing.virtual_time import START_MS, DeadlockError, VirtualClock


async def test_an_hour_passes_in_no_time() -> None:
    loop, began = asyncio.get_running_loop(), time.perf_counter()
    await asyncio.sleep(3_600)
    assert loop.time() == pytest.approx(3_600)
    assert time.perf_counter() - began < 600


async def test_timers_fire_in_the_order_of_their_times() -> None:
    heard: list[int] = []
    await asyncio.gather(*(_note(delay, heard) for delay in (30, 10, 20)))
    assert heard == [10, 20, 30]


async def _note(delay: int, heard: list[int]) -> None:
    await asyncio.sleep(delay)
    heard.append(delay)


async def test_a_timeout_ends_what_would_last_longer() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await asyncio.sleep(6)
    assert asyncio.get_running_loop().time() == pytest.approx(5)


async def test_time_stands_still_while_a_thread_works() -> None:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as executor:
        timer = asyncio.create_task(asyncio.sleep(10))
        assert await loop.run_in_executor(executor, _slowly, 7) == 7
        assert loop.time() == 0
        assert not timer.done()
        timer.cancel()


def _slowly(value: int) -> int:
    time.sleep(0.01)
    return value


async def test_the_error_of_a_thread_reaches_its_caller_and_time_goes_on() -> None:
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(lambda: 1 // 0)
    await asyncio.sleep(1)


async def test_the_clock_moves_with_the_loop() -> None:
    clock, ahead = VirtualClock(), VirtualClock(skew_ms=250)
    assert clock.now_ms() == START_MS
    await asyncio.sleep(1.5)
    assert (clock.now_ms(), ahead.now_ms()) == (START_MS + 1_500, START_MS + 1_750)


def test_a_deadlock_is_an_error_that_names_the_task_and_its_place() -> None:
    async def waits_for_nobody() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.create_task(waits_for_nobody(), name="lonely")

    with pytest.raises(DeadlockError, match=r"task lonely waits at .*test_virtual_time\.py"):
        virtual_time.run(main())


def test_run_returns_the_result() -> None:
    async def main() -> int:
        await asyncio.sleep(1e6)
        return 5

    assert virtual_time.run(main()) == 5


async def test_time_does_not_go_back() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, virtual_time.VirtualTimeLoop)
    with pytest.raises(ValueError, match="does not go back"):
        loop.advance(-1)


async def test_a_virtual_clock_that_jumps_tells_all_the_same_how_much_time_passed() -> None:
    clock = VirtualClock()
    began, shown = clock.elapsed_ms(), clock.now_ms()
    clock.skew_ms = -3_600_000
    await asyncio.sleep(5)
    assert (clock.elapsed_ms() - began, clock.now_ms() - shown) == (5_000, 5_000 - 3_600_000)
    assert RunningClock().elapsed_ms() == clock.elapsed_ms()


@pytest.mark.parametrize("since_boot", [getattr(time, "CLOCK_BOOTTIME", None), None])
def test_the_machines_clock_tells_how_much_time_passed(since_boot: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("floxide_amqp.ports.clock._SINCE_BOOT", since_boot)
    before = time.monotonic_ns() // 1_000_000
    shown = SystemClock().elapsed_ms()
    assert shown >= before  # what was suspended comes on top
    assert SystemClock().elapsed_ms() >= shown
