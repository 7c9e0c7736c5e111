"""The clock port: the wall clock, which may jump, and how much time passes, which never does.

Waiting goes through the event loop, whose time a test may make virtual.
"""

from __future__ import annotations

import time
from typing import Final, Protocol


class Clock(Protocol):
    """Tells the wall-clock time, and how much time has passed."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC; may jump."""
        ...

    def elapsed_ms(self) -> int:
        """Milliseconds since some moment, always the same one; never jumps, and counts a suspension where it can."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return time.time_ns() // 1_000_000

    def elapsed_ms(self) -> int:
        """Milliseconds since the machine was started, on Linux those included in which it was suspended."""
        if _SINCE_BOOT is None:
            return time.monotonic_ns() // 1_000_000
        return time.clock_gettime_ns(_SINCE_BOOT) // 1_000_000


_SINCE_BOOT: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)
"""Source: clock_gettime(2): ``CLOCK_MONOTONIC`` does not count the time that the system is suspended."""
