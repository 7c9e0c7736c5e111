"""Changes of what leads to an item: message entries, owner entries, timers, lists of parked and of begun items."""

from __future__ import annotations

from typing import TypeAlias

from floxide_amqp.core.fast_dataclasses import dataclass
from floxide_amqp.core.ids import WorkerId, WorkItemId
from floxide_amqp.core.records import Compensable
from floxide_amqp.core.timers import Timer


@dataclass(frozen=True, slots=True)
class EnterBegun:
    """Note that the body of a step with a compensation may run from now on."""

    step: Compensable


@dataclass(frozen=True, slots=True)
class LeaveBegun:
    """Forget that note: the step has completed, or was undone."""

    item_id: WorkItemId


@dataclass(frozen=True, slots=True)
class EnterMessage:
    """Note that a message for this item is about to be published; `tries` counts the lost ones before it."""

    queue: str
    entry: str
    item_id: WorkItemId
    turn: int
    publisher: WorkerId
    tries: int = 0


@dataclass(frozen=True, slots=True)
class LeaveMessage:
    """Forget a message: its chain has ended or has another anchor."""

    queue: str
    entry: str


@dataclass(frozen=True, slots=True)
class EnterOwner:
    """Note that a worker holds this item without a message."""

    worker: WorkerId
    item_id: WorkItemId


@dataclass(frozen=True, slots=True)
class LeaveOwner:
    """Forget that a worker holds this item."""

    worker: WorkerId
    item_id: WorkItemId


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Set a durable timer."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class DropTimer:
    """Forget a timer."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class EnterParked:
    """List an item among those that wait for a worker with this workflow, version and node."""

    queue: str
    workflow: str
    version: str
    node: str
    item_id: WorkItemId


@dataclass(frozen=True, slots=True)
class LeaveParked:
    """Take an item off that list."""

    queue: str
    workflow: str
    version: str
    node: str
    item_id: WorkItemId


PlaceChange: TypeAlias = (
    EnterBegun
    | LeaveBegun
    | EnterMessage
    | LeaveMessage
    | EnterOwner
    | LeaveOwner
    | SetTimer
    | DropTimer
    | EnterParked
    | LeaveParked
)
