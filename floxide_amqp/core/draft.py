"""The graph of a workflow before it is compiled: what the user's paths add up to, with compound nodes opened.

Nothing is checked here but what cannot be put into a table: two nodes of one name, one edge with two bounds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from floxide_amqp.core.conditions import (
    EdgeCondition,
    OnFailure,
    Otherwise,
    ValueCondition,
    WhenMember,
    WhenTrue,
    WhenType,
)
from floxide_amqp.core.node import Node
from floxide_amqp.core.options import NodeOptions
from floxide_amqp.core.path import Link, Path
from floxide_amqp.exceptions import DefinitionError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DraftNode:
    """One node.

    Attributes:
        name: Unique in the draft.
        node: The node object.
        options: What it and the compound nodes around it ask for; open where they leave it open.
        wave: At most so many of its elements in flight; None for all.
    """

    name: str
    node: Node[Any, Any]
    options: NodeOptions
    wave: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftEdge:
    """One edge.

    Attributes:
        source, target: Names of nodes.
        condition: When it is taken.
        is_gather: Whether the target receives the list of all that arrive.
        max_iterations: Bound of an edge that leads back.
    """

    source: str
    target: str
    condition: EdgeCondition
    is_gather: bool = False
    max_iterations: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Values of a node whose branch ends there; without condition, all of them."""

    node: str
    condition: ValueCondition | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Draft:
    """A graph as tables.

    Attributes:
        entry: Name of the node that receives the input.
        exit: Of a compound node, name of the node whose values it passes on.
        nodes: By name, in the order met.
        edges: In the order written.
        endings: Branches that are declared to end.
        outlets: Once compiled, where the outputs of a whole run come from.
    """

    entry: str
    exit: str = ""
    nodes: dict[str, DraftNode] = field(default_factory=dict[str, DraftNode])
    edges: list[DraftEdge] = field(default_factory=list[DraftEdge])
    endings: list[Ending] = field(default_factory=list[Ending])
    outlets: tuple[Ending, ...] = ()

    def add_node(self, node: Node[Any, Any], *, wave: int | None = None) -> str:
        """Add a node unless it is there; return its name.

        Raises:
            DefinitionError: Another node has its name.
        """
        name = node.name
        known = self.nodes.get(name)
        if known is None:
            self.nodes[name] = DraftNode(name=name, node=node, options=node.options, wave=wave)
        elif not known.node.is_same(node):
            raise DefinitionError(
                f"Two different nodes are called {name!r}: {_origin(known.node)} and {_origin(node)}. "
                f"Give one of them another name: {name}.named('second_{name}')."
            )
        return name

    def connect(
        self,
        source: Node[Any, Any],
        target: Node[Any, Any],
        condition: EdgeCondition,
        *,
        is_gather: bool = False,
    ) -> None:
        """Add two nodes and an edge between them."""
        self.edges.append(
            DraftEdge(
                source=self.add_node(source), target=self.add_node(target), condition=condition, is_gather=is_gather
            )
        )


def draft_paths(start: Node[Any, Any], paths: Iterable[Path[Any, Any]]) -> Draft:
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
    )
    twins = known.setdefault((edge.source, edge.target), [])
    for twin in twins:
        if twin == edge:
            return
        if twin.condition == edge.condition and twin.is_gather == edge.is_gather:
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


def _origin(node: Node[Any, Any]) -> str:
    function = getattr(node, "__wrapped__", None)
    if function is not None:
        return f"the function {function.__module__}.{function.__qualname__}"
    return f"a {type(node).__name__} of {type(node).__module__}"


def _bound(edge: DraftEdge) -> str:
    return "none" if edge.max_iterations is None else f"repeat up to {edge.max_iterations}"
