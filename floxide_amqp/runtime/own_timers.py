"""Which timers this process has in memory, so that its own maintenance does not fire them at the same time."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from floxide_amqp.core.timers import Timer


class OwnTimers:
    """The timers of one process: those that wait in its memory, and those that it is firing right now.

    That two fire a timer does no harm, but twice the work, and of thousands that are due at once that is much.
    """

    def __init__(self) -> None:
        self._waiting: set[Timer] = set()
        self._firing: set[Timer] = set()

    def add(self, timer: Timer) -> None:
        """Note a timer that waits in memory."""
        self._waiting.add(timer)

    def drop(self, timer: Timer) -> None:
        """Forget a timer that waits in memory no more."""
        self._waiting.discard(timer)

    def is_waiting(self, timer: Timer) -> bool:
        """Whether a timer that was in memory is nobody else's yet."""
        return timer in self._waiting

    @contextmanager
    def firing(self, timer: Timer) -> Generator[bool]:
        """Take a timer, wherever it was found; yield whether it may be fired: not while somebody here does that."""
        self._waiting.discard(timer)
        if timer in self._firing:
            yield False
            return
        self._firing.add(timer)
        try:
            yield True
        finally:
            self._firing.discard(timer)
