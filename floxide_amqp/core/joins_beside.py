"""Which joins of edges wait for what comes from beside an item: a run that begins with it alone never has that.

One that the first value lets run waits for nobody.
"""

from __future__ import annotations

from floxide_amqp.core.graph import Graph


def join_beside(graph: Graph, node: str) -> str | None:
    """Return a join that a value of a node may come to, and values of others that do not come from it; None without.

    A join is not one of these if all ways to it lead through the node. One that the node itself is, and that it leads
    back to, gets its next values from behind the node.
    """
    after: dict[str, list[str]] = {}
    for edge in graph.edges.values():
        after.setdefault(edge.source, []).append(edge.target)
    behind = _reached(after, after.get(node, ()), "")
    past = _reached(after, (graph.start,), node)
    for name in sorted(behind):
        join = graph.nodes[name].join
        if join is None or not join.waits:
            continue
        if name in past:
            return name
        sources = {edge.source for edge in graph.edges.values() if edge.target == name}
        if name == node and not sources <= behind:
            return name
    return None


def _reached(after: dict[str, list[str]], first: tuple[str, ...] | list[str], without: str) -> set[str]:
    """Return the nodes that are reached from some, these included, on ways that do not pass another."""
    seen: set[str] = set()
    todo = [name for name in first if name != without]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += (target for target in after.get(name, ()) if target != without)
    return seen
