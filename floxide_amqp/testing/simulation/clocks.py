"""Wall clocks of simulated machines: they follow the loop's time, each with a skew of its own, and may jump."""

from __future__ import annotations

from collections.abc import Callable

from floxide_amqp.testing.virtual_time import START_MS


class MachineClock:
    """The wall clock of one machine.

    Args:
        time: Tells the virtual time, in seconds.
        skew_ms: Milliseconds it is ahead; may be changed at any time, and then the clock jumps.
    """

    def __init__(self, time: Callable[[], float], skew_ms: int = 0) -> None:
        self._time = time
        self.skew_ms = skew_ms

    def now_ms(self) -> int:
        """Milliseconds since 1970, as this machine believes."""
        return START_MS + self.elapsed_ms() + self.skew_ms

    def elapsed_ms(self) -> int:
        """Milliseconds since the simulation began, however the clock jumps."""
        return int(self._time() * 1000)
