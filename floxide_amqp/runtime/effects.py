"""What follows from a commit that stands, where only its reply tells which of two ends it was."""

from __future__ import annotations

from dataclasses import replace

from floxide_amqp.core.decisions import RUN_ITSELF, Decision, Effects
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.ports.key_value import Committed
from floxide_amqp.stores import keys


def effects_of(run_id: RunId, decision: Decision, committed: Committed) -> Effects:
    """Return the effects of a commit: those of the closed scope, if this very commit brought it to zero."""
    if decision.closing is None:
        return decision.effects
    if committed.counters.get(keys.scope_count(run_id, decision.closing)) != 0:
        return decision.effects
    if decision.closing != RUN_ITSELF:
        return decision.closing_effects
    outputs = committed.counters.get(keys.count(run_id, "outputs"), 0)
    held = committed.counters.get(keys.count(run_id, "held"), 0)
    stalled = outputs == 0 and held > 0
    return replace(decision.closing_effects, finished=RunStatus.FAILED if stalled else RunStatus.COMPLETED)
