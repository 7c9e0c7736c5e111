"""The clock that everything goes by unless it is given one: the machine's, or that of an event loop that has its own.

An event loop whose time does not pass as on the wall (a test's virtual time) has an attribute ``wall_clock`` with a
`Clock`. What runs on such a loop then waits for holds, retries and deadlines in the loop's time.
"""

from __future__ import annotations

import asyncio
from typing import cast

from floxide_amqp.ports.clock import Clock, SystemClock

_MACHINE = SystemClock()


class RunningClock:
    """The clock of the event loop that is running, where it has one of its own; else the machine's."""

    def __init__(self) -> None:
        self._known: tuple[asyncio.AbstractEventLoop, Clock] | None = None

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC; may jump."""
        return self._clock().now_ms()

    def elapsed_ms(self) -> int:
        """Milliseconds since some moment of the same clock; never jumps."""
        return self._clock().elapsed_ms()

    def _clock(self) -> Clock:
        """Look at the loop once: each step asks for the time."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return _MACHINE
        if self._known is None or self._known[0] is not loop:
            self._known = loop, clock_of_the_loop() or _MACHINE
        return self._known[1]


def clock_of_the_loop() -> Clock | None:
    """Return the clock that the running event loop has of its own, if it has one."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return cast("Clock | None", getattr(loop, "wall_clock", None))
