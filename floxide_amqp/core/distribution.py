"""How values are distributed: counts by class and their sum, nothing of each."""

from __future__ import annotations

from bisect import bisect_left


class Distribution:
    """How many values fell into which class, and their sum.

    Args:
        bounds: Upper bounds of the classes, ascending; a class includes its bound, and one more holds the rest.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
