"""From paths to a draft: what the user's paths add up to, with compound nodes opened.

Nothing is checked here but what cannot be put into a table: two nodes of one name, one edge with two bounds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from floxide_amqp.core.blueprint import AnyNode, Draft, DraftEdge, Ending
from floxide_amqp.core.conditions import OnFailure, Otherwise, WhenMember, WhenTrue, WhenType
from floxide_amqp.core.connections import Link
from floxide_amqp.core.path import Path
from floxide_amqp.exceptions import DefinitionError


def draft_paths(start: AnyNode, paths: Iterable[Path[Any, Any]]) -> Draft:
    """Return what paths add up to, compound nodes opened.

    Raises:
        DefinitionError: Nodes or edges contradict each other.
    """
    draft = Draft(entry="")
    draft.entry = draft.add_node(start)
    known: dict[tuple[str, str], list[DraftEdge]] = {}
    for path in paths:
        connections = path.connections()
        for entry in connections.entries:
            draft.add_node(entry.node)
        for link in connections.links:
            _add_link(draft, link, known)
        for out in connections.exits:
            draft.add_node(out.node)
            if out.group is not None:
                raise DefinitionError(
                    f"{out.group.word}(...) leads nowhere. Say what it is for: {out.group.word}(...) >> node."
                )
            if isinstance(out.condition, OnFailure):
                raise DefinitionError(
                    f"{out.spell()} leads nowhere. Say what follows the failure: {out.spell()} >> refund."
                )
            if isinstance(out.condition, WhenType | WhenMember | WhenTrue | Otherwise):
                draft.endings.append(Ending(node=out.node.name, condition=out.condition))
    return open_compounds(draft)


def _add_link(draft: Draft, link: Link, known: dict[tuple[str, str], list[DraftEdge]]) -> None:
    """Add an edge unless the same one was written in another path: paths add up."""
    edge = DraftEdge(
        source=draft.add_node(link.source.node),
        target=draft.add_node(link.target.node),
        condition=link.source.condition,
        is_gather=link.target.is_gather,
        max_iterations=link.target.max_iterations,
        group=link.source.group,
        position=link.source.position,
        gathering=link.target.gathering,
    )
    twins = known.setdefault((edge.source, edge.target), [])
    for twin in twins:
        if twin == edge:
            return
        is_alike = twin.condition == edge.condition and twin.is_gather == edge.is_gather
        if is_alike and twin.gathering == edge.gathering and twin.group is edge.group is None:
            raise DefinitionError(
                f"{link.source.spell()} leads to {edge.target!r} twice, with different bounds "
                f"({_bound(twin)} and {_bound(edge)}). Keep one of them."
            )
    twins.append(edge)
    draft.edges.append(edge)


def open_compounds(draft: Draft) -> Draft:
    """Return a draft in which every compound node is replaced by what it stands for, however nested."""
    while True:
        compounds = {name: inner for name, held in draft.nodes.items() if (inner := held.node.expand()) is not None}
        if not compounds:
            return draft
        draft = _open(draft, compounds)


def _open(draft: Draft, compounds: dict[str, Draft]) -> Draft:
    entries = {name: f"{name}/{inner.entry}" for name, inner in compounds.items()}
    exits = {name: f"{name}/{inner.exit}" for name, inner in compounds.items()}
    opened = Draft(entry=entries.get(draft.entry, draft.entry), exit=exits.get(draft.exit, draft.exit))
    for name, held in draft.nodes.items():
        if name not in compounds:
            opened.nodes[name] = held
            continue
        for inner_name, part in compounds[name].nodes.items():
            options = part.options.within(held.options)
            opened.nodes[f"{name}/{inner_name}"] = replace(part, name=f"{name}/{inner_name}", options=options)
    for edge in draft.edges:
        if edge.source in compounds and isinstance(edge.condition, OnFailure):
            raise DefinitionError(
                f"{edge.source}.on_failure: {edge.source!r} stands for several nodes, and a fallback receives the "
                "input of the one that failed. Put on_failure on the nodes inside it."
            )
        source, target = exits.get(edge.source, edge.source), entries.get(edge.target, edge.target)
        opened.edges.append(replace(edge, source=source, target=target))
    opened.endings += (replace(ending, node=exits.get(ending.node, ending.node)) for ending in draft.endings)
    for name, inner in compounds.items():
        opened.edges += (replace(e, source=f"{name}/{e.source}", target=f"{name}/{e.target}") for e in inner.edges)
        opened.endings += (replace(ending, node=f"{name}/{ending.node}") for ending in inner.endings)
    return opened


def _bound(edge: DraftEdge) -> str:
    return "none" if edge.max_iterations is None else f"repeat up to {edge.max_iterations}"
