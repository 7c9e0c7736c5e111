"""An event loop in a thread of its own, in which something is held open for threads that know nothing of asyncio.

It is opened by the first call, in the process that makes it: a process that forks hands nothing on to its children but
the intention. What a child inherits of its parent's memory is left alone there, connections above all.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

from floxide_amqp.exceptions import ConfigurationError

OpenT = TypeVar("OpenT")
T = TypeVar("T")

CLOSE_SECONDS = 10.0
"""Longest wait at the end of the process for what is open to be closed; then it is left to its end."""


class _Thread(Generic[OpenT]):
    """One life of the loop: from its opening to its end."""

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[OpenT]], name: str) -> None:
        self._opening = opening
        self._stop: asyncio.Event | None = None
        self._opened: Future[tuple[asyncio.AbstractEventLoop, OpenT]] = Future()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Return when it is open.

        Raises:
            Exception: What opening raised; the thread has ended.
        """
        self._thread.start()
        self._opened.result()

    @property
    def is_alive(self) -> bool:
        """Whether it takes calls."""
        return self._thread.is_alive()

    def call(self, act: Callable[[OpenT], Awaitable[T]]) -> T:
        """Return what an awaitable comes to in the loop; it is cancelled there if the caller is interrupted.

        Raises:
            ConfigurationError: The caller is in that loop, and would wait for itself.
            Exception: Whatever it raises.
        """
        if threading.current_thread() is self._thread:
            raise ConfigurationError(
                "A client for threads was called in its own event loop, which would wait for itself. "
                "Async code, such as an async node, awaits an orchestrator: `async with app.orchestrator()`."
            )
        loop, opened = self._opened.result()
        future = asyncio.run_coroutine_threadsafe(_awaited(act, opened), loop)
        try:
            return future.result()
        except CancelledError as error:
            if self._failure is not None:
                raise self._failure from error
            raise
        except BaseException:
            future.cancel()
            raise

    def close(self, timeout: float | None) -> None:
        """End it and wait for its end, at most so long."""
        if not self._thread.is_alive() or not self._opened.done() or self._opened.exception() is not None:
            return
        loop, _ = self._opened.result()
        if self._stop is not None:
            loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - whoever calls gets it
            self._failure = error
            if not self._opened.done():
                self._opened.set_exception(error)

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        async with self._opening() as opened:
            self._opened.set_result((asyncio.get_running_loop(), opened))
            await self._stop.wait()


class _Life(Generic[OpenT]):
    """What there is in one process.

    Attributes:
        lock: Held while it is opened.
        thread: What is open.
        failures: How often opening failed.
        failure: How it did so last.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread: _Thread[OpenT] | None = None
        self.failures = 0
        self.failure: Exception | None = None


class BackgroundLoop(Generic[OpenT]):
    """Holds something open in an event loop of its own, and calls it from any thread.

    Args:
        opening: Opens it; called in the loop, again after it was closed or has failed, and anew in each forked process.
        name: The thread's name.
    """

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[OpenT]], *, name: str) -> None:
        self._opening = opening
        self._name = name
        self._lives: dict[int, _Life[OpenT]] = {}  # by process: a fork may copy a lock that is held
        _at_exit(weakref.WeakMethod(self._end))

    def call(self, act: Callable[[OpenT], Awaitable[T]]) -> T:
        """Return what an awaitable of what is open comes to, which is opened first if it is not.

        Raises:
            ConfigurationError: The caller is in that loop, and would wait for itself.
            Exception: Whatever opening or the awaitable raises.
        """
        return self._open().call(act)

    def close(self, timeout: float | None = None) -> None:
        """Close what is open in this process, and wait for it; the next call opens it again. Twice is fine.

        Args:
            timeout: Longest wait, seconds; None for as long as it takes.
        """
        life = self._life()
        with life.lock:
            thread, life.thread = life.thread, None
        if thread is not None:
            thread.close(timeout)

    def _open(self) -> _Thread[OpenT]:
        life = self._life()
        thread = life.thread
        if thread is not None and thread.is_alive:
            return thread
        failures = life.failures
        with life.lock:
            if life.thread is None or not life.thread.is_alive:
                if life.failure is not None and life.failures > failures:
                    raise life.failure  # of the attempt that this call has waited for: each its own would add up
                life.thread = self._opened(life)
            return life.thread

    def _opened(self, life: _Life[OpenT]) -> _Thread[OpenT]:
        opened = _Thread(self._opening, self._name)
        try:
            opened.start()
        except Exception as error:
            life.failure, life.failures = error, life.failures + 1
            raise
        life.failure = None
        return opened

    def _life(self) -> _Life[OpenT]:
        return self._lives.setdefault(os.getpid(), _Life())

    def _end(self) -> None:
        self.close(CLOSE_SECONDS)


async def _awaited(act: Callable[[OpenT], Awaitable[T]], opened: OpenT) -> T:
    return await act(opened)


def _at_exit(end: weakref.WeakMethod[Any]) -> None:
    """Have something called when the process ends, while threads can still be started, if it is there then."""

    def call() -> None:
        method = end()
        if method is not None:
            method()

    before_threads = getattr(threading, "_register_atexit", None)  # at `atexit` the executors of asyncio are gone
    (before_threads or atexit.register)(call)
