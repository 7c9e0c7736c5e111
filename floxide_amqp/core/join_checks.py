"""What is checked of joins over edges when a workflow class is created, and what the engine must know of each.

A source of a join must give at most one value per instance of the join: per scope, per element of the fan-out around
it, per iteration of a loop. What may run more often is found here and refused with a cure.
"""

from __future__ import annotations

from collections.abc import Sequence

from floxide_amqp.core.analysis import UNREACHED, between, dominators, predecessors, topological_ranks
from floxide_amqp.core.blueprint import DraftEdge
from floxide_amqp.core.checks import forward_edges
from floxide_amqp.core.conditions import spell_condition
from floxide_amqp.core.join_orders import JoinOrders
from floxide_amqp.core.joins import EdgeJoin, JoinShape
from floxide_amqp.core.layout import Layout
from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.scopes import Scopes
from floxide_amqp.core.type_names import describe_type
from floxide_amqp.core.typing_rules import assignable


def make_joins(layout: Layout, scopes: Scopes, edge_ids: Sequence[str]) -> dict[str, EdgeJoin]:
    """Return the joins of edges of a graph by the name of their node.

    Args:
        layout: The graph.
        scopes: Its fan-outs and the gathers that close them.
        edge_ids: The ids of its edges, in the order of the draft.

    Raises:
        DefinitionError: A source may run more often than its join, or is not in all the loops that the join is in.
    """
    return _Joins(layout, scopes, edge_ids).make() if layout.joins else {}


