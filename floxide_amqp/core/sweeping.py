"""What is left in a fan-out that was closed before everything in it had ended: it is cancelled, page by page.

No step of it can commit any more, since each checks that the scopes around it are open. An item of the engine's own,
live in the scope around, stands for what is to be done, so that the run cannot end before it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from floxide_amqp.core.changes import (
    AppendHistory,
    Change,
    Count,
    CountJoins,
    CountScope,
    DropPage,
    DropTimer,
    LeaveOwner,
    LeaveParked,
    PutItem,
    TurnIs,
)
from floxide_amqp.core.decisions import Decision, Left, Step, Swept
from floxide_amqp.core.ids import WorkerId, WorkItemId
from floxide_amqp.core.joins import waiting
from floxide_amqp.core.plan import Plan
from floxide_amqp.core.records import HistoryEntry, InputKind, ScopePath, Timer, TimerKind, WorkItem
from floxide_amqp.core.signal_waits import leave_waits
from floxide_amqp.core.statuses import WorkItemStatus


def sweep(step: Step, outcome: Swept) -> Decision:
    """Cancel some items of a closed scope; the next page is the next item of the same chain."""
    plan, item = Plan(step), step.item
    for left in outcome.left:
        plan.changes += _cancelled(step, left)
    plan.changes += _uncounted(item.input.opener, outcome)
    if outcome.has_more:
        path = next(path for path, _ in outcome.counts if path[-1] == item.input.opener)
        plan.created.append(plan.sweeping_item(item, path, item.input.number + 1))
    created = len(plan.created)
    plan.count(item.scope, created - 1, may_close=created == 0)
    plan.tally(live=created - 1)
    plan.finish(WorkItemStatus.COMPLETED, attempts=1, node=f"{item.node}[rest]")
    decision = plan.decision()
    ids = tuple(left.item.item_id for left in outcome.left)
    turns = tuple(TurnIs(left.item.item_id, left.turn) for left in outcome.left)
    return replace(
        decision,
        conditions=(*decision.conditions, *turns),
        effects=replace(decision.effects, cancelled=ids),
        closing_effects=replace(decision.closing_effects, cancelled=ids),
        resolving=None if decision.resolving is None else replace(decision.resolving, cancelled=ids),
    )


def is_live(item: WorkItem) -> bool:
    """Whether an item counts as live in its scope: not where it is held and nothing wakes it."""
    return item.status is not WorkItemStatus.HELD or item.has_wake


def _cancelled(step: Step, left: Left) -> list[Change]:
    """Return the changes that cancel one item, with everything that leads to it but its message."""
    item, header = left.item, step.header
    cancelled = replace(
        item, status=WorkItemStatus.CANCELLED, owner=WorkerId(""), anchored=False, due_ms=0, waits_for="", mail=None,
        note="its fan-out was closed",
    )  # fmt: skip
    entry = HistoryEntry(
        item_id=item.item_id, node=item.node, status=WorkItemStatus.CANCELLED, attempts=item.attempt,
        ended_at_ms=step.now_ms, duration_us=0, worker=step.worker, parent=item.parent,
    )  # fmt: skip
    changes: list[Change] = [PutItem(cancelled, is_listed=False), AppendHistory(entry), *left.leads, *leave_waits(item)]
    if item.owner:
        changes.append(LeaveOwner(item.owner, item.item_id))
    if item.due_ms:
        kind = TimerKind.HOLD if item.status is WorkItemStatus.HELD else TimerKind.RETRY
        timer = Timer(due_ms=item.due_ms, run_id=header.run_id, item_id=item.item_id, kind=kind, turn=left.turn)
        changes.append(DropTimer(timer))
    if item.status is WorkItemStatus.PARKED:
        changes.append(LeaveParked(item.queue, header.workflow, header.version, item.node, item.item_id))
    if item.input.kind is InputKind.PAGE:
        opener = WorkItemId(item.input.opener)
        changes += (DropPage(opener, number) for number in range(item.input.number, item.input.pages))
    return changes


def _uncounted(opener: str, outcome: Swept) -> list[Change]:
    """Return the counts that go with the items; a scope that comes to zero stands no more for its opener."""
    gone: Counter[ScopePath] = Counter(left.item.scope for left in outcome.left if is_live(left.item))
    counts, joins = dict(outcome.counts), dict(outcome.waiting)
    changes: list[Change] = []
    for path in sorted(counts, key=len, reverse=True):
        if gone[path]:
            changes.append(CountScope(path, -gone[path]))
        is_empty = gone[path] and counts[path] == gone[path]
        if is_empty and path[-1] != opener:
            gone[path[:-1]] += 1
        if joins.get(path):
            changes.append(CountJoins(waiting(path), -joins[path]))
    return [*changes, *_tallied(left.item for left in outcome.left)]


def _tallied(items: Iterable[WorkItem]) -> list[Change]:
    amounts: Counter[str] = Counter()
    for item in items:
        if not is_live(item):
            amounts["held"] -= 1
            continue
        amounts["live"] -= 1
        is_waiting = item.status in (WorkItemStatus.WAITING_RETRY, WorkItemStatus.PARKED, WorkItemStatus.HELD)
        amounts["waiting"] -= is_waiting
    return [Count(name, amount) for name, amount in amounts.items() if amount]
