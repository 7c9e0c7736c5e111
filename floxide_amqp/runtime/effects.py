"""What follows from a commit that stands, where only its reply tells which of two ends it was."""

from __future__ import annotations

from floxide_amqp.core.decisions import RUN_ITSELF, Decision, Effects
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import RunId
from floxide_amqp.core.joins import closed, resolved
from floxide_amqp.core.statuses import RunStatus
from floxide_amqp.ports.key_value import Committed
from floxide_amqp.stores import keys


def effects_of(run_id: RunId, decision: Decision, committed: Committed) -> Effects:
    """Return the effects of a commit: those of the closed scope, if this very commit brought it to zero.

    Those of the joins of edges that it let run come on top.
    """
    effects = _effects_of_scope(run_id, decision, committed)
    for firing in decision.firing:
        if firing.least <= committed.counters.get(keys.joined(run_id, firing.name), 0) <= firing.most:
            publish, keep = (*effects.publish, *firing.effects.publish), effects.keep or firing.effects.keep
            effects = replace(effects, publish=publish, keep=keep)
    return effects


def _effects_of_scope(run_id: RunId, decision: Decision, committed: Committed) -> Effects:
    if decision.closed is not None and committed.counters.get(keys.joined(run_id, closed(decision.closed_scope))) == 1:
        return decision.closed
    if decision.closing is None:
        is_undoing = decision.undoing is not None and _is_undoing(run_id, committed)
        return decision.undoing or decision.effects if is_undoing else decision.effects
    if decision.resolving is not None and keys.joined(run_id, resolved(decision.closing)) in committed.counters:
        return decision.resolving
    if committed.counters.get(keys.scope_count(run_id, decision.closing)) != 0:
        return decision.effects
    if decision.closing != RUN_ITSELF:
        return decision.closing_effects
    counters = committed.counters
    if counters.get(keys.count(run_id, "outputs"), 0) > 0 or counters.get(keys.count(run_id, "held"), 0) == 0:
        return decision.closing_effects  # it has completed
    if decision.undoing is not None and _is_undoing(run_id, committed):
        return decision.undoing
    return replace(decision.closing_effects, finished=RunStatus.FAILED)


def _is_undoing(run_id: RunId, committed: Committed) -> bool:
    """Whether a run that a commit would have ended undoes first what has been done, by the counters it has tested."""
    counters = committed.counters
    return any(counters.get(keys.count(run_id, name), 0) > 0 for name in ("to_undo", "hooks"))
