"""What the store holds of each run, kept up to date write by write, for those who check it after every commit.

It stands on the bytes that were written and on nothing the engine says of itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from floxide_amqp.core.failure import ErrorInfo
from floxide_amqp.core.records import TimerKind, WorkItem
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.stores import record_codec as codec

Place: TypeAlias = tuple[str, str]
"""An index and an entry of it."""

PREFIX_LENGTH = 15
"""Digits and colon before the timer in the entry of one that was set aside."""


@dataclass(slots=True)
class MirroredRun:
    """One run.

    Attributes:
        turns: The version of each item's cell.
        live: Items in the run's list of those that have not ended.
        messages, owners, parked: Entries that lead to an item.
        timers: Entries that wake an item, with its turn at that time.
        resumes: Entries that bring the pending items of the whole run on their way.
        ended: Items in the run's history.
        failures: Why it failed, each time it did.
    """

    run_id: str
    status: RunStatus | None = None
    epoch: int = 0
    items: dict[str, WorkItem] = field(default_factory=dict[str, WorkItem])
    turns: dict[str, int] = field(default_factory=dict[str, int])
    live: dict[str, None] = field(default_factory=dict[str, None])
    messages: dict[Place, str] = field(default_factory=dict[Place, str])
    owners: dict[Place, str] = field(default_factory=dict[Place, str])
    parked: dict[Place, str] = field(default_factory=dict[Place, str])
    timers: dict[Place, tuple[str, int]] = field(default_factory=dict[Place, "tuple[str, int]"])
    resumes: dict[Place, None] = field(default_factory=dict[Place, None])
    ended: dict[str, WorkItemStatus] = field(default_factory=dict[str, WorkItemStatus])
    failures: list[ErrorInfo] = field(default_factory=list[ErrorInfo])

    def alive(self) -> list[WorkItem]:
        """Return the live items that are not held without a wake, nor failed for good."""
        return [
            item
            for item in map(self.items.__getitem__, self.live)
            if not (item.status is WorkItemStatus.HELD and not item.due_ms) and item.status is not WorkItemStatus.FAILED
        ]

    def unreachable(self) -> list[WorkItem]:
        """Return the items that are alive and that nothing leads to."""
        alive = self.alive()
        if not alive:
            return []
        if self.resumes or self.status is RunStatus.PAUSED:
            alive = [item for item in alive if item.status is not WorkItemStatus.PENDING]
        reached = set(self.owners.values()) | set(self.parked.values())
        reached.update(item_id for item_id, turn in self.timers.values() if self.turns.get(item_id) == turn)
        left = [item for item in alive if item.item_id not in reached]
        if not left:
            return []
        frontiers = {self.frontier(item_id) for item_id in self.messages.values()}
        return [item for item in left if item.item_id not in frontiers]

    def frontier(self, item_id: str | None) -> str | None:
        """Return where the walk from a message ends: the first item that has not ended."""
        while item_id is not None and item_id not in self.live:
            item = self.items.get(item_id)
            item_id = None if item is None else item.kept
        return item_id


@dataclass(frozen=True, slots=True)
class Led:
    """What an index entry leads to."""

    run_id: str
    item_id: str
    turn: int = 0
    kind: TimerKind | None = None


def led_by_message(value: bytes) -> Led:
    """Read the note of a message."""
    run_id, item_id, turn = codec.decode_message_note(value)[:3]
    return Led(run_id, item_id, turn)


def led_by_place(entry: str) -> Led:
    """Read an owner entry, or one of a parked item."""
    item_id, _, run_id = entry.rsplit("/", 1)[-1].partition(":") if "/" in entry else entry.partition(":")
    return Led(run_id, item_id)


def led_by_timer(entry: str, value: bytes) -> Led:
    """Read a timer."""
    _, target, _, run_id = entry.split(":", 3)
    kind, turn = codec.decode_timer_value(value)
    return Led(run_id, "" if kind.is_of_run else target, turn, kind)
