"""Graph algorithms on numbered vertices: near-linear, iterative, so that graphs of thousands of nodes are fine.

`edges[v]` lists the vertices that edges from `v` lead to.
"""

from __future__ import annotations

from collections.abc import Sequence

Edges = Sequence[Sequence[int]]

UNREACHED = -1


def predecessors(edges: Edges) -> list[list[int]]:
    """Return for each vertex the vertices with an edge to it."""
    found: list[list[int]] = [[] for _ in edges]
    for source, targets in enumerate(edges):
        for target in targets:
            found[target].append(source)
    return found


def reverse_postorder(edges: Edges, start: int) -> list[int]:
    """Return the vertices reachable from `start`, each after its predecessors except along edges that lead back."""
    finished: list[int] = []
    seen = {start}
    stack: list[tuple[int, int]] = [(start, 0)]
    while stack:
        vertex, position = stack.pop()
        targets = edges[vertex]
        while position < len(targets) and targets[position] in seen:
            position += 1
        if position == len(targets):
            finished.append(vertex)
            continue
        stack.append((vertex, position + 1))
        seen.add(targets[position])
        stack.append((targets[position], 0))
    finished.reverse()
    return finished


def dominators(edges: Edges, start: int) -> list[int]:
    """Return for each vertex the nearest other vertex on every way to it; `UNREACHED` for none, and for `start`.

    Source:
        Cooper, Harvey, Kennedy: "A Simple, Fast Dominance Algorithm", 2001.
    """
    order = reverse_postorder(edges, start)
    rank = {vertex: position for position, vertex in enumerate(order)}
    before = predecessors(edges)
    nearest = [UNREACHED] * len(edges)
    nearest[start] = start
    has_changed = True
    while has_changed:
        has_changed = False
        for vertex in order[1:]:
            common = UNREACHED
            for previous in before[vertex]:
                if nearest[previous] != UNREACHED:
                    common = previous if common == UNREACHED else _meet(previous, common, nearest, rank)
            if nearest[vertex] != common:
                nearest[vertex] = common
                has_changed = True
    nearest[start] = UNREACHED
    return nearest


def _meet(first: int, second: int, nearest: list[int], rank: dict[int, int]) -> int:
    while first != second:
        while rank[first] > rank[second]:
            first = nearest[first]
        while rank[second] > rank[first]:
            second = nearest[second]
    return first


def find_cycle(edges: Edges) -> list[int]:
    """Return the vertices of one cycle, in order; empty where there is none."""
    new, open_, done = 0, 1, 2
    state = [new] * len(edges)
    for root in range(len(edges)):
        if state[root] != new:
            continue
        path: list[int] = [root]
        positions: list[int] = [0]
        state[root] = open_
        while path:
            vertex, position = path[-1], positions[-1]
            if position == len(edges[vertex]):
                state[vertex] = done
                path.pop()
                positions.pop()
                continue
            positions[-1] += 1
            target = edges[vertex][position]
            if state[target] == open_:
                return path[path.index(target) :]
            if state[target] == new:
                state[target] = open_
                path.append(target)
                positions.append(0)
    return []


def topological_ranks(edges: Edges) -> list[int]:
    """Return for each vertex of a graph without cycles a rank greater than those of its predecessors."""
    missing = [len(sources) for sources in predecessors(edges)]
    ready = [vertex for vertex, count in enumerate(missing) if count == 0]
    ranks = [0] * len(edges)
    rank = 0
    while ready:
        vertex = ready.pop()
        ranks[vertex] = rank
        rank += 1
        for target in edges[vertex]:
            missing[target] -= 1
            if missing[target] == 0:
                ready.append(target)
    return ranks


def region(edges: Edges, first: Sequence[int], stop: int) -> list[int]:
    """Return what is reachable from `first` without passing `stop`, in the order found; `stop` is not part of it."""
    seen = {stop}
    found: list[int] = []
    todo = list(reversed(first))
    while todo:
        vertex = todo.pop()
        if vertex not in seen:
            seen.add(vertex)
            found.append(vertex)
            todo.extend(reversed(edges[vertex]))
    return found


def between(edges: Edges, before: Edges, ranks: Sequence[int], head: int, tail: int) -> set[int]:
    """Return the vertices on the ways from `head` to `tail` in a graph without cycles; empty where there is no way.

    It looks only at vertices ranked between the two, so that a small loop in a large graph costs little.
    """
    low, high = ranks[head], ranks[tail]
    if low > high:
        return set()
    after_head = _within(edges, head, ranks, low, high)
    return after_head & _within(before, tail, ranks, low, high) if tail in after_head else set()


def _within(edges: Edges, start: int, ranks: Sequence[int], low: int, high: int) -> set[int]:
    seen = {start}
    todo = [start]
    while todo:
        for target in edges[todo.pop()]:
            if target not in seen and low <= ranks[target] <= high:
                seen.add(target)
                todo.append(target)
    return seen


def postdominators(forward: Edges, ends: Sequence[int]) -> list[int]:
    """Return for each node the nearest other one on every way from it to an end; for an end the number behind all."""
    sink = len(forward)
    backwards = [*predecessors(forward), list(ends)]
    return dominators(backwards, sink)
