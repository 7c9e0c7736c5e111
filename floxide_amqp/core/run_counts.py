"""The counters of a run."""

from __future__ import annotations

from floxide_amqp.core.fast_dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCounts:
    """Counters of a run.

    Attributes:
        live: Items that are not final and not held without a wake.
        waiting: Live items that wait for a retry, a timer or a worker.
        held: Items held without a wake condition.
        outputs: Outputs that have arrived.
        completed, failed, retried: Items completed, attempts failed, retries made.
        busy_us: Time spent in node bodies, microseconds.
        to_undo: Steps that are to be undone if the run fails or is cancelled, and are not yet.
        undone, undo_failed: Steps that were undone, and those that could not be.
        hooks: 1 if a node is to run first when the run is cancelled, and has not yet.
    """

    live: int = 0
    waiting: int = 0
    held: int = 0
    outputs: int = 0
    completed: int = 0
    failed: int = 0
    retried: int = 0
    busy_us: int = 0
    to_undo: int = 0
    undone: int = 0
    undo_failed: int = 0
    hooks: int = 0


COUNT_NAMES = tuple(RunCounts.__dataclass_fields__)
"""The counters of a run, by name."""
