"""An event loop for many simulated processes: virtual time, an order drawn from a seed, processes that stop for good.

Every callback belongs to the *lane* of the context it was scheduled from, so a process is all that runs in its lanes,
however many tasks that is. A lane may be killed, and then nothing of it ever runs again: no ``except``, no
``finally``, as after a SIGKILL. A lane may be frozen, as by a SIGSTOP: what becomes ready meanwhile runs when it is
thawed.

Callbacks that are ready at the same time run in an order drawn from the seed, or first come, first served.

Invariants: nothing depends on the wall clock, on threads, on the order of sets or on addresses; time never goes back.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

from typing_extensions import TypeVarTuple, Unpack

from floxide_amqp.testing.virtual_time import DeadlockError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

RESOLUTION_SECONDS = 1e-9
"""Timers closer to the present than this are due."""

MAX_CALLBACKS = 3_000_000
"""Callbacks after which a simulation counts as spinning; some ten thousand are usual."""


class LivelockError(RuntimeError):
    """Something is always ready, and nothing comes of it."""


class Lane:
    """What runs and stops together: a process, or a thread of it.

    Attributes:
        callbacks: How many callbacks have run; a place in the life of the lane, for killing it there.
        dies_at: The number of the callback in whose place the lane dies; 0 for never.
        on_death: Called once when the lane dies, whoever kills it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.callbacks = 0
        self.dies_at = 0
        self.on_death: Callable[[], None] | None = None
        self.tasks: list[asyncio.Task[Any]] = []
        self.is_running = True
        self.is_dead = False
        self._put_off: list[_Call] = []
        self._sweep_at = 64

    def kill(self) -> None:
        """Let nothing of it run from now on."""
        if not self.is_dead:
            self.is_dead, self.is_running = True, False
            if self.on_death is not None:
                self.on_death()

    def freeze(self) -> None:
        """Let nothing of it run until it is thawed."""
        self.is_running = False

    def thaw(self, loop: SeededLoop) -> None:
        """Let it go on, with what became ready meanwhile."""
        if not self.is_dead:
            self.is_running = True
            ready, self._put_off = self._put_off, []
            loop.run_soon(ready)

    def put_off(self, call: _Call) -> None:
        """Keep a callback that became ready while the lane does not run; that of a dead one runs only at the end."""
        self._put_off.append(call)

    def raise_from_the_dead(self, loop: SeededLoop) -> None:
        """Let it run for a last time, so that its tasks can be cancelled."""
        self.is_running, self.dies_at = True, 0
        ready, self._put_off = self._put_off, []
        loop.run_soon(ready)

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Note a task, and forget those that are done now and then."""
        self.tasks.append(task)
        if len(self.tasks) >= self._sweep_at:
            self.tasks = [each for each in self.tasks if not each.done()]
            self._sweep_at = 2 * len(self.tasks) + 64

    def unfinished(self) -> list[asyncio.Task[Any]]:
        """Return its tasks that are not done, in the order they were made."""
        return [task for task in self.tasks if not task.done()]


CURRENT: ContextVar[Lane | None] = ContextVar("floxide-simulation-lane", default=None)
"""The lane of the running callback; None for the simulation itself, which never stops."""


def context_of(lane: Lane | None) -> Context:
    """Return a context whose callbacks and tasks belong to a lane."""
    context = copy_context()
    context.run(CURRENT.set, lane)
    return context


class _Call(asyncio.TimerHandle):
    """A callback to come."""

    __slots__ = ("arguments", "context", "function", "is_cancelled", "lane", "moment")

    def __init__(
        self, function: Callable[..., object], arguments: tuple[Any, ...], context: Context, moment: float
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.context = context
        self.lane = context.get(CURRENT)
        self.moment = moment
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self.moment

    def __repr__(self) -> str:
        return f"<call of {self.function!r}>"


class SeededLoop(asyncio.BaseEventLoop):
    """An event loop whose time is virtual and whose order is drawn from `chance`.

    Args:
        chance: Draws the order of what is ready at the same time; None for first come, first served.

    Attributes:
        errors: What callbacks raised that nobody awaited.
        callbacks: How many callbacks have run.
    """

    def __init__(self, chance: random.Random | None = None) -> None:
        self._is_turning = False
        self._must_stop = False
        super().__init__()
        self._chance = chance
        self._virtual_now = 0.0
        self._soon: list[_Call] = []
        self._later: list[tuple[float, int, _Call]] = []
        self._numbers = 0
        self._generators: list[AsyncGenerator[Any, Any]] = []
        self.errors: list[str] = []
        self.callbacks = 0

    # --- time and what is to come

    def time(self) -> float:
        """Return the virtual time, in seconds since the loop was made."""
        return self._virtual_now

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Run a callback in the next turn of the loop."""
        call = _Call(callback, args, context or copy_context(), self._virtual_now)
        self._soon.append(call)
        return call

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Run a callback in the next turn; there are no threads."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback after so many seconds."""
        return self.call_at(self._virtual_now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback at a virtual time."""
        call = _Call(callback, args, context or copy_context(), when)
        self._numbers += 1
        heapq.heappush(self._later, (when, self._numbers, call))
        return call

    def run_soon(self, calls: list[_Call]) -> None:
        """Run callbacks that were put off in the next turn."""
        self._soon += calls

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run a call in a later turn of this very thread: simulated processes have no others."""
        future: asyncio.Future[T] = self.create_future()

        def run() -> None:
            if future.done():
                return
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets it
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_soon(run)
        return future

    def create_task(
        self, coro: Any, *, name: object = None, context: Context | None = None, **options: Any
    ) -> asyncio.Task[Any]:
        """Make a task in the lane of its context."""
        context = context or copy_context()
        task: asyncio.Task[Any] = asyncio.Task(
            coro, loop=self, name=None if name is None else str(name), context=context, **options
        )
        lane = context.get(CURRENT)
        if lane is not None:
            lane.keep(task)
        return task

    # --- turning

    def run_forever(self) -> None:
        """Turn until `stop`.

        Raises:
            DeadlockError: Nothing can ever happen again.
            LivelockError: Something always happens, and nothing comes of it.
        """
        self._check_usable()
        hooks = sys.get_asyncgen_hooks()
        # kept alive: collected at some odd time, they would run on then
        sys.set_asyncgen_hooks(firstiter=self._generators.append, finalizer=None)
        asyncio._set_running_loop(self)  # pyright: ignore[reportPrivateUsage]  # what event loops are to call
        self._is_turning, self._must_stop = True, False
        try:
            while not self._must_stop:
                self._turn()
        finally:
            self._is_turning = False
            asyncio._set_running_loop(None)  # pyright: ignore[reportPrivateUsage]  # what event loops are to call
            sys.set_asyncgen_hooks(*hooks)

    def stop(self) -> None:
        """Turn no more once this turn is over."""
        self._must_stop = True

    def is_running(self) -> bool:
        """Whether the loop turns."""
        return self._is_turning

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Note what went wrong where nobody awaits it."""
        error = context.get("exception")
        self.errors.append(f"{context.get('message')}: {type(error).__name__}: {error}")

    def close(self) -> None:
        """Let go of everything."""
        self._soon.clear()
        self._later.clear()
        self._generators.clear()
        super().close()

    def _check_usable(self) -> None:
        if self.is_closed() or self._is_turning:
            raise RuntimeError("This event loop is closed, or runs already.")

    def _turn(self) -> None:
        later = self._later
        while later and later[0][2].is_cancelled:
            heapq.heappop(later)
        if not self._soon:
            if not later:
                raise DeadlockError(f"Nothing is left to happen at virtual time {self._virtual_now:.3f} s.")
            self._virtual_now = max(self._virtual_now, later[0][0])
        due = self._virtual_now + RESOLUTION_SECONDS
        while later and later[0][0] <= due:
            call = heapq.heappop(later)[2]
            if not call.is_cancelled:
                self._soon.append(call)
        calls, self._soon = self._soon, []
        if self._chance is not None and len(calls) > 1:
            self._chance.shuffle(calls)
        self.callbacks += len(calls)
        if self.callbacks > MAX_CALLBACKS:
            self._soon = calls  # none is lost: what waits for them must be able to end
            raise LivelockError(f"{self.callbacks} callbacks have run at virtual time {self._virtual_now:.3f} s.")
        for call in calls:
            if not call.is_cancelled:
                self._run_one(call)

    def _run_one(self, call: _Call) -> None:
        lane = call.lane
        if lane is not None:
            if not lane.is_running:
                lane.put_off(call)
                return
            lane.callbacks += 1
            if lane.callbacks == lane.dies_at:
                lane.put_off(call)
                lane.kill()
                return
        try:
            call.context.run(call.function, *call.arguments)
        except Exception as error:  # noqa: BLE001 - the supervisor of callbacks, as in every loop
            self.call_exception_handler({"message": f"in {call!r}", "exception": error})


async def never() -> None:
    """Wait for ever: where a process goes on after it has died."""
    await asyncio.get_running_loop().create_future()


def run_to_end(loop: SeededLoop, main: Coroutine[Any, Any, T], lanes: Callable[[], list[Lane]]) -> T:
    """Run a coroutine on the loop, then end what is left of the lanes, and close the loop.

    Tasks of dead lanes are cancelled at last, when nothing they do can be seen any more: left to the garbage
    collector, they would run on in the middle of another simulation.
    """
    try:
        return loop.run_until_complete(main)
    finally:
        _end_all(loop, lanes())
        loop.close()


def _end_all(loop: SeededLoop, lanes: list[Lane]) -> None:
    loop.callbacks = 0  # a loop that was stopped because it spun must turn once more
    for _ in range(20):
        for lane in lanes:  # each time: who is cancelled may kill another
            lane.raise_from_the_dead(loop)
        left = [task for lane in lanes for task in lane.unfinished()]
        left += asyncio.all_tasks(loop).difference(left)  # of a simulation that broke, its own as well
        if not left:
            return
        for task in left:
            task.cancel()
        loop.run_until_complete(_wait(left))
    for lane in lanes:  # they swallow every cancellation: left alone, in silence
        for task in lane.unfinished():
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # as asyncio's own do


async def _wait(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks, timeout=60)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()
