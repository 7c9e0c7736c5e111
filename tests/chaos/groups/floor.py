"""All groups, by their names: what workers run and clients do."""

from __future__ import annotations

from typing import Any

from tests.chaos.groups import children, control, flow, joins, routing, search, signals, sources, sync, timers, versions
from tests.chaos.groups.desk import Group

GROUPS: dict[str, Group] = {
    each.name: each
    for each in (
        joins.GROUP, signals.GROUP, timers.GROUP, children.GROUP, control.GROUP, flow.GROUP, routing.GROUP,
        versions.GROUP, search.GROUP, sources.GROUP, sync.GROUP,
    )
}  # fmt: skip

SOURCES = (sources.INTAKE,)
WORKFLOWS = tuple(workflow for group in GROUPS.values() for workflow in group.workflows)


def workflows_of(process: str) -> list[Any]:
    """What a process has: of workflows with versions not all have all."""
    plain = [workflow for group in GROUPS.values() if group is not versions.GROUP for workflow in group.workflows]
    return [*plain, *versions.workflows_of(process)]
