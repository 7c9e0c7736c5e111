"""The clock port: the wall clock. Waiting goes through the event loop, whose time a test may make virtual."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the wall-clock time."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC; may jump."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return time.time_ns() // 1_000_000
