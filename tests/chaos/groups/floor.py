"""All groups, by their names: what workers run and clients do."""

from __future__ import annotations

from tests.chaos.groups import children, control, flow, joins, routing, search, signals, sources, sync, timers
from tests.chaos.groups.desk import Group

GROUPS: dict[str, Group] = {
    each.name: each
    for each in (
        joins.GROUP, signals.GROUP, timers.GROUP, children.GROUP, control.GROUP, flow.GROUP, routing.GROUP,
        search.GROUP, sources.GROUP, sync.GROUP,
    )
}  # fmt: skip

SOURCES = (sources.INTAKE,)
WORKFLOWS = tuple(workflow for group in GROUPS.values() for workflow in group.workflows)
