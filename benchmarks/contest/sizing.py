"""How many runs a measurement has, from how fast a few of them were."""

from __future__ import annotations

IDLE_SECONDS = 30.0
"""Who takes longer for all runs whose latency is measured gets fewer of them."""

LEAST_IDLE_RUNS = 20
LEAST_RUNS = 10

SLOW_TIMES = 4
"""Who takes so many times as long as planned for twice what shall be in flight is slow."""

LONGEST_SECONDS = 40.0
"""Who would take longer for those that shall be in flight, each of them once, has fewer in flight."""

SHORTENED_TIMES = 5
"""So many times as long as planned is then measured, about."""

WARM_UP_SHARE = 10
"""For each so many runs that are measured, one is run before, outside of the clock."""


def sized_idle(seconds: float, runs: int) -> int:
    """Return of how many runs to measure latency, of at most so many, where one takes so long."""
    return min(runs, max(LEAST_IDLE_RUNS, round(IDLE_SECONDS / seconds)))


def sized(rate: float, seconds: float, in_flight: int) -> int:
    """Return how many runs to measure: what takes so long at this rate, and twice what shall be in flight.

    Who is slow gets as many as shall be in flight, measured from filling to draining; who could not finish even those
    in `LONGEST_SECONDS` gets fewer, and so has fewer in flight.
    """
    wanted = max(round(rate * seconds), 2 * in_flight)
    if wanted <= rate * seconds * SLOW_TIMES:
        return max(LEAST_RUNS, wanted)
    if in_flight <= rate * LONGEST_SECONDS:
        return max(LEAST_RUNS, in_flight)
    return max(LEAST_RUNS, min(in_flight, round(rate * seconds * SHORTENED_TIMES)))


def warm_up_runs(runs: int, in_flight: int) -> int:
    """Return how many runs go before those that are measured, so that pools and lazy connections are there."""
    return min(max(LEAST_RUNS, runs // WARM_UP_SHARE), max(1, in_flight))
