"""The heart: what one step commits and what follows from it.

`decide(step, outcome)` is a pure function of what was read at admission and of what the node did. It returns the
conditions of the commit, the changes, and the effects that the runtime performs once the commit stands. What happens
when a scope or the run reaches zero live items is part of the same commit, under `WhenScope`, never a later one.

Invariants it keeps:

* Every commit checks the item's exact turn, the run's epoch and that each enclosing scope is open.
* A scope's count changes by (live successors - 1); a fan-out that leads to a join leaves its parent's count alone,
  because the child scope stands for the item there.
* Each live item stays reachable: by its message's entry, an owner entry, a timer, or the list of live items of a
  paused run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from floxide_amqp.core.changes import Count
from floxide_amqp.core.child_moves import call_child
from floxide_amqp.core.compensation import after_undoing, complete, end_without_output, next_timer
from floxide_amqp.core.decisions import PAGE_SIZE, Decision, Effects, Step
from floxide_amqp.core.failure import ErrorInfo, FailureInfo, describe_unraised
from floxide_amqp.core.fan_outs import expand, open_scope, store_pages
from floxide_amqp.core.fast_dataclasses import replace
from floxide_amqp.core.graph import Edge
from floxide_amqp.core.log_changes import AppendError
from floxide_amqp.core.log_records import ErrorRecord
from floxide_amqp.core.outcomes import CallsChild, Failed, Folded, Held, JoinsRead, Outcome, PageRead, Succeeded, Swept
from floxide_amqp.core.place_changes import SetTimer
from floxide_amqp.core.plan import Plan, conditions_of
from floxide_amqp.core.records import OF_THE_ENGINE, InputKind, ItemInput, Routed, RunFailure
from floxide_amqp.core.resolving import resolve_joins
from floxide_amqp.core.signal_moves import exchanging, hold_for_signal, leaving
from floxide_amqp.core.statuses import RunStatus, WorkItemStatus
from floxide_amqp.core.sweeping import sweep
from floxide_amqp.core.timers import Timer, TimerKind
from floxide_amqp.exceptions import IterationLimitError

_ONE_MORE: Final = Count("completed", 1)


def decide(step: Step, outcome: Outcome) -> Decision:
    """Return what the step commits and what follows.

    Args:
        step: What was known when the node ran.
        outcome: What it did.
    """
    match outcome:
        case Succeeded():
            exceeded = _exceeded_repeat(step, outcome.routes)
            if exceeded is not None:
                return _fail(step, Failed(error=exceeded, is_final=True))
            return exchanging(step, _succeed(step, outcome))
        case Held():
            return exchanging(step, _hold(step, outcome))
        case Failed():
            return _fail(step, outcome)
        case PageRead():
            return expand(step, outcome)
        case CallsChild():
            return call_child(step, outcome, _succeed)
        case JoinsRead():
            return resolve_joins(step, outcome)
        case Folded():
            return _fold_on(step, outcome)
        case Swept():
            return sweep(step, outcome)


# --- success


def _succeed(step: Step, outcome: Succeeded) -> Decision:
    plan = Plan(step)
    if step.item.input.kind is InputKind.UNDO:
        return _undone(plan, outcome.delta)
    plan.start_run()
    node = step.graph.nodes[step.item.node]
    if step.item.begun or node.options.compensation is not None:
        plan.changes += complete(step.item, outcome.routes[0].payload, step.graph.nodes)
    join, wave = (None, None) if node.fan_out is None else (node.fan_out.join, node.fan_out.wave)
    if len(outcome.routes) > (wave or PAGE_SIZE) or (wave and outcome.routes):
        store_pages(plan, outcome.routes, join, wave)
    elif join is not None:
        open_scope(plan, outcome.routes, join)
    else:
        plan.create(outcome.routes, step.item.scope, failure=step.item.failure)
        plan.count_created()
    _complete(plan, outcome.delta)
    return plan.decision()


def _complete(plan: Plan, delta: bytes | None) -> None:
    """Write the own item as completed, once it is known what follows it."""
    plan.append_delta(delta)
    plan.changes.append(_ONE_MORE)
    plan.tally(busy_us=plan.step.duration_us)
    plan.finish(WorkItemStatus.COMPLETED, attempts=plan.step.item.attempt + 1)


def _undone(plan: Plan, delta: bytes | None) -> Decision:
    """A compensation is done: the next one follows, or the run's end."""
    _complete(plan, delta)
    return _after_undoing(plan, undone=True)


