"""What a step that goes on with several values becomes: items at once, a scope with a join, or pages of items."""

from __future__ import annotations

from collections.abc import Sequence

from floxide_amqp.core.changes import CountScope, DropPage, OpenScope, PutPage
from floxide_amqp.core.decisions import PAGE_SIZE, Decision, Step
from floxide_amqp.core.ids import ScopeId, WorkItemId
from floxide_amqp.core.outcomes import PageRead
from floxide_amqp.core.plan import Plan
from floxide_amqp.core.records import Routed, Scope
from floxide_amqp.core.statuses import WorkItemStatus


def open_scope(plan: Plan, routes: Sequence[Routed], join: str) -> None:
    """A fan-out that ends in a join: its items live in a scope of their own, which stands for it in the parent."""
    item = plan.step.item
    scope_id = ScopeId(item.item_id)
    child = (*item.scope, scope_id)
    plan.create(routes, child, failure=item.failure)
    created = plan.open(child, plan.step.graph.nodes[join].gathering.first)
    joined = plan.joining_item(item, join, item.scope)
    if created == 0:
        plan.created.append(joined)
    else:
        plan.changes += (
            OpenScope(Scope(scope_id=scope_id, parent=item.scope, then=joined)),
            CountScope(child, created),
        )
    plan.tally(live=len(plan.created) - 1)


def store_pages(plan: Plan, routes: Sequence[Routed], join: str | None, wave: int | None) -> None:
    """A large fan-out: keep the outputs, and put one item that turns them into items page by page.

    With `wave`, the next page waits until the items of the one before have ended.
    """
    item, size = plan.step.item, wave or PAGE_SIZE
    pages = -(-len(routes) // size)
    for number in range(pages):
        plan.changes.append(PutPage(item.item_id, number, tuple(routes[number * size : (number + 1) * size])))
    scope = item.scope
    if join is not None and wave is None:
        scope_id = ScopeId(item.item_id)
        scope = (*scope, scope_id)
        joined = plan.joining_item(item, join, item.scope)
        plan.changes += (OpenScope(Scope(scope_id=scope_id, parent=item.scope, then=joined)), CountScope(scope, 1))
    plan.created.append(plan.engine_item(item, 0, pages, scope))


def expand(step: Step, outcome: PageRead) -> Decision:
    """Turn one page into items; the next page is the next item of the same chain, or waits for this one's scope."""
    plan, item = Plan(step), step.item
    fan_out = step.graph.nodes[item.node].fan_out
    number, pages = item.input.number, item.input.pages
    is_last = number + 1 == pages
    plan.changes.append(DropPage(WorkItemId(item.input.opener), number))
    if fan_out is not None and fan_out.wave is not None and fan_out.join is not None:
        scope_id = ScopeId(f"{item.input.opener}.{number}")
        child = (*item.scope, scope_id)
        following = (
            plan.joining_item(item, fan_out.join, item.scope)
            if is_last
            else plan.engine_item(item, number + 1, pages, item.scope)
        )
        plan.create(outcome.routes, child, failure=item.failure)
        created = plan.open(child, fan_out.first)
        if created == 0:
            plan.created.append(following)
        else:
            plan.changes += (
                OpenScope(Scope(scope_id=scope_id, parent=item.scope, then=following)),
                CountScope(child, created),
            )
        plan.tally(live=len(plan.created) - 1)
    else:
        if not is_last:  # first among the created, so that it is what the worker keeps
            plan.created.append(plan.engine_item(item, number + 1, pages, item.scope))
        plan.create(outcome.routes, item.scope, failure=item.failure)
        plan.count_created()
    plan.finish(WorkItemStatus.COMPLETED, attempts=1, node=f"{item.node}[page {number + 1} of {pages}]")
    return plan.decision()
