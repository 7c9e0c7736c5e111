"""What a session counts of its conversation with the store; read by whoever wants to, at no cost to anybody else."""

from __future__ import annotations

from collections import Counter

from floxide_amqp.core.distribution import Distribution

ROUND_TRIP_BOUNDS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)
"""Upper bounds of the classes of round trip times."""

GROUP_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Upper bounds of the classes of group sizes; a session's groups are at most as large as the last."""

KINDS = ("commit", "read", "scan")
"""What a session asks of a store."""


class StoreFigures:
    """Counts since the session began, by kind of call.

    Attributes:
        round_trips: Seconds that calls took that the store answered.
        groups: How many batches or reads went together.
        failures: Calls that the store could not take.
    """

    def __init__(self) -> None:
        self.round_trips = {kind: Distribution(ROUND_TRIP_BOUNDS_SECONDS) for kind in KINDS}
        self.groups = {kind: Distribution(GROUP_BOUNDS) for kind in KINDS}
        self.failures: Counter[str] = Counter()

    def answered(self, kind: str, size: int, seconds: float) -> None:
        """Count a call that the store answered."""
        self.round_trips[kind].add(seconds)
        self.groups[kind].add(size)