def _after_undoing(plan: Plan, *, undone: bool) -> Decision:
    step = plan.step
    following = after_undoing(step.header, step.run, step.epoch, step.item, step.now_ms, undone=undone)
    return Decision(
        conditions=conditions_of(step, check_context=step.is_isolated),
        changes=(*plan.changes, *following, *plan.move_anchor(None)),
        effects=Effects(finished=step.run.ends_as),
        epoch_after=step.epoch,
        undoing=Effects(timer=next_timer(step.header.run_id, step.epoch, step.item, step.now_ms)),
    )


def _fold_on(step: Step, outcome: Folded) -> Decision:
    """The next page of what a join folds is the next item of the same chain, with what the pages before came to."""
    plan = Plan(step)
    plan.start_run()
    plan.created.append(plan.folding_item(outcome.payload, outcome.number))
    plan.tally(busy_us=step.duration_us)
    plan.finish(WorkItemStatus.COMPLETED, attempts=step.item.attempt + 1, node=f"{step.item.node}[{outcome.number}]")
    return plan.decision()


# --- hold


def _hold(step: Step, outcome: Held) -> Decision:
    due = outcome.due_ms if outcome.for_ms is None else step.now_ms + outcome.for_ms
    for_signal = bool(outcome.until)
    decision = hold_for_signal(step, outcome, due or 0) if for_signal else _hold_without_signal(step, outcome, due)
    return decision if outcome.left is None else leaving(step, outcome.left, decision)


def _hold_without_signal(step: Step, outcome: Held, due: int | None) -> Decision:
    step = replace(step, keep=frozenset())  # a held item has no pointer by which a kept join could be found again
    plan = Plan(step)
    plan.start_run()
    plan.append_delta(outcome.delta)
    plan.tally(busy_us=step.duration_us)
    held = replace(step.item, mail=None, timed_out=False, note="")
    if due is not None:
        timer = Timer(
            due_ms=due, run_id=step.header.run_id, item_id=step.item.item_id, kind=TimerKind.HOLD, turn=step.turn + 1
        )
        plan.suspend(replace(held, status=WorkItemStatus.HELD, due_ms=due))
        plan.tally(waiting=1)
        plan.changes += (SetTimer(timer), *plan.move_anchor(None))
        return Decision(
            conditions=conditions_of(step, check_context=step.is_isolated),
            changes=tuple(plan.changes),
            effects=Effects(timer=timer),
            epoch_after=plan.epoch_after,
        )
    plan.suspend(replace(held, status=WorkItemStatus.HELD, due_ms=0))
    plan.count(step.item.scope, -1, may_close=True)
    plan.tally(live=-1, held=1)
    decision = plan.decision()
    return replace(decision, conditions=conditions_of(step, check_context=True))


# --- failure


def _fail(step: Step, outcome: Failed) -> Decision:
    plan, item = Plan(step), step.item
    attempts = item.attempt + 1
    will_retry = not outcome.is_final and step.retry.has_attempts_left(attempts)
    plan.changes.append(
        AppendError(
            ErrorRecord(
                item_id=item.item_id,
                node=item.node,
                attempt=attempts,
                at_ms=step.now_ms,
                error=outcome.error,
                worker=step.worker,
                will_retry=will_retry,
            )
        )
    )
    plan.tally(failed=1, busy_us=step.duration_us)
    if will_retry:
        return _retry(plan, attempts)
    if item.input.kind is InputKind.UNDO:
        plan.finish(WorkItemStatus.FAILED, attempts=attempts)
        return _after_undoing(plan, undone=False)
    edges = _failure_edges(step, outcome)
    if edges:
        return _fall_back(plan, outcome, edges, attempts)
    if outcome.collected:
        return _collect(plan, outcome, attempts)
    failure = RunFailure(node=item.node, item_id=item.item_id, error=outcome.error, attempts=attempts)
    plan.suspend(replace(item, status=WorkItemStatus.FAILED, attempt=attempts, note=outcome.error.message[:200]))
    plan.changes += (*plan.end_run(RunStatus.FAILED, failure), *plan.move_anchor(None))
    return Decision(
        conditions=conditions_of(step),
        changes=tuple(plan.changes),
        effects=Effects(finished=RunStatus.FAILED),
        epoch_after=step.epoch + 1,
        undoing=plan.undoing,
    )


