"""One event loop per command, and what a signal does to it: the first ends in good order, the second at once."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import typer

from floxide_amqp.apps.cli.failures import say
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.execution import NODE_TASK
from floxide_amqp.runtime.threads import THREAD_NAME

T = TypeVar("T")

_log = get_logger("floxide_amqp.cli")

SIGNALS = (signal.SIGINT, signal.SIGTERM)

TASK_GRACE_SECONDS = 1.0
"""Time such a task gets to end when the command has: its worker has waited for it already."""

_left_behind: list[asyncio.Runner] = []
"""Event loops with tasks that do not end."""

THREAD_GRACE_SECONDS = 0.5
"""Time a node's thread gets to end when everything else has: a thread cannot be cancelled."""


class Stop:
    """What the first signal does; by default it cancels the command. The second ends the process at once."""

    def __init__(self, cancel: Callable[[], object]) -> None:
        self._action = cancel
        self._received: signal.Signals | None = None

    @property
    def exit_code(self) -> int | None:
        """128 and the signal's number, once there was one."""
        return None if self._received is None else 128 + self._received

    def instead(self, action: Callable[[], object]) -> None:
        """Do this at the first signal from now on."""
        self._action = action

    def receive(self, number: signal.Signals, later: Callable[[Callable[[], object]], object]) -> None:
        """Handle a signal, in the middle of whatever the process is doing.

        Args:
            number: The signal.
            later: Has the event loop do something when it comes to it; the second signal does not wait for that.
        """
        if self._received is not None:
            with suppress(Exception):  # the process was interrupted anywhere, perhaps while it was logging
                _log.warning("process.killed", signal=number.name)
            leave(128 + number)
        self._received = number
        later(self._begin)

    def _begin(self) -> None:
        if self._received is not None:
            _log.info("process.stopping", signal=self._received.name)
        self._action()


def run_to_end(main: Callable[[Stop], Coroutine[Any, Any, T]]) -> T:
    """Run a command's coroutine, on uvloop where it is installed; a first SIGINT or SIGTERM does what `Stop` says.

    Raises:
        typer.Exit: It was ended by a signal: with 130 or 143.
    """
    _collect_seldom()
    runner = asyncio.Runner(loop_factory=_loop_factory())
    try:
        return runner.run(_guarded(main))
    finally:
        left = runner.get_loop().run_until_complete(_end_nodes())
        if left:  # closing the loop would wait for them
            say(f"The body of node {', '.join(left)} does not heed its cancellation and is left behind.")
            _left_behind.append(runner)
        else:
            runner.close()


def _collect_seldom() -> None:
    """Keep the garbage collector from what was imported, and let it run every ten thousand objects.

    A step makes some hundred objects and no cycles: looking for those at the usual pace is a sixth of its cost.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        uvloop: Any = importlib.import_module("uvloop")
    except ModuleNotFoundError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _guarded(main: Callable[[Stop], Coroutine[Any, Any, T]]) -> T:
    loop, own = asyncio.get_running_loop(), asyncio.current_task()
    stop = Stop(loop.stop if own is None else own.cancel)
    for number in SIGNALS:  # not the loop's own handlers: a node that blocks the loop would keep the second one out
        signal.signal(number, lambda received, _: stop.receive(signal.Signals(received), loop.call_soon_threadsafe))
    try:
        return await main(stop)
    except asyncio.CancelledError:
        if stop.exit_code is None:
            raise
        raise typer.Exit(stop.exit_code) from None
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL if number is signal.SIGTERM else signal.default_int_handler)


def leave(code: int) -> None:
    """End the process now, without waiting for threads or tasks."""
    with suppress(Exception):  # whatever keeps it from flushing must not keep it alive
        sys.stdout.flush()
        sys.stderr.flush()
        logging.shutdown()
    os._exit(code)


async def _end_nodes() -> list[str]:
    """Cancel the bodies of nodes that are still at work, and return the nodes of those that do not heed it."""
    bodies = {task for task in asyncio.all_tasks() if task.get_name().startswith(NODE_TASK)}
    for body in bodies:
        body.cancel()
    if not bodies:
        return []
    _, left = await asyncio.wait(bodies, timeout=TASK_GRACE_SECONDS)
    return sorted({body.get_name().removeprefix(NODE_TASK) for body in left})


def leave_if_nodes_hang(code: int) -> None:
    """End the process if a node would keep it: an interpreter waits for its threads, a loop for its tasks."""
    if _left_behind:
        leave(code)
    for thread in threading.enumerate():
        if thread.name.startswith(THREAD_NAME):
            thread.join(THREAD_GRACE_SECONDS)
            if thread.is_alive():
                say("A node's thread is still at work and is left behind.")
                leave(code)
