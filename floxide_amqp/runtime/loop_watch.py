"""Notices from a thread of its own that the worker's event loop stands still, and which node does it.

The loop ticks; the watch looks. After a short limit it logs which step blocks the loop, with the stack of the loop's
thread. After a hard one the worker does not vouch for what it holds any more, and ends its process at once if it has
it for itself, so that others go on with its items. What nobody can help from inside is a thread that never lets go of
the interpreter: then the heartbeat stands still as well, which others notice.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress

from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.inflight import InFlight
from floxide_amqp.runtime.settings import EXIT_STUCK

_log = get_logger("floxide_amqp.loop_watch")

SHOWN_FRAMES = 40
"""Innermost frames of the loop's thread that are logged."""

LOGGING_SECONDS = 2.0
"""Longest wait for a log line: the thread that hangs may hold the lock of a log handler."""


class LoopPulse:
    """An event loop's ticks: made by the loop, looked at by another thread.

    Args:
        interval_seconds: Between two ticks.

    Attributes:
        ticks: How many there were.
        late_seconds: How late the last one was.
    """

    def __init__(self, interval_seconds: float) -> None:
        self.interval = interval_seconds
        self.ticks = 0
        self.late_seconds = 0.0
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread_id = 0
        self._at = (0.0, 0.0)  # by the loop's clock, by the machine's; replaced as a whole

    async def run(self, on_tick: Callable[[], object]) -> None:
        """Tick until cancelled."""
        self.loop, self.thread_id = asyncio.get_running_loop(), threading.get_ident()
        while True:
            self._at = (self.loop.time(), time.monotonic())
            self.ticks += 1
            on_tick()
            await asyncio.sleep(self.interval)
            self.late_seconds = max(0.0, self.loop.time() - self._at[0] - self.interval)

    def loop_time(self) -> float:
        """Return what the loop's clock shows, from any thread: a loop that stands still need not know."""
        loop_time, machine_time = self._at
        return loop_time + (time.monotonic() - machine_time) if self.ticks else 0.0

    def task(self) -> asyncio.Task[object] | None:
        """Return the task that the loop is in, from any thread."""
        try:
            return None if self.loop is None else asyncio.current_task(self.loop)
        except RuntimeError:
            return None

    def stack(self) -> str:
        """Return the innermost frames of the loop's thread as text."""
        frame = sys._current_frames().get(self.thread_id)  # pyright: ignore[reportPrivateUsage]  # documented for this use
        return "" if frame is None else "".join(traceback.format_stack(frame, SHOWN_FRAMES))


class LoopWatch:
    """Looks at a loop's ticks from a thread.

    Args:
        pulse: The ticks.
        worker_id: Whose loop it is.
        inflight: Knows which step a task belongs to.
        blocked_seconds: Silence after which it is logged.
        hung_seconds: Silence after which the loop counts as hung; None for never.
        owns_process: Whether the process is ended then.
        end_process: Ends it at once.

    Attributes:
        pulse: The ticks.
        silent_seconds: How long the loop has not ticked, as far as this watch has been looking.
        is_hung: Whether the silence is longer than `hung_seconds`.
    """

    def __init__(
        self,
        pulse: LoopPulse,
        worker_id: str,
        inflight: InFlight,
        *,
        blocked_seconds: float,
        hung_seconds: float | None,
        owns_process: bool,
        end_process: Callable[[int], object] = os._exit,
    ) -> None:
        self.silent_seconds = 0.0
        self.is_hung = False
        self.pulse = pulse
        self._worker_id = worker_id
        self._inflight = inflight
        self._blocked = blocked_seconds
        self._hung = hung_seconds or None
        self._owns_process = owns_process
        self._end_process = end_process
        self._seen = -1
        self._is_reported = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start looking."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name=f"loop-watch-{self._worker_id}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._stop.set()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stop.wait(self.pulse.interval):
            now = time.monotonic()
            self.look(now - before)
            before = now

    def look(self, elapsed_seconds: float) -> None:
        """Look once.

        Args:
            elapsed_seconds: Since the last look. A process that was stopped in between has not looked: what it missed
                counts as one look only, or a loop about to go on would be taken for one that hangs.
        """
        if not self.pulse.ticks or self.pulse.ticks != self._seen:
            self._seen = self.pulse.ticks
            self._moves_again()
            return
        self.silent_seconds += min(elapsed_seconds, 2 * self.pulse.interval)
        if self.silent_seconds >= self._blocked and not self._is_reported:
            self._is_reported = True
            _say(self._report)
        if self._hung is not None and self.silent_seconds >= self._hung and not self.is_hung:
            self.is_hung = True
            _say(self._report_hung)
            if self._owns_process:
                self._end_process(EXIT_STUCK)

    def _moves_again(self) -> None:
        if self._is_reported:
            _log.warning("loop.moves_again", worker_id=self._worker_id, seconds=round(self.silent_seconds, 1))
        self.silent_seconds, self.is_hung, self._is_reported = 0.0, False, False

    def _report(self) -> None:
        run_id, item_id, node = self._blocker()
        _log.warning(
            "loop.blocked", worker_id=self._worker_id, seconds=round(self.silent_seconds, 1), run_id=run_id,
            item_id=item_id, node=node, stack=self.pulse.stack(),
        )  # fmt: skip

    def _report_hung(self) -> None:
        run_id, item_id, node = self._blocker()
        _log.error(
            "loop.hung", worker_id=self._worker_id, seconds=round(self.silent_seconds, 1), run_id=run_id,
            item_id=item_id, node=node, ends_process=self._owns_process,
        )  # fmt: skip

    def _blocker(self) -> tuple[str, str, str]:
        """Return run, item and node of the step in whose task the loop is; empty where that cannot be told."""
        step = None
        with suppress(RuntimeError):  # the loop went on this very moment, and with it what is in flight
            step = self._inflight.step_of(self.pulse.task())
        return ("", "", "") if step is None else (step.run_id, step.item_id, step.node)


def _say(words: Callable[[], None]) -> None:
    """Log something, without being held up by it."""
    thread = threading.Thread(target=words, name="loop-watch-log", daemon=True)
    thread.start()
    thread.join(LOGGING_SECONDS)
