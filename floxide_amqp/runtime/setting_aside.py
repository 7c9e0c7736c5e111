"""Items whose stored data this code cannot decode are set aside: visible, and nobody's until somebody requeues them.

The run and its other items go on. Nothing is lost: what is stored stays as it is.
"""

from __future__ import annotations

from typing import Final

from floxide_amqp.core.decisions import MessageAnchor
from floxide_amqp.core.message_records import Envelope
from floxide_amqp.core.records import RunHeader, WorkItem
from floxide_amqp.core.set_aside import set_aside_kind
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.parking import park_frontier, park_unrun
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.waits import requeue
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.runs import StoredRun

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
    said = services.sealing.logged(reason)[:MAX_REASON]
    kind = set_aside_kind(header.workflow, header.version, item.node)
    if not await park_unrun(services, header, item, turn, epoch, kind, message, note=requeue(item, said)):
        return False
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
