"""When something was sent, so that what one process sends stays in its order, however fast."""

from __future__ import annotations


class Stamps:
    """Gives each moment a number that no moment before it had."""

    def __init__(self) -> None:
        self._last = (0, 0)

    def next(self, now_ms: int) -> tuple[int, int]:
        """Return milliseconds and a number within them, later than all returned before."""
        last_ms, number = self._last
        self._last = (now_ms, 0) if now_ms > last_ms else (last_ms, number + 1)
        return self._last
