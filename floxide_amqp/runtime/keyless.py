"""Items that this process has no key for wait in the store for a worker that has it: visible, and nobody's."""

from __future__ import annotations

from floxide_amqp.core.decisions import MessageAnchor
from floxide_amqp.core.message_records import Envelope
from floxide_amqp.core.records import RunHeader, WorkItem
from floxide_amqp.exceptions import MissingKeyError
from floxide_amqp.logs import get_logger
from floxide_amqp.runtime.parking import park_frontier, park_unrun
from floxide_amqp.runtime.services import Services
from floxide_amqp.runtime.waits import missing_key
from floxide_amqp.stores import parked_keys
from floxide_amqp.stores.items import StoredItem
from floxide_amqp.stores.runs import StoredRun
from floxide_amqp.stores.sealed import Layer

_log = get_logger("floxide_amqp.keyless")


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
    kind, note = parked_keys.kind_of_key(lacked.codec, lacked.key_id), missing_key(item, lacked.codec, lacked.key_id)
    if not await park_unrun(services, header, item, turn, epoch, kind, message, note=note):
        return False
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
