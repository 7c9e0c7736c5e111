"""Runs that cannot be raised yet, since somebody is at work on their steps: when to look again.

Each of a run's items comes to ask. The run is looked at for one of them at a time, and its items ask ever less often.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from floxide_amqp.core.ids import RunId

MAX_REMEMBERED: Final = 10_000
"""Runs remembered; the oldest are forgotten, and looked at once more."""

LOOKED_AT_SECONDS: Final = 2.0
"""How long what was found of a run goes for all its items."""

LONGEST_SECONDS: Final = 60.0
"""The longest pause before an item asks again. Once its run was raised it is published at once."""


class PutOffUpgrades:
    """Remembers what was found of runs that could not be raised."""

    def __init__(self) -> None:
        self._runs: OrderedDict[RunId, tuple[float, int]] = OrderedDict()

    def is_known(self, run_id: RunId, now: float) -> bool:
        """Whether a run was just now found to be at work.

        Args:
            run_id: The run.
            now: By the event loop's clock, seconds.
        """
        known = self._runs.get(run_id)
        return known is not None and now - known[0] < LOOKED_AT_SECONDS

    def note(self, run_id: RunId, now: float) -> None:
        """Remember that a run was found to be at work once more."""
        _, looks = self._runs.pop(run_id, (now, 0))
        self._runs[run_id] = (now, looks + 1)
        if len(self._runs) > MAX_REMEMBERED:
            self._runs.popitem(last=False)

    def forget(self, run_id: RunId) -> None:
        """Forget a run that was raised, or that cannot be."""
        self._runs.pop(run_id, None)

    def pause_seconds(self, run_id: RunId, first: float) -> float:
        """Return after how long an item of a run asks again: `first`, and longer with each look in vain."""
        _, looks = self._runs.get(run_id, (0.0, 1))
        return min(first * 2.0 ** min(looks - 1, 30), max(first, LONGEST_SECONDS))
