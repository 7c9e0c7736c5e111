"""An event loop whose time jumps: when nothing is ready it moves on to the next timer instead of waiting for it.

A test of hours of backoff, holds and timeouts takes milliseconds, and always the same ones. Time stands still
while code runs and while a thread started through the loop works. When nothing is ready, no timer is set and no
thread works, nothing can ever happen again: the loop raises `DeadlockError`, which names every task and what it waits
for, instead of hanging. It raises the same when more time has passed than a test can mean.

The wall clock of what runs on the loop moves with it: stores, and with them holds, retries and deadlines.

Use it with `run`, with ``asyncio.Runner(loop_factory=VirtualTimeLoop)``, or for every async test of a folder by
importing pytest-asyncio's hook into its ``conftest.py``::

    from floxide_amqp.testing.virtual_time import pytest_asyncio_loop_factories

Not for sockets and child processes: what happens outside this process does not know of the loop's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from typing_extensions import TypeVarTuple, Unpack

from floxide_amqp.ports.clock import Clock

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START_MS = 1_700_000_000_000
"""What a `VirtualClock` shows when its loop starts: 14 November 2023, 22:13:20 UTC."""

LONGEST = timedelta(days=2 * 366)
"""How much time passes at most on a loop before it says that its tasks wait for nothing: two years."""

THREAD_POLL_SECONDS = 0.05
"""Longest real wait for a working thread before the loop looks again."""


CLEAN_UP_SECONDS = 24 * 3600.0
"""Time that passes at most between one error about the loop's time and the next, for tasks that are cancelled."""

NOTHING_LEFT = "nothing is ready, no timer is set and no thread works."


class DeadlockError(RuntimeError):
    """Every task waits for something that nothing is left to do."""


class _Selector(selectors.BaseSelector):
    """Asks the real selector without waiting, and moves the loop's time where waiting would be all there is to do."""

    def __init__(self, real: selectors.BaseSelector) -> None:
        self._real = real
        self.loop: VirtualTimeLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = self._real.select(0)
        if found or self.loop is None or (timeout is not None and timeout <= 0):
            return found
        if self.loop.threads_at_work:
            return self._real.select(THREAD_POLL_SECONDS)
        if timeout is None:
            raise DeadlockError(describe_deadlock(self.loop))
        self.loop.check_time_left(timeout)
        self.loop.advance(timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop with virtual time; `time` starts at 0.

    Args:
        longest: How much time passes at most, `timedelta` or seconds.

    Attributes:
        wall_clock: What stores and sessions on this loop go by. It may be asked from any thread.
    """

    def __init__(self, longest: timedelta | float = LONGEST) -> None:
        selector = _Selector(selectors.DefaultSelector())
        self._virtual_now = 0.0
        self._longest = longest if isinstance(longest, timedelta) else timedelta(seconds=longest)
        self._time_is_up_at = self._longest.total_seconds()
        self.wall_clock: Clock = _LoopClock(self)
        self._threads_at_work = 0
        super().__init__(selector)
        selector.loop = self

    @property
    def threads_at_work(self) -> int:
        """How many calls given to threads through this loop have not returned; time stands still while there are."""
        return self._threads_at_work

    def time(self) -> float:
        """Return the virtual time, in seconds since the loop was made."""
        return self._virtual_now

    def advance(self, seconds: float) -> None:
        """Move the time on; timers that become due run in the next round of the loop.

        Args:
            seconds: 0 or more.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds} s")
        self._virtual_now += seconds

    def check_time_left(self, seconds: float) -> None:
        """Make sure that so much time may pass.

        Raises:
            DeadlockError: It may not. Clean-up gets another day.
        """
        if self._virtual_now + seconds > self._time_is_up_at:
            self._time_is_up_at = self._virtual_now + seconds + CLEAN_UP_SECONDS
            raise DeadlockError(describe_deadlock(self, f"more than {self._longest} would have passed."))

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run a call in a thread, as every loop; the time stands still until it returns."""
        call = _ThreadCall(self)
        future = super().run_in_executor(executor, lambda: call.run(func, *args))
        call.watch(future)
        return future

    async def shutdown_default_executor(self) -> None:
        """Wait for the threads, as every loop."""
        self._threads_at_work += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._threads_at_work -= 1

    def count_threads(self, amount: int) -> None:
        """Note that threads have begun or ended; called in the loop's own thread."""
        self._threads_at_work += amount


class _ThreadCall:
    """One call in a thread: counted from when it is given away until its future is done and it has returned."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._has_started = False
        self._is_counted = True
        loop.count_threads(1)

    def run(self, func: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        self._has_started = True
        try:
            return func(*args)
        finally:
            self._loop.call_soon_threadsafe(self._returned)

    def watch(self, future: asyncio.Future[T]) -> None:
        self._future: asyncio.Future[Any] = future
        future.add_done_callback(self._cancelled_before_it_began)

    def _cancelled_before_it_began(self, future: asyncio.Future[Any]) -> None:
        if future.cancelled() and not self._has_started:
            self._end()

    def _returned(self) -> None:
        if self._future.done():
            self._end()
        else:  # its result is on its way
            self._future.add_done_callback(lambda _: self._end())

    def _end(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._loop.count_threads(-1)


def describe_deadlock(loop: asyncio.AbstractEventLoop, why: str = NOTHING_LEFT) -> str:
    """Return what every unfinished task of a loop waits for, as text."""
    lines = [f"At virtual time {loop.time():.3f} s: {why}"]
    for task in sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name()):
        frames = task.get_stack()
        place = f"{frames[-1].f_code.co_filename}:{frames[-1].f_lineno}" if frames else "(not started)"
        lines.append(f"  task {task.get_name()} waits at {place}")
    return "\n".join(lines)


class _LoopClock:
    """A wall clock that moves with one loop."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop

    def now_ms(self) -> int:
        return START_MS + round(self._loop.time() * 1000)

    def elapsed_ms(self) -> int:
        return round(self._loop.time() * 1000)


class VirtualClock:
    """A wall clock that moves with the virtual time of the running loop; for stores and sessions with a skew.

    Args:
        skew_ms: Milliseconds it is ahead of the loop's; may be changed at any time, and then the clock jumps.
    """

    def __init__(self, skew_ms: int = 0) -> None:
        self.skew_ms = skew_ms
        self._elapsed_ms = 0

    def now_ms(self) -> int:
        """Milliseconds since 1970; outside a loop what it showed last."""
        return START_MS + self.elapsed_ms() + self.skew_ms

    def elapsed_ms(self) -> int:
        """Milliseconds since the loop was made, whatever the skew; outside a loop what it showed last."""
        with contextlib.suppress(RuntimeError):
            self._elapsed_ms = round(asyncio.get_running_loop().time() * 1000)
        return self._elapsed_ms


def run(main: Coroutine[Any, Any, T], *, longest: timedelta | float = LONGEST) -> T:
    """Run a coroutine on a new loop with virtual time and return what it returns.

    Args:
        main: The coroutine.
        longest: How much virtual time may pass, `timedelta` or seconds.

    Raises:
        DeadlockError: It waits for something that nothing is left to do, or for longer than `longest`.
    """
    with asyncio.Runner(loop_factory=partial(VirtualTimeLoop, longest)) as runner:
        return runner.run(main)


def pytest_asyncio_loop_factories(config: object, item: object) -> dict[str, type[VirtualTimeLoop]]:
    """Make pytest-asyncio run every async test below a ``conftest.py`` that imports this hook on virtual time."""
    del config, item
    return {"virtual-time": VirtualTimeLoop}
