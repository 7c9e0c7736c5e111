"""Whether a newer version of a workflow may go on with runs of an older one as they are, node by node.

A node agrees when it is there in both versions, is of the same form, has the same edges, and each version reads what
the other one writes (workers of both may be at work side by side); and when every node agrees that its values may
reach. Fields may have been added with defaults; a field that is gone, a context that differs, a changed edge disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from floxide_amqp.core.descriptions import FLAGS, ContextDescription, Description, NodeDescription
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.shape_tables import Reading

EVERY_NODE: Final = ""
"""Under which name of a node a problem stands that is one of all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What two versions of a workflow have in common.

    Attributes:
        old, new: The versions.
        nodes: Names of the older version's nodes from which on a run may go on with the newer one.
        problems: Why not from the others, by name.
    """

    old: str
    new: str
    nodes: frozenset[str] = frozenset()
    problems: Mapping[str, str] = field(default_factory=dict[str, str])

    def why_not(self, node: str) -> str | None:
        """Return why an item of a node cannot go on with the newer version; None where it can."""
        if node in self.nodes:
            return None
        return self.problems.get(EVERY_NODE) or self.problems.get(node) or f"version {self.old} has no node {node!r}"


def agree(old: Description, new: Description) -> Agreement:
    """Compare an older version of a workflow with a newer one."""
    forwards = Reading(old.shapes, new.shapes, keeps_all=True)
    backwards = Reading(new.shapes, old.shapes, keeps_all=False)
    everywhere = _context_problem(old.context, new.context, forwards, backwards, "")
    if everywhere is None and old.many_outputs is not new.many_outputs:
        everywhere = "the result is one output in one version, and a list of them in the other"
    if everywhere is None:
        everywhere = _both("the output", old.output, new.output, forwards, backwards)
    everywhere = everywhere or _signal_problem(old, new, forwards, backwards)
    if everywhere is not None:
        return Agreement(old=old.version, new=new.version, problems={EVERY_NODE: everywhere})
    own = {
        name: _node_problem(name, node, new.nodes.get(name), forwards, backwards) for name, node in old.nodes.items()
    }
    problems = {name: problem for name, problem in own.items() if problem is not None}
    _spread(old, problems)
    agreed = frozenset(old.nodes) - frozenset(problems)
    return Agreement(old=old.version, new=new.version, nodes=agreed, problems=problems)


def _signal_problem(old: Description, new: Description, forwards: Reading, backwards: Reading) -> str | None:
    """Senders have either version, and any node may receive what they send."""
    for name, before in old.signals.items():
        after = new.signals.get(name)
        problem = None if after is None else _both(f"the values of signal {name!r}", before, after, forwards, backwards)
        if problem is not None:
            return problem
    return None


def _spread(old: Description, problems: dict[str, str]) -> None:
    """A node from which a way leads to one that does not agree, does not agree either."""
    comes_from: dict[str, list[str]] = {}
    for name, node in old.nodes.items():
        for target in node.leads_to:
            comes_from.setdefault(target, []).append(name)
    left = list(problems)
    while left:
        reached = left.pop()
        for name in comes_from.get(reached, ()):
            if name not in problems:
                reason = problems[reached]
                problems[name] = reason if reason.startswith("behind it, ") else f"behind it, {reason}"
                left.append(name)


def _node_problem(
    name: str, old: NodeDescription, new: NodeDescription | None, forwards: Reading, backwards: Reading
) -> str | None:
    if new is None:
        return f"node {name!r} is gone"
    if old.form != new.form:
        return f"node {name!r} was {old.form or 'plain'!r}, and is {new.form or 'plain'!r}"
    if old.calls != new.calls:
        was, now = old.calls or "no runs", f"starts {new.calls}" if new.calls else "does not any more"
        return f"node {name!r} started {was}, and {now}"
    if old.edges != new.edges:
        return f"other edges leave node {name!r}: {_differing(old.edges, new.edges)}"
    problem = _both(f"the input of node {name!r}", old.input, new.input, forwards, backwards)
    problem = problem or _both(f"the output of node {name!r}", old.output, new.output, forwards, backwards)
    if problem is None and old.element >= 0 and new.element >= 0:
        problem = _both(f"what arrives at node {name!r}", old.element, new.element, forwards, backwards)
    return problem


def _differing(old: tuple[str, ...], new: tuple[str, ...]) -> str:
    gone, added = [e.split(" ")[0] for e in old if e not in new], [e.split(" ")[0] for e in new if e not in old]
    parts = (f"without {', '.join(gone)}" if gone else "", f"with {', '.join(added)}" if added else "")
    return " and ".join(part for part in parts if part) or "in another order"


def _both(what: str, old: int, new: int, forwards: Reading, backwards: Reading) -> str | None:
    problem = forwards.problem(old, new)
    if problem is not None:
        return f"{what} changed: {problem}"
    problem = backwards.problem(new, old)
    return None if problem is None else f"{what} changed, and the older version does not read it: {problem}"


def _context_problem(
    old: Mapping[str, ContextDescription], new: Mapping[str, ContextDescription], forwards: Reading,
    backwards: Reading, path: str,
) -> str | None:  # fmt: skip
    """Workers of both versions merge one log: each must know every field that the other one may change."""
    for name in (*old, *(name for name in new if name not in old)):
        a, b, where = old.get(name), new.get(name), f"{path}{name}"
        if a is None or b is None:
            return f"the context's field {where!r} is in one version only"
        if a.kind != b.kind:
            return f"the context's field {where!r} was merged as {a.kind}, and is as {b.kind}"
        problem = _context_problem(a.fields, b.fields, forwards, backwards, f"{where}.")
        if problem is None and a.type >= 0:
            problem = _both(f"the context's field {where!r}", a.type, b.type, forwards, backwards)
        if problem is not None:
            return problem
    return None


def why_not_raised(
    old: Description, new: Description, node: str, depth: int, *, is_gathering: bool = False, is_routed: bool = False
) -> str | None:
    """Return why an item cannot be raised to a newer version where it is; None where it can.

    What joins wait for was counted by the older version's graph. So up to the joins that close the fan-outs around the
    item, the newer one must have the same nodes and edges; where there are joins of edges, on all ways.

    Args:
        old: The older version.
        new: The newer one.
        node: The item's node.
        depth: How many fan-outs there are around it.
        is_gathering: Whether its input is what arrived at it.
        is_routed: Whether it stands for values that are on their way along its edges.
    """
    reading, joins = Reading(old.shapes, new.shapes, keeps_all=False), "has_joins" in (*old.flags, *new.flags)
    if is_gathering and (problem := _gathers_otherwise(old, new, node, reading)) is not None:
        return problem
    left, seen = [(node, depth)], set[tuple[str, int]]()
    while left:
        place = name, around = left.pop()
        is_first_step = is_routed and not seen
        if place in seen or not (around or joins or is_first_step):
            continue
        seen.add(place)
        before, after = old.nodes.get(name), new.nodes.get(name)
        if before is None or after is None:
            return f"node {name!r} is in one version only"
        if before.form != after.form:
            return f"node {name!r} was {before.form!r}, and is {after.form!r}"
        if before.edges != after.edges:
            return f"other edges leave node {name!r}: {_differing(before.edges, after.edges)}"
        for target in before.targets:
            gathers = old.nodes[target].gathers
            if gathers and (problem := _gathers_otherwise(old, new, target, reading)) is not None:
                return problem
            left.append((target, around + bool(before.opens) - gathers))
    return None


def _gathers_otherwise(old: Description, new: Description, node: str, reading: Reading) -> str | None:
    before, after = old.nodes.get(node), new.nodes.get(node)
    if before is None or after is None or before.form != after.form:
        return f"node {node!r} does not gather as it did"
    problem = reading.problem(before.element, after.element)
    return None if problem is None else f"what arrived at node {node!r} changed: {problem}"


def stand_in(graph: Graph, old: Description, agreement: Agreement) -> Graph:
    """Return the newer version's graph as it runs what it may of the older one's runs: the nodes that agree."""
    nodes = {name: node for name, node in graph.nodes.items() if name in agreement.nodes}
    flags: dict[str, bool] = {flag: getattr(graph, flag) or flag in old.flags for flag in FLAGS}
    changed = replace(graph, version=old.version, nodes=MappingProxyType(nodes))
    return replace(changed, **flags)  # type: ignore[arg-type]  # they are the flags of a graph
