"""What an item waits for, where that is a signal: how it is written in the item, and how it leaves the lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.signal_changes import LeaveWait

SIGNAL_WAIT: Final = "signal:"
"""What `WorkItem.waits_for` begins with of an item that waits for signals."""


def waiting_for(names: Sequence[str]) -> str:
    """Return what an item says that waits for any of these signals."""
    return SIGNAL_WAIT + ",".join(names)


def awaited(waits_for: str) -> tuple[str, ...]:
    """Return the signals that an item waits for; none where it waits for something else."""
    return tuple(waits_for.removeprefix(SIGNAL_WAIT).split(",")) if waits_for.startswith(SIGNAL_WAIT) else ()


def leave_waits(item: WorkItem) -> tuple[LeaveWait, ...]:
    """Return the changes that take an item off the lists of those that wait for signals."""
    return tuple(LeaveWait(name, item.parked_ms, item.item_id) for name in awaited(item.waits_for))
