"""Items that this process has no key for wait in the store for a worker that has it: visible, and nobody's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from floxide_amqp.core import moves
from floxide_amqp.core.decisions import MessageAnchor
from floxide_amqp.core.records import Envelope, RunHeader, WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.exceptions import MissingKeyError
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.frontier import find_frontier
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.waits import missing_key
from floxide_amqp.stores import keys
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.sealed import Layer
from floxide_amqp.stores.writes import BatchWriter

_log = get_logger("floxide_amqp.keyless")

MAX_TRIES = 20
"""Conflicts in a row before an item is left to whoever is at it all the time."""


async def park_for_key(
    services: Services,
    header: RunHeader,
    item: WorkItem,
    turn: int,
    epoch: int,
    lacked: Layer,
    message: MessageAnchor,
) -> bool:
    """Park an item that no body has run for, under the key it needs; return False after a conflict.

    Args:
        services: The process's parts.
        header: Its run.
        item: The item, pending or in this process's hands.
        turn: Its turn.
        epoch: The run's epoch.
        lacked: What this process lacks to open what the item needs.
        message: What leads to the item; it is forgotten.
    """
    graph = services.registry.find(header.workflow, header.version)
    is_claimed = item.status is WorkItemStatus.IN_PROGRESS
    once = is_claimed and graph is not None and graph.nodes[item.node].options.at_most_once
    kind = keys.kind_of_key(lacked.codec, lacked.key_id)
    note, now_ms = missing_key(item, lacked.codec, lacked.key_id), services.now_ms(header.run_id)
    decision = moves.park(item, turn, epoch, kind, message, note=note, now_ms=now_ms, at_most_once=once)
    outcome = await services.commit(BatchWriter(header.run_id, header.created_at_ms, header.workflow), decision)
    if isinstance(outcome, Conflict):
        return False
    services.figures.parked += 1
    _log.warning(
        "work_item.key_missing", run_id=header.run_id, item_id=item.item_id, node=item.node, codec=lacked.codec,
        key_id=lacked.key_id,
    )  # fmt: skip
    return True


async def park_where_it_stands(services: Services, envelope: Envelope, error: MissingKeyError) -> bool:
    """Park the item that a chain has come to and could not run for want of a key; see `park_frontier`."""
    message = MessageAnchor(envelope.queue, envelope.entry)
    lacked = Layer(error.codec, error.key_id, b"")

    async def park(run: StoredRun, stored: StoredItem) -> bool:
        return await park_for_key(services, run.header, stored.item, stored.turn, run.epoch, lacked, message)

    return await park_frontier(services, envelope, park)


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
