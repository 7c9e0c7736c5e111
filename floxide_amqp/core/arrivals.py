"""What a step brings to joins of edges, and the commit's part that lets them run.

A value is counted at its join in the commit of the step that it comes from. The commit that brings the last one that
is needed puts the join's item; the one that brings the first notes that the join waits, for the case that nothing else
in its scope is live some time and the others have not come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from floxide_amqp.core.changes import ArriveAt, AwaitJoin, Change, Count, CountJoins, CountScope, WhenJoins
from floxide_amqp.core.decisions import Effects, Firing, Step
from floxide_amqp.core.ids import WorkItemId
from floxide_amqp.core.joins import EdgeJoin, JoinInstance, JoinShape, arrived, waiting
from floxide_amqp.core.records import InputKind, ItemInput, ScopePath, WorkItem
from floxide_amqp.core.statuses import WorkItemStatus


@dataclass(slots=True, kw_only=True)
class Arriving:
    """Values that one step brings to one instance of a join.

    Attributes:
        scope: The scopes around the join.
        item: The join's item, if this commit puts it.
        values: Of each source its place and what it gives.
    """

    instance: JoinInstance
    join: EdgeJoin
    scope: ScopePath
    item: WorkItem
    values: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])


def join_item(
    step: Step, instance: JoinInstance, join: EdgeJoin, scope: ScopePath, parent: str, *, number: int, payload: bytes
) -> WorkItem:
    """Return the item of an instance of a join.

    Args:
        step: The step that lets it run.
        instance: Which instance.
        join: The join.
        scope: The scopes around it.
        parent: The item that lets it run.
        number: How many of its arrivals count.
        payload: The value, of a join that takes one.
    """
    if join.shape is JoinShape.ONE:
        input_ = ItemInput(payload=payload)
    else:
        input_ = ItemInput(kind=InputKind.JOIN, opener=instance.join_id, number=number)
    return WorkItem(
        item_id=instance.join_id, node=instance.node,
        queue=step.graph.queue_of(instance.node, step.header), status=WorkItemStatus.PENDING,
        input=input_, scope=scope, order=instance.order, parent=parent, loops=instance.loops,
    )  # fmt: skip


def count_arrivals(arriving: Arriving, source: WorkItemId) -> list[Change]:
    """Return the changes that record what arrives from an item, whether it lets the join run or not."""
    join_id = arriving.instance.join_id
    changes: list[Change] = [CountJoins(arrived(join_id), len(arriving.values))]
    if arriving.join.shape is not JoinShape.ONE:
        changes += (ArriveAt(join_id, place, source, value) for place, value in arriving.values)
    return changes


def fire(
    arriving: Arriving, put: Sequence[Change], effects: Effects, otherwise: Sequence[Change]
) -> tuple[Change, Firing]:
    """Return what happens once the arrivals are counted, and the effects of the case that the join runs.

    Args:
        arriving: What arrives.
        put: Puts the join's item.
        effects: Performed if that was put.
        otherwise: Done if it was not.
    """
    join, scope = arriving.join, arriving.scope
    number, name = len(arriving.values), arrived(arriving.instance.join_id)
    first = max(join.need, number)
    rest: tuple[Change, ...] = tuple(otherwise)
    if number < join.need:
        noted = (AwaitJoin(scope, arriving.instance), CountJoins(waiting(scope), 1))
        rest = (*rest, WhenJoins(name, number, noted))
    live = (*put, Count("live", 1), CountScope(scope, 1))
    for count in range(join.need + number - 1, first - 1, -1):
        waited: tuple[Change, ...] = (CountJoins(waiting(scope), -1),) if count > number else ()
        rest = (WhenJoins(name, count, (*live, *waited), rest),)
    fired = Firing(name=name, least=first, most=join.need + number - 1, effects=effects)
    return rest[0], fired
