"""Items that are set aside: what is stored for them cannot be decoded, or not be migrated.

They lie among the parked items under a kind that no worker takes. Somebody who has deployed what was missing requeues
them.
"""

from __future__ import annotations

from typing import Final

from floxide_amqp.core.place_changes import LeaveParked
from floxide_amqp.core.records import WorkItem

SET_ASIDE_PREFIX: Final = " "
"""Stands before the workflow's name in the kind of an item that is set aside; no such name begins with a blank."""


def set_aside_kind(workflow: str, version: str, node: str) -> tuple[str, str, str]:
    """Return what an item of this node is listed by while it is set aside."""
    return f"{SET_ASIDE_PREFIX}{workflow}", version, node


def is_set_aside(kind: tuple[str, str, str]) -> bool:
    """Whether a kind of parked items is one that nobody takes before it is requeued."""
    return kind[0].startswith(SET_ASIDE_PREFIX)


def leave_set_aside(item: WorkItem, workflow: str, version: str) -> LeaveParked:
    """Return the change that takes an item off the list of those that are set aside, if it is there."""
    return LeaveParked(item.queue, *set_aside_kind(workflow, version, item.node), item.item_id)
