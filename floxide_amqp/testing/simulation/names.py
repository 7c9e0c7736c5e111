"""Checks that every item is called after what it follows from: its run, its parent, the edge and the place.

A step that is repeated then collides with itself. Names drawn in any other way let a repeated step multiply.
"""

from __future__ import annotations

from floxide_amqp.core.compensation import undoing_id
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.ids import RunId, WorkItemId, derive_item_id
from floxide_amqp.core.joins import EdgeJoin
from floxide_amqp.core.records import InputKind, WorkItem
from floxide_amqp.testing.simulation.mirror import MirroredRun


def misnamed(graph: Graph, run: MirroredRun) -> list[WorkItem]:
    """Return the items of a run that follow from nothing."""
    return [item for item in run.items.values() if item.item_id not in _possible_names(graph, run, item)]


def _possible_names(graph: Graph, run: MirroredRun, item: WorkItem) -> set[str]:
    run_id = RunId(run.run_id)
    if not item.parent:
        return {derive_item_id(run_id, "", "start")}
    if item.input.kind is InputKind.UNDO:
        return {undoing_id(run_id, WorkItemId(item.parent))}
    if item.input.kind is InputKind.PAGE:
        return {derive_item_id(run_id, item.input.opener, "page", (item.input.number,))}
    if item.input.kind is InputKind.JOINS:
        return {derive_item_id(run_id, item.parent, "joins")}
    if item.input.kind is InputKind.SWEEP:
        return {derive_item_id(run_id, item.input.opener, "sweep", (item.input.number,))}
    if item.input.kind is InputKind.FOLD:
        return {derive_item_id(run_id, item.parent, "fold")}
    joined = graph.nodes[item.node].join if item.node in graph.nodes else None
    if joined is not None and item.input.kind in (InputKind.JOIN, InputKind.PAYLOAD):
        return {_name_of_join(run_id, item, joined)}
    names: set[str] = set()
    if item.input.kind is InputKind.ARRIVALS:
        names.add(derive_item_id(run_id, item.input.opener, "join"))
    parent = run.items.get(item.parent)
    if parent is not None and item.order[: len(parent.order)] == parent.order:
        suffix = item.order[len(parent.order) :]
        leading = (edge for edge in graph.edges.values() if (edge.source, edge.target) == (parent.node, item.node))
        names.update(derive_item_id(run_id, parent.item_id, edge.id, suffix) for edge in leading)
    return names


def _name_of_join(run_id: RunId, item: WorkItem, join: EdgeJoin) -> str:
    """The id of an instance of a join of edges: its element and its iterations say which it is."""
    behind = len(item.order) - len(join.place)
    element = item.order[behind - 1 : behind] if join.per_element else ()
    counts = dict(item.loops)
    place = (*element, *(counts.get(edge, 0) for edge in join.loops))
    return derive_item_id(run_id, item.scope[-1] if item.scope else "", f"all of {item.node}", place)
