"""Attributes of runs in commits: those a run is started with, and those a step sets in the commit that completes it."""

from __future__ import annotations

from collections.abc import Mapping

from floxide_amqp.core.attributes import Attributes, AttributeValue, merged_attributes
from floxide_amqp.core.changes import PutAttributes
from floxide_amqp.core.commit_conditions import AttributesAre
from floxide_amqp.core.decisions import Decision
from floxide_amqp.core.fast_dataclasses import replace


def started_with(decision: Decision, attributes: Attributes) -> Decision:
    """Return the commit that starts a run with attributes; without any it is as it was."""
    if not attributes:
        return decision
    return replace(decision, changes=(*decision.changes, PutAttributes({}, attributes)))


def with_set(
    decision: Decision, before: Attributes, version: int, changes: Mapping[str, AttributeValue | None]
) -> Decision:
    """Return the commit of a step that set attributes of its run, or took them away.

    Args:
        decision: The step's commit without them.
        before: The attributes as they were read.
        version: The version of their cell, as read: where somebody changed them since, the commit meets a conflict.
        changes: What the step set; None takes one away.

    Raises:
        InvalidAttributeError: The run would have too many.
    """
    after = merged_attributes(before, changes)
    if after == before and all(type(after[name]) is type(before[name]) for name in after):
        return decision
    return replace(
        decision,
        conditions=(*decision.conditions, AttributesAre(version)),
        changes=(*decision.changes, PutAttributes(before, after)),
    )
