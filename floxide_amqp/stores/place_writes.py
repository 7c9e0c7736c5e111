"""What leads to items as records: which entries the changes of `floxide_amqp.core.place_changes` stand for."""

from __future__ import annotations

from floxide_amqp.core import place_changes as c
from floxide_amqp.core.ids import RunId
from floxide_amqp.ports.key_value import Enter, Leave, Write
from floxide_amqp.stores import keys, parked_keys
from floxide_amqp.stores import record_codec as codec


def place_write(run_id: RunId, change: c.PlaceChange) -> Write:
    """Return what a change writes."""
    match change:
        case c.EnterMessage(queue, entry, item_id, turn, publisher, tries):
            note = codec.encode_message_note(run_id, item_id, turn, publisher, tries)
            return Enter(keys.messages(queue), entry, note)
        case c.LeaveMessage(queue, entry):
            return Leave(keys.messages(queue), entry)
        case c.EnterOwner(worker, item_id):
            return Enter(keys.owned(worker), keys.place_entry(run_id, item_id))
        case c.LeaveOwner(worker, item_id):
            return Leave(keys.owned(worker), keys.place_entry(run_id, item_id))
        case c.SetTimer(timer):
            value = codec.encode_timer_value(timer.kind, timer.turn, timer.after)
            return Enter(keys.TIMERS, keys.timer_entry(timer), value)
        case c.DropTimer(timer):
            return Leave(keys.TIMERS, keys.timer_entry(timer))
        case c.EnterBegun(step):
            return Enter(keys.begun(run_id), step.item_id, codec.encode_compensable(step))
        case c.LeaveBegun(item_id):
            return Leave(keys.begun(run_id), item_id)
        case c.EnterParked(queue, workflow, version, node, item_id):
            entry = parked_keys.parked_entry((workflow, version, node), run_id, item_id)
            return Enter(parked_keys.parked(queue), entry)
        case c.LeaveParked(queue, workflow, version, node, item_id):
            entry = parked_keys.parked_entry((workflow, version, node), run_id, item_id)
            return Leave(parked_keys.parked(queue), entry)
