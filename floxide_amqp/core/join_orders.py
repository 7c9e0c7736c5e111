"""Where the items of joins over edges stand among those of their fan-outs, so that a gather sees fan-out order.

An item's place is that of its parent and the number of the edge it came by. A join has several parents. It stands where
the fan-out stood whose branches all meet in it; of a fan-out some of whose branches go elsewhere, at the first branch
that leads to it. That follows from the graph alone, so that each of its sources can say it.
"""

from __future__ import annotations

from collections.abc import Sequence

from floxide_amqp.core.analysis import UNREACHED, dominators, postdominators
from floxide_amqp.core.layout import Layout
from floxide_amqp.core.scopes import Scopes


class JoinOrders:
    """The places of joins, within the scope around each.

    Args:
        layout: The graph.
        scopes: Its fan-outs and the gathers that close them.
        forward: Its edges, without those that lead back.
        order: Its nodes, each behind those that lead to it.
    """

    def __init__(self, layout: Layout, scopes: Scopes, forward: Sequence[Sequence[int]], order: Sequence[int]) -> None:
        self._layout = layout
        self._scopes = scopes
        self._joins = {layout.numbers[name] for name in layout.joins}
        self._nearest = dominators(forward, layout.numbers[layout.draft.entry])
        self._rank = {number: rank for rank, number in enumerate(order)}
        self._before: list[list[int]] = [[] for _ in layout.names]
        self._below: list[list[int]] = [[] for _ in layout.names]
        for number in order:
            for target in forward[number]:
                self._before[target].append(number)
            if self._nearest[number] != UNREACHED:
                self._below[self._nearest[number]].append(number)
        ends = [number for number, name in enumerate(layout.names) if layout.endings[name] or not forward[number]]
        self._spans = _spans(postdominators(forward, ends))
        self._places: dict[int, tuple[int, ...]] = {}
        self._first: dict[int, dict[int, int]] = {}
        for number in (number for number in order if number in self._joins):
            self._places[number] = self._find(number)

    def place(self, name: str) -> tuple[int, ...]:
        """Return where a join stands in its scope."""
        return self._places[self._layout.numbers[name]]

    def _find(self, join: int) -> tuple[int, ...]:
        opener = self._scopes.region_of.get(join)
        parts: list[int] = []
        current = self._nearest[join]
        while current != UNREACHED:
            if current in self._places and current != opener:
                return (*self._places[current], *self._number_at(current, join), *reversed(parts))
            if current in self._scopes.opener_of and current != opener:
                parts += self._number_at(current, join)
                current = self._nearest[self._scopes.opener_of[current]]
                continue
            parts += self._number_at(current, join)
            if current == opener:
                break
            current = self._nearest[current]
        return tuple(reversed(parts))

    def _number_at(self, opener: int, join: int) -> tuple[int, ...]:
        """Return the number of the first branch of a fan-out that leads to a join, unless all of them meet there."""
        name = self._layout.names[opener]
        if opener not in self._scopes.fan_outs or not self._scopes.takes_several_edges(name):
            return ()
        if opener != self._scopes.region_of.get(join) and self._is_behind(join, opener):
            return ()
        if opener not in self._first:
            self._first[opener] = self._first_branches(opener)
        return (self._first[opener][join],)

    def _first_branches(self, opener: int) -> dict[int, int]:
        """Return for each node that a fan-out dominates the number of its first branch that leads there."""
        layout = self._layout
        branches: dict[int, int] = {}
        for number, edge in enumerate(layout.success[layout.names[opener]]):
            target = layout.numbers[edge.target]
            branches[target] = min(number, branches.get(target, number))
        first: dict[int, int] = {}
        below = list(self._below[opener])
        for number in below:
            below.extend(self._below[number])
        for number in sorted(below, key=self._rank.__getitem__):
            known = [first[source] for source in self._before[number] if source != opener]
            first[number] = min([*known, branches.get(number, 0)] if opener in self._before[number] else known)
        return first

    def _is_behind(self, join: int, opener: int) -> bool:
        """Whether every way from a fan-out passes a join."""
        begins, ends = self._spans[join]
        return begins <= self._spans[opener][0] <= ends


def _spans(nearest: Sequence[int]) -> list[tuple[int, int]]:
    """Number the vertices of a tree of dominators so that those below one follow it: its number, and the last below."""
    below: list[list[int]] = [[] for _ in nearest]
    roots: list[int] = []
    for number, above in enumerate(nearest):
        (roots if above == UNREACHED else below[above]).append(number)
    spans = [(0, 0)] * len(nearest)
    count = 0
    todo = [(root, False) for root in roots]
    while todo:
        number, is_done = todo.pop()
        if is_done:
            spans[number] = (spans[number][0], count - 1)
            continue
        spans[number] = (count, count)
        count += 1
        todo.append((number, True))
        todo += ((inner, False) for inner in below[number])
    return spans
