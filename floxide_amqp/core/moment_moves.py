"""Notes of moments in commits: that an item begins to wait, and that a signal came."""

from __future__ import annotations

from typing import Final

from floxide_amqp.core.decisions import Decision, Step
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.log_changes import AppendMoment
from floxide_amqp.core.moments import Moment, MomentKind
from floxide_amqp.core.outcomes import Held

LAST_TURN_TOLD: Final = 200
"""An item that is held again and again, to look whether something is there, tells so up to this turn: a hundred times.

Otherwise what a run notes of itself would grow with the time it waits.
"""


def telling_of_hold(decision: Decision, step: Step, held: Held) -> Decision:
    """Return the commit by which an item begins to wait, with a note of it."""
    if step.turn > LAST_TURN_TOLD or held.mail is not None:
        return decision
    timer = decision.effects.timer
    moment = Moment(
        kind=MomentKind.HELD, at_ms=step.now_ms, item_id=step.item.item_id, node=step.item.node,
        name=" ".join(held.until), until_ms=0 if timer is None else timer.due_ms,
    )  # fmt: skip
    return replace(decision, changes=(*decision.changes, AppendMoment(moment)))


def telling_of_signal(decision: Decision, name: str, at_ms: int) -> Decision:
    """Return the commit that accepts a signal, with a note of it."""
    moment = Moment(kind=MomentKind.SIGNALLED, at_ms=at_ms, name=name)
    return replace(decision, changes=(*decision.changes, AppendMoment(moment)))
