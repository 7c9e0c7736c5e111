"""Checks that every item is called after what it follows from: its run, its parent, the edge and the place.

A step that is repeated then collides with itself. Names drawn in any other way let a repeated step multiply.
"""

from __future__ import annotations

from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId, derive_item_id
from floxide_amqp.core.records import InputKind, WorkItem
from floxide_amqp.testing.simulation.mirror import MirroredRun


def misnamed(graph: Graph, run: MirroredRun) -> list[WorkItem]:
    """Return the items of a run that follow from nothing."""
    return [item for item in run.items.values() if item.item_id not in _possible_names(graph, run, item)]


def _possible_names(graph: Graph, run: MirroredRun, item: WorkItem) -> set[str]:
    run_id = RunId(run.run_id)
    if not item.parent:
        return {derive_item_id(run_id, "", "start")}
    if item.input.kind is InputKind.PAGE:
        return {derive_item_id(run_id, item.input.opener, "page", (item.input.number,))}
    names: set[str] = set()
    if item.input.kind is InputKind.ARRIVALS:
        names.add(derive_item_id(run_id, item.input.opener, "join"))
    parent = run.items.get(item.parent)
    if parent is not None and item.order[: len(parent.order)] == parent.order:
        suffix = item.order[len(parent.order) :]
        leading = (edge for edge in graph.edges.values() if (edge.source, edge.target) == (parent.node, item.node))
        names.update(derive_item_id(run_id, parent.item_id, edge.id, suffix) for edge in leading)
    return names
