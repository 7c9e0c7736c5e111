"""Where schedules lie: each in a partition of its own, which has its place among the slots as a run has."""

from __future__ import annotations

from floxide_amqp.core.ids import RunId
from floxide_amqp.ports.key_value import Key

SCHEDULES = "schedules"

SCHEDULE_PREFIX = " schedule:"
"""What the partitions of schedules begin with; no run's id begins with a blank."""


def schedule_partition(name: str) -> RunId:
    """The partition of a schedule's records, which has its place among the slots as a run has."""
    return RunId(f"{SCHEDULE_PREFIX}{name}")


def schedule_of(partition: str) -> str | None:
    """The name of the schedule whose partition this is; None where it is none."""
    return partition.removeprefix(SCHEDULE_PREFIX) if partition.startswith(SCHEDULE_PREFIX) else None


def schedule_spec(name: str) -> Key:
    """The cell of what a schedule is to do."""
    return Key(schedule_partition(name), "spec")


def schedule_state(name: str) -> Key:
    """The cell of how far a schedule is."""
    return Key(schedule_partition(name), "progress")
