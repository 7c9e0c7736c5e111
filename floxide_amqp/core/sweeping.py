"""What is left in a fan-out that was closed before everything in it had ended: it is cancelled, page by page.

No step of it can commit any more, since each checks that the scopes around it are open. An item of the engine's own,
live in the scope around, stands for what is to be done, so that the run cannot end before it is. What may have to be
undone is cancelled once its body has ended (`floxide_amqp.core.bodies`); until then it is looked at again and again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from floxide_amqp.core.bodies import look_again_ms
from floxide_amqp.core.changes import Change, Count, CountJoins, CountScope, DropPage, PutItem
from floxide_amqp.core.commit_conditions import TurnIs
from floxide_amqp.core.decisions import Decision, Effects, Step
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.ids import WorkerId, WorkItemId
from floxide_amqp.core.joins import waiting
from floxide_amqp.core.left_behind import leave_behind
from floxide_amqp.core.log_changes import AppendHistory
from floxide_amqp.core.log_records import HistoryEntry
from floxide_amqp.core.outcomes import Left, Swept
from floxide_amqp.core.place_changes import DropTimer, LeaveOwner, LeaveParked, SetTimer
from floxide_amqp.core.plan import Plan, conditions_of
from floxide_amqp.core.records import InputKind, ScopePath, WorkItem
from floxide_amqp.core.set_aside import leave_set_aside
from floxide_amqp.core.signal_waits import leave_waits
from floxide_amqp.core.statuses import WorkItemStatus
from floxide_amqp.core.timers import Timer, TimerKind


def sweep(step: Step, outcome: Swept) -> Decision:
    """Cancel some items of a closed scope; the next page is the next item of the same chain."""
    plan, item = Plan(step), step.item
    for left in outcome.left:
        plan.changes += _cancelled(step, left)
    behind, letters = leave_behind(step, outcome.left)
    plan.changes += behind
    plan.changes += _uncounted(item.input.opener, outcome)
    decision = _wait_or_go_on(plan, outcome)
    ids = (*(left.item.item_id for left in outcome.left), *outcome.at_work)
    turns = tuple(TurnIs(left.item.item_id, left.turn) for left in outcome.left)
    told = replace(decision, conditions=(*decision.conditions, *turns)).with_effects(
        lambda effects: replace(effects, cancelled=ids)
    )
    if not letters:
        return told
    return told.with_effects(lambda effects: replace(effects, letters=(*letters, *effects.letters)))


def _wait_or_go_on(plan: Plan, outcome: Swept) -> Decision:
    """The next page follows; behind the last, this is over, or it begins anew when bodies at work have ended."""
    item = plan.step.item
    has_waited_for = bool(item.input.pages or outcome.at_work)
    if outcome.after is None and has_waited_for:
        return _look_again(plan)
    if outcome.after is not None:
        path = next(path for path, _ in outcome.counts if path[-1] == item.input.opener)
        following = plan.sweeping_item(item, path, item.input.number + 1)
        input_ = replace(following.input, payload=outcome.after, pages=int(has_waited_for))
        plan.created.append(replace(following, input=input_))
    plan.count_created()
    plan.finish(WorkItemStatus.COMPLETED, attempts=1, node=f"{item.node}[rest]")
    return plan.decision()


def _look_again(plan: Plan) -> Decision:
    """Bodies are at work whose steps could be undone: nobody may think before they have ended that they have."""
    step, item = plan.step, plan.step.item
    due_ms = look_again_ms(step.now_ms, item.attempt)
    timer = Timer(
        due_ms=due_ms, run_id=step.header.run_id, item_id=item.item_id, kind=TimerKind.RETRY, turn=step.turn + 1
    )
    plan.suspend(
        replace(
            item, status=WorkItemStatus.WAITING_RETRY, due_ms=due_ms, attempt=item.attempt + 1,
            input=replace(item.input, payload=b"", pages=0), note="waits for bodies that were interrupted",
        )
    )  # fmt: skip
    plan.tally(waiting=1)
    plan.changes += (SetTimer(timer), *plan.move_anchor(None))
    return Decision(
        conditions=conditions_of(step), changes=tuple(plan.changes), effects=Effects(timer=timer),
        epoch_after=plan.epoch_after,
    )  # fmt: skip


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
        changes.append(leave_set_aside(item, header.workflow, header.version))
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
        if is_empty and path[-1] != opener and path not in outcome.closed:
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