def _collect(plan: Plan, outcome: Failed, attempts: int) -> Decision:
    """The failure arrives at the gather around the item, in place of what it would have come to."""
    step = plan.step
    plan.start_run()
    plan.changes += end_without_output(step.item, step.graph.nodes)
    plan.collect(step.graph.nodes[step.item.node].collected_by or "", outcome.collected)
    plan.count_created()
    plan.finish(WorkItemStatus.FAILED, attempts=attempts)
    return plan.decision()


def _retry(plan: Plan, attempts: int) -> Decision:
    step = plan.step
    plan.start_run()
    delay = step.retry.delay(attempts, step.jitter)
    due = step.now_ms + max(0, round(delay.total_seconds() * 1000))
    timer = Timer(
        due_ms=due, run_id=step.header.run_id, item_id=step.item.item_id, kind=TimerKind.RETRY, turn=step.turn + 1
    )
    plan.suspend(replace(step.item, status=WorkItemStatus.WAITING_RETRY, attempt=attempts, due_ms=due, note=""))
    plan.tally(waiting=1, retried=1)
    plan.changes += (SetTimer(timer), *plan.move_anchor(None))
    return Decision(
        conditions=conditions_of(step),
        changes=tuple(plan.changes),
        effects=Effects(timer=timer),
        epoch_after=plan.epoch_after,
    )


def _fall_back(plan: Plan, outcome: Failed, edges: Sequence[Edge], attempts: int) -> Decision:
    """The failure edges take over: their targets get the failed node's input."""
    item = plan.step.item
    plan.start_run()
    failure = FailureInfo(
        node=item.node, error_type=outcome.error.error_type, message=outcome.error.message, attempts=attempts
    )
    plan.changes += end_without_output(item, plan.step.graph.nodes)
    input_ = item.input
    if input_.kind is InputKind.FOLD:
        input_ = ItemInput(kind=InputKind.ARRIVALS, opener=input_.opener)
    payload = item.input.payload if item.input.kind is InputKind.PAYLOAD else outcome.payload
    routes = [
        Routed(edge=edge.id, payload=payload, suffix=(n,) if len(edges) > 1 else ()) for n, edge in enumerate(edges)
    ]
    plan.create(routes, item.scope, failure=failure, input_=input_)
    plan.count_created()
    plan.finish(WorkItemStatus.FAILED, attempts=attempts)
    return plan.decision()


# --- small parts


def _failure_edges(step: Step, outcome: Failed) -> Sequence[Edge]:
    """Return the edges that take over, without loops that have run as often as their edge allows."""
    if step.item.input.kind in OF_THE_ENGINE:
        return ()
    counts = dict(step.item.loops)
    edges = step.graph.route_failure(step.item.node, outcome.error.kinds)
    return [e for e in edges if e.repeat is None or counts.get(e.id, 0) < e.repeat.max_iterations]


def _exceeded_repeat(step: Step, routes: Sequence[Routed]) -> ErrorInfo | None:
    """Return the error of a loop that has run as often as its edge allows."""
    edges = step.graph.edges
    for route in routes:
        edge = edges[route.edge] if route.edge else None
        if edge is None or edge.repeat is None:
            continue
        if dict(step.item.loops).get(edge.id, 0) >= edge.repeat.max_iterations:
            error = IterationLimitError(node=step.item.node, target=edge.target, limit=edge.repeat.max_iterations)
            return describe_unraised(error)
    return None
