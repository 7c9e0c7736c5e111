"""Where parked items are listed: by what the worker lacked that met them, a node, a key, or code that reads them."""

from __future__ import annotations

from floxide_amqp.core.place_changes import LeaveParked
from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.set_aside import leave_set_aside
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.stores import parked_keys
from floxide_amqp.stores.sealed_records import key_of


def leave_parked(item: WorkItem, workflow: str, version: str) -> tuple[LeaveParked, ...]:
    """Return the changes that take a parked item off every list it may be on; of any other item there are none.

    Args:
        item: The item as it is stored.
        workflow: Its run's workflow.
        version: The version of that, which it was parked with.
    """
    if item.status is not WorkItemStatus.PARKED:
        return ()
    by_node = LeaveParked(item.queue, workflow, version, item.node, item.item_id)
    return (by_node, leave_set_aside(item, workflow, version), *leave_by_key(item))


def leave_by_key(item: WorkItem) -> tuple[LeaveParked, ...]:
    """Return the change that takes a parked item off the list of those that wait for its key; none of any other."""
    lacked = key_of(item) if item.status is WorkItemStatus.PARKED else None
    if lacked is None:
        return ()
    return (LeaveParked(item.queue, *parked_keys.kind_of_key(lacked.codec, lacked.key_id), item.item_id),)
