"""What becomes of joins of edges that wait for what cannot come any more: nothing else in their scope is live."""

from __future__ import annotations

from floxide_amqp.core.arrivals import join_item
from floxide_amqp.core.changes import CountJoins
from floxide_amqp.core.decisions import Decision, Step
from floxide_amqp.core.joins import SETTLED, arrived, waiting
from floxide_amqp.core.outcomes import JoinsRead
from floxide_amqp.core.plan import Plan
from floxide_amqp.core.statuses import WorkItemStatus


def resolve_joins(step: Step, outcome: JoinsRead) -> Decision:
    """Put the joins to be resolved now; whether one of them fails is seen when it runs.

    Where others depend on them, those follow once these are through: then nothing is live again.
    """
    plan, item = Plan(step), step.item
    for instance, number in outcome.joins:
        join = step.graph.nodes[instance.node].join
        if join is None:
            continue
        plan.created.append(join_item(step, instance, join, item.scope, item.item_id, number=number, payload=b""))
        plan.changes.append(CountJoins(arrived(instance.join_id), SETTLED))
    settled = len(plan.created) + outcome.lost
    if settled:
        plan.changes.append(CountJoins(waiting(item.scope), -settled))
    if outcome.has_more:
        plan.created.append(plan.resolving_item(item.scope))
    plan.count_created()
    plan.finish(WorkItemStatus.COMPLETED, attempts=1, node=f"{item.node}[joins]")
    return plan.decision()
