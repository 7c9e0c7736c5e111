"""Items whose stored data this code cannot decode are set aside: visible, and nobody's until somebody requeues them.

The run and its other items go on. Nothing is lost: what is stored stays as it is.
"""

from __future__ import annotations

from typing import Final

from floxide_amqp.core import moves
from floxide_amqp.core.decisions import MessageAnchor
from floxide_amqp.core.records import Envelope, RunHeader, WorkItem
from floxide_amqp.core.set_aside import set_aside_kind
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.logs import get_logger
from floxide_amqp.ports.key_value import Conflict
from floxide_amqp.runtime.keyless import park_frontier
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.waits import requeue
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.writes import BatchWriter

_log = get_logger("floxide_amqp.parked")

MAX_REASON: Final = 1_000
"""Characters kept of why an item was set aside."""


async def set_aside(
    services: Services, header: RunHeader, item: WorkItem, turn: int, epoch: int, message: MessageAnchor, reason: str
) -> bool:
    """Set an item aside that no body has run for; return False after a conflict.

    Args:
        services: The process's parts.
        header: Its run.
        item: The item, pending or in this process's hands.
        turn: Its turn.
        epoch: The run's epoch.
        message: What leads to the item; it is forgotten.
        reason: Why.
    """
    graph = services.registry.find(header.workflow, header.version)
    node = None if graph is None else graph.nodes.get(item.node)
    is_claimed = item.status is WorkItemStatus.IN_PROGRESS
    once = is_claimed and node is not None and node.options.at_most_once
    said = services.sealing.logged(reason)[:MAX_REASON]
    decision = moves.park(
        item, turn, epoch, set_aside_kind(header.workflow, header.version, item.node), message,
        note=requeue(item, said), now_ms=services.now_ms(header.run_id), at_most_once=once,
    )  # fmt: skip
    outcome = await services.commit(BatchWriter(header.run_id, header.created_at_ms, header.workflow), decision)
    if isinstance(outcome, Conflict):
        return False
    services.figures.parked += 1
    _log.warning(
        "work_item.set_aside", run_id=header.run_id, item_id=item.item_id, node=item.node, workflow=header.workflow,
        version=header.version, reason=said,
    )  # fmt: skip
    return True


async def set_aside_where_it_stands(services: Services, envelope: Envelope, reason: str) -> bool:
    """Set the item aside that a chain has come to and could not decode; returns as `park_frontier`."""
    message = MessageAnchor(envelope.queue, envelope.entry)

    async def park(run: StoredRun, stored: StoredItem) -> bool:
        return await set_aside(services, run.header, stored.item, stored.turn, run.epoch, message, reason)

    return await park_frontier(services, envelope, park)
