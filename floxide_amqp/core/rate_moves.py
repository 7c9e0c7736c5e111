"""Waiting for a rate limit: an item lies in the store until its time has come. Pure, like `moves`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from floxide_amqp.core.changes import Count, EpochIs, LeaveOwner, PutItem, SetTimer, TurnIs
from floxide_amqp.core.decisions import Anchor, Decision, Effects, OwnerAnchor
from floxide_amqp.core.ids import RunId, WorkerId
from floxide_amqp.core.moves import forget_message
from floxide_amqp.core.rates import RATE_WAIT
from floxide_amqp.core.records import Timer, TimerKind, WorkItem
from floxide_amqp.core.statuses import WorkItemStatus

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
    """
    until = (_EPOCH + timedelta(milliseconds=due_ms)).isoformat(timespec="seconds")
    held = replace(
        item, status=WorkItemStatus.HELD, owner=WorkerId(""), anchored=False, spared=False, due_ms=due_ms,
        waits_for=f"{RATE_WAIT}{rate_id}", parked_ms=now_ms,
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