class _Joins:
    """The joins of edges of one graph."""

    def __init__(self, layout: Layout, scopes: Scopes, edge_ids: Sequence[str]) -> None:
        self._layout = layout
        self._scopes = scopes
        self._edge_ids = edge_ids
        self._forward = forward_edges(layout)
        self._before = predecessors(self._forward)
        self._ranks = topological_ranks(self._forward)
        self._order = sorted(range(len(layout.names)), key=self._ranks.__getitem__)
        self._joins = {layout.numbers[name] for name in layout.joins}
        self._into: dict[str, list[DraftEdge]] = {}
        for edge in layout.draft.edges:
            if edge.group is not None:
                self._into.setdefault(edge.target, []).append(edge)

    def make(self) -> dict[str, EdgeJoin]:
        levels, loops = self._levels(), self._loops()
        self._check_sources()
        orders = JoinOrders(self._layout, self._scopes, self._forward, self._order)
        return {
            name: self._make_one(name, orders.place(name), levels[self._layout.numbers[name]], loops.get(name, ()))
            for name in self._layout.names
            if name in self._into
        }

    def _make_one(self, name: str, place: tuple[int, ...], level: int, loops: tuple[str, ...]) -> EdgeJoin:
        layout = self._layout
        group = layout.joins[name]
        edges = sorted(self._into[name], key=lambda edge: edge.position)
        if len(edges) != group.size:  # two sources became one, as the ends of compound nodes may
            raise layout.error(f"{group.word}(...) >> {name} names the same source twice. Name it once.")
        parts = layout.parts(name, group)
        opener = self._scopes.region_of.get(layout.numbers[name])
        where = f"what node {name!r} joins"
        if group.shape is JoinShape.TUPLE and group.missing == "skip":
            self._check_may_be_missing(name, parts)
        return EdgeJoin(
            shape=group.shape,
            need=group.need,
            missing=group.missing,
            sources=tuple(f"{edge.source}{spell_condition(edge.condition)}" for edge in edges),
            parts=tuple(PayloadType.of(part, where=where) for part in parts),
            place=place,
            level=level,
            loops=loops,
            per_element=opener is not None and layout.signatures[layout.names[opener]].may_fan_out,
        )

    def _check_may_be_missing(self, name: str, parts: Sequence[object]) -> None:
        for position, part in enumerate(parts):
            if not assignable(None, part):
                raise self._layout.error(
                    f'all_of(..., missing="skip") >> {name}: {name!r} gets None for what does not come, but the type '
                    f"at position {position + 1} of its tuple is {describe_type(part)}. Annotate it with "
                    f'{describe_type(part)} | None, or leave missing="fail".'
                )

    # --- levels and loops

    def _levels(self) -> list[int]:
        """Return for each node a number greater than those of all nodes from which a way leads to it."""
        levels = [0] * len(self._layout.names)
        for number in self._order:
            for target in self._forward[number]:
                levels[target] = max(levels[target], levels[number] + 1)
        return levels

    def _loops(self) -> dict[str, tuple[str, ...]]:
        """Return for each join the bounded edges whose loops it is part of."""
        layout, found = self._layout, dict[str, list[str]]()
        for edge, edge_id in zip(layout.draft.edges, self._edge_ids, strict=True):
            if edge.max_iterations is None:
                continue
            head, tail = layout.numbers[edge.target], layout.numbers[edge.source]
            body = between(self._forward, self._before, self._ranks, head, tail)
            for name in (layout.names[number] for number in sorted(body & self._joins)):
                found.setdefault(name, []).append(edge_id)
                self._check_sources_in_loop(name, body, edge)
        return {name: tuple(ids) for name, ids in found.items()}

    def _check_sources_in_loop(self, name: str, body: set[int], loop: DraftEdge) -> None:
        layout = self._layout
        for edge in self._into[name]:
            if layout.numbers[edge.source] not in body:
                raise layout.error(
                    f"{layout.spell(edge)}: {name!r} is part of the loop of {layout.spell(loop)} and {edge.source!r} "
                    f"is not, so it would give its value once and {name!r} would wait for it in each iteration. Join "
                    "before the loop or behind it."
                )

    # --- how often a source may run

    def _check_sources(self) -> None:
        layout = self._layout
        often = self._often()
        for name, edges in self._into.items():
            for edge in edges:
                cause = often.get(layout.numbers[edge.source]) or self._emits_often(layout.numbers[edge.source], name)
                if cause:
                    raise layout.error(
                        f"{layout.spell(edge)}: {edge.source!r} may give several values, {cause}, and {name!r} needs "
                        "one. Close the fan-out before it with gather(...), or let the ways to it meet in a join."
                    )

    def _often(self) -> dict[int, str]:
        """Return the nodes that may run more than once per scope and element, each with the cause."""
        often: dict[int, str] = {}
        scopes = self._scopes
        leads_to_join = self._leading_to_joins()
        for number in self._order:
            if number in self._joins:
                continue
            if number in scopes.opener_of:  # a gather runs once for what opened its fan-out
                cause = often.get(scopes.opener_of[number], "")
            else:
                cause = next(filter(None, (self._from(source, number, often) for source in self._before[number])), "")
                if not cause and number in leads_to_join and len(self._before[number]) > 1:
                    cause = self._met_twice(number)
            if cause:
                often[number] = cause
        return often

    def _from(self, source: int, number: int, often: dict[int, str]) -> str:
        name = self._layout.names[number]
        if self._scopes.region_of.get(number) == source:
            return ""  # its items are in a scope of their own, one for each element
        return often.get(source) or self._emits_often(source, name)

    def _emits_often(self, source: int, target: str) -> str:
        """Say why a node may pass several values on to another at once; empty where it does not."""
        layout = self._layout
        name = layout.names[source]
        if not layout.signatures[name].may_fan_out or self._scopes.region_of.get(layout.numbers[target]) == source:
            return ""
        passes = any(edge.target == target for edge in layout.success[name])
        return f"because {name!r} returns NextAll and nothing gathers its elements before" if passes else ""

    def _leading_to_joins(self) -> set[int]:
        seen = set[int]()
        todo = list(self._joins)
        while todo:
            for source in self._before[todo.pop()]:
                if source not in seen:
                    seen.add(source)
                    todo.append(source)
        return seen

    def _met_twice(self, number: int) -> str:
        """Say which node opens two ways that meet in one that is no join, so that it runs for each; empty for none."""
        layout, scopes = self._layout, self._scopes
        nearest = dominators(self._before, number)
        for opener in scopes.fan_outs:
            is_closed = opener in scopes.join_of and opener != scopes.region_of.get(number)
            if is_closed or nearest[opener] != number or not scopes.takes_several_edges(layout.names[opener]):
                continue
            ways = {target for target in self._forward[opener] if target == number or nearest[target] != UNREACHED}
            if len(ways) > 1:
                return f"because several ways from {layout.names[opener]!r} meet in {layout.names[number]!r}"
        return ""
