"""When to say again what has been said: a broker that cannot be used is tried for ever, and the log is for people."""

from __future__ import annotations

from typing import Final

REMIND_SECONDS: Final = 300.0
"""After this long the same problem is told again, so that the end of a log file says what is wrong."""


class Complaints:
    """Tells a new problem from one that was told already.

    Attributes:
        attempts: Failures in a row, whatever their problem.
    """

    def __init__(self) -> None:
        self.attempts = 0
        self._problem = ""
        self._told_at = 0.0

    def are_due(self, problem: str, now: float) -> bool:
        """Note a failure, and return whether to tell it.

        Args:
            problem: What went wrong; another text is another problem.
            now: The present, monotonic, seconds.
        """
        is_new = self.attempts == 0 or problem != self._problem
        self.attempts += 1
        if not is_new and now - self._told_at < REMIND_SECONDS:
            return False
        self._problem, self._told_at = problem, now
        return True

    def settle(self) -> None:
        """Note that it works again: the next failure is a new one."""
        self.attempts = 0
