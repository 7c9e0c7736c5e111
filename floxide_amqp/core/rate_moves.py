"""Waiting for a rate limit: an item lies in the store until its time has come. Pure, like `moves`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from floxide_amqp.core.changes import Count, PutItem
from floxide_amqp.core.commit_conditions import EpochIs, TurnIs
from floxide_amqp.core.compensation import undoing_node
from floxide_amqp.core.decisions import Anchor, Decision, Effects, OwnerAnchor
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import RunId, WorkerId
from floxide_amqp.core.instants import at
from floxide_amqp.core.moves import forget_message
from floxide_amqp.core.place_changes import LeaveBegun, LeaveOwner, SetTimer
from floxide_amqp.core.rates import RATE_WAIT
from floxide_amqp.core.records import WorkItem
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind

if TYPE_CHECKING:
    from floxide_amqp.core.graph import GraphNode


def wait_for_instant(
    item: WorkItem,
    turn: int,
    epoch: int,
    run_id: RunId,
    *,
    anchor: Anchor,
    worker: WorkerId,
    now_ms: int,
    due_ms: int,
    rate_id: str,
    at_most_once: bool = False,
) -> Decision:
    """An item whose body may not start yet is held until it may; then it is asked for again.

    Args:
        item: The item.
        turn: Its turn.
        epoch: The run's.
        run_id: The run.
        anchor: What leads to it, which leads to it no more.
        worker: Who had it.
        now_ms: Store time.
        due_ms: When it goes on.
        rate_id: The key that it waits for.
        at_most_once: Whether its node is: no body of it is at work, so its claim is no death.
    """
    until = at(due_ms).isoformat(timespec="seconds")
    held = replace(
        item, status=WorkItemStatus.HELD, owner=WorkerId(""), anchored=False, spared=False, due_ms=due_ms,
        waits_for=f"{RATE_WAIT}{rate_id}", parked_ms=now_ms, deaths=0 if at_most_once else item.deaths,
        note=f"waits for rate limit {rate_id!r} of node {item.node!r}, until {until}",
    )  # fmt: skip
    timer = Timer(due_ms=due_ms, run_id=run_id, item_id=item.item_id, kind=TimerKind.HOLD, turn=turn + 1)
    leave = (LeaveOwner(worker, item.item_id),) if isinstance(anchor, OwnerAnchor) else forget_message(anchor)
    return Decision(
        conditions=(TurnIs(item.item_id, turn), EpochIs(epoch)),
        changes=(PutItem(held, is_listed=True), Count("waiting", 1), SetTimer(timer), *leave),
        effects=Effects(timer=timer),
        epoch_after=epoch,
    )


def as_before_begin(decision: Decision, nodes: Mapping[str, GraphNode]) -> Decision:
    """Return a decision by which an item waits whose body was about to begin, and has not: nothing is to be undone.

    Args:
        decision: The one by which it waits.
        nodes: Of its graph.
    """
    held = next(change.item for change in decision.changes if isinstance(change, PutItem))
    if not held.begun or undoing_node(nodes[held.node]) is None:
        return decision
    changes = tuple(
        replace(change, item=replace(held, begun=False)) if isinstance(change, PutItem) else change
        for change in decision.changes
    )
    return replace(decision, changes=(*changes, LeaveBegun(held.item_id), Count("to_undo", -1)))
