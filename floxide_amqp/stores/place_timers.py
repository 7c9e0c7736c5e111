"""What records share that belong to no run: a timer by which they are looked after, and how they are removed.

The version of a cell begins anew when it is written after it was removed. So who removes one writes the *removals* cell
of the slot, and who changes one checks that nobody did: nobody takes a later record for the same.
"""

from __future__ import annotations

from floxide_amqp.core.ids import RunId, slot_of
from floxide_amqp.core.timers import Timer, TimerKind
from floxide_amqp.ports.key_value import Check, Enter, Key, Leave
from floxide_amqp.stores import keys
from floxide_amqp.stores.record_codec import encode_timer_value


def enter_timer(place: RunId, due_ms: int) -> Enter:
    """Return what has a place looked after at a time."""
    timer = Timer(due_ms=due_ms, run_id=place, kind=TimerKind.PLACE)
    return Enter(keys.TIMERS, keys.timer_entry(timer), encode_timer_value(timer.kind, timer.turn))


def leave_timer(timer: Timer) -> Leave:
    """Return what takes such a timer off the list."""
    return Leave(keys.TIMERS, keys.timer_entry(timer))


def removals(place: RunId) -> Key:
    """Return the cell that changes whenever something is removed from the slot of a place."""
    return Key(f" removals:{slot_of(place)}", "removals")


def shown_cell(place: RunId) -> Key:
    """Return the cell that says, sealed, what is called by a digest otherwise."""
    return Key(place, "shown")


def unchanged(place: RunId, cell: Key, version: int, removals_version: int) -> tuple[Check, ...]:
    """Return the checks that a cell is what was read, and not one that was written after that was removed."""
    check = Check(cell, version)
    return (check, Check(removals(place), removals_version)) if version else (check,)
