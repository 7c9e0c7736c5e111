"""Parking items whose bodies have not run: they wait in the store, and nobody has them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from floxide_amqp.core import moves
from floxide_amqp.core.decisions import MessageAnchor
from floxide_amqp.core.message_records import Envelope
from floxide_amqp.core.records import RunHeader, WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.frontier import find_frontier
from floxide_amqp.runtime.services import Services
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.parked_keys import Kind
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.writes import BatchWriter

MAX_TRIES = 20
"""Conflicts in a row before an item is left to whoever is at it all the time."""


async def park_unrun(
    services: Services, header: RunHeader, item: WorkItem, turn: int, epoch: int, kind: Kind, message: MessageAnchor,
    *, note: str,
) -> bool:  # fmt: skip
    """Park an item that no body has run for; return False after a conflict.

    Args:
        services: The process's parts.
        header: Its run.
        item: The item, pending or in this process's hands.
        turn: Its turn.
        epoch: The run's epoch.
        kind: Among which items it waits.
        message: What leads to the item; it is forgotten.
        note: Why, for people.
    """
    graph = services.registry.find(header.workflow, header.version)
    node = None if graph is None else graph.nodes.get(item.node)  # what stands in for an older version may lack it
    is_claimed = item.status is WorkItemStatus.IN_PROGRESS
    decision = moves.park(
        item, turn, epoch, kind, message, note=note, now_ms=services.now_ms(header.run_id),
        at_most_once=is_claimed and node is not None and node.options.at_most_once,
    )  # fmt: skip
    outcome = await services.commit(BatchWriter(header.run_id, header.created_at_ms, header.workflow), decision)
    if isinstance(outcome, Conflict):
        return False
    services.figures.parked += 1
    return True


async def park_frontier(
    services: Services, envelope: Envelope, park: Callable[[StoredRun, StoredItem], Awaitable[bool]]
) -> bool:
    """Park the item that a chain has come to and could not run.

    Args:
        services: The process's parts.
        envelope: The message the chain began with.
        park: Parks it; returns False after a conflict.

    Returns:
        Whether the message is needed no more: the item is parked, or there is none to park. False where somebody else
        has the item.
    """
    for _ in range(MAX_TRIES):
        run, stored = await services.runs.find_with_item(envelope.run_id, envelope.item_id)
        if run is None or run.state.status.is_terminal:
            return True
        stored = await find_frontier(services.items, envelope.run_id, stored)
        if stored is None or run.state.is_over_for(stored.item):
            return True
        item, run_id = stored.item, envelope.run_id
        is_ours = item.owner == services.name and not services.inflight.has(run_id, item.item_id)
        is_ours = is_ours and not services.died_with(item)
        if item.status is not WorkItemStatus.PENDING and not (item.status is WorkItemStatus.IN_PROGRESS and is_ours):
            return False
        if await park(run, stored):
            return True
    return False
