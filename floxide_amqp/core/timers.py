"""Durable wakes: what a timer is, and what it does when it is due."""

from __future__ import annotations

from enum import Enum

from floxide_amqp.core.fast_dataclasses import dataclass
from floxide_amqp.core.ids import RunId, WorkItemId


class TimerKind(Enum):
    """What a due timer does."""

    RETRY = "retry"
    HOLD = "hold"
    REPUBLISH = "republish"
    RUN_TIMEOUT = "run timeout"
    RESUME = "resume"
    UNDO = "undo"
    SCHEDULE = "schedule"
    PLACE = "place"

    @property
    def is_of_run(self) -> bool:
        """Whether it is about a run as a whole, or about what is no run, not about one of a run's items."""
        return self not in (TimerKind.RETRY, TimerKind.HOLD, TimerKind.REPUBLISH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """A durable wake: fires when store time reaches `due_ms`, if the item still has the turn.

    Attributes:
        turn: The item's; of a resume or an undoing the epoch in which the run goes on; of a schedule the number of its
            state.
        after: Of a resume that has begun: the items up to this one are on their way. Of an undoing: from which entry
            of the log on, as a number, everything is undone.
    """

    due_ms: int
    run_id: RunId
    item_id: WorkItemId = WorkItemId("")
    kind: TimerKind = TimerKind.RETRY
    turn: int = 0
    after: WorkItemId = WorkItemId("")
