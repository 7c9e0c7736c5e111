"""Pictures of a graph as text: Graphviz and Mermaid.

What closes a fan-out is a trapezium, what joins edges a house upside down (in Mermaid a hexagon), a fan-out a house (a
trapezium that opens), a child workflow has a double border; the lines in a node say the rest.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol, cast

from floxide_amqp.core.compensation import is_undoing
from floxide_amqp.core.conditions import OnFailure
from floxide_amqp.core.graph import Edge, Graph, GraphNode
from floxide_amqp.core.joins import JoinShape


def draw_dot(graph: Graph) -> str:
    """Return a graph in the language of Graphviz.

    Gathers are drawn as trapezia, joins of edges as houses upside down, fan-outs as houses, child workflows with a
    double border, failure edges dashed and red, edges that lead back dotted.
    """
    lines = [
        f"digraph {_quote(graph.workflow)} {{",
        "  rankdir=LR;",
        '  node [shape=box, style=rounded, fontname="Helvetica"];',
        '  edge [fontname="Helvetica", fontsize=10];',
        '  "<start>" [shape=circle, style=filled, fillcolor=black, label="", width=0.2];',
        f'  "<start>" -> {_quote(graph.start)} [label={_quote(graph.input.description)}];',
    ]
    for node in drawn(graph):
        label = "\\n".join(_escape(line) for line in _caption(node))
        lines.append(f'  {_quote(node.name)} [label="{label}"{_dot_shape(node)}];')
    lines += (
        f"  {_quote(edge.source)} -> {_quote(edge.target)}{_dot_attributes(edge)};" for edge in graph.edges.values()
    )
    return "\n".join([*lines, "}", ""])


def draw_mermaid(graph: Graph) -> str:
    """Return a graph as a Mermaid flowchart, with the same marks as `draw_dot`."""
    ids = {name: f"n{number}" for number, name in enumerate(graph.nodes)}
    lines = [
        "flowchart LR",
        "  start(( ))",
        f"  start -->|{_mermaid_text(graph.input.description)}| {ids[graph.start]}",
    ]
    for node in drawn(graph):
        opened, closed = _mermaid_shape(node)
        label = "<br/>".join(_mermaid_text(line, quoted=False) for line in _caption(node))
        lines.append(f'  {ids[node.name]}{opened}"{label}"{closed}')
    for edge in graph.edges.values():
        arrow = "-.->" if isinstance(edge.condition, OnFailure) or edge.repeat else "-->"
        label = _edge_label(edge)
        middle = f"|{_mermaid_text(label)}|" if label else ""
        lines.append(f"  {ids[edge.source]} {arrow}{middle} {ids[edge.target]}")
    return "\n".join([*lines, ""])


def drawn(graph: Graph) -> list[GraphNode]:
    """Return the nodes that edges lead to; a compensation is named in the node that it undoes."""
    return [node for node in graph.nodes.values() if not is_undoing(node.name)]


def _caption(node: GraphNode) -> list[str]:
    """Return the lines that stand in a node."""
    lines = [node.name, f"{node.input.description} -> {node.output.description}"]
    lines += _arrivals(node)
    if node.node.signature().may_hold:
        lines.append("may hold")
    if _is_child(node):
        lines.append(_child(cast("_Child", node.node)))
    if node.options.timeout is not None:
        lines.append(f"timeout {node.options.timeout}")
    lines += _limits(node)
    if node.options.labels:
        lines.append(f"needs {', '.join(sorted(node.options.labels))}")
    if node.options.compensation is not None:
        lines.append(f"undone by {node.options.compensation.name}")
    if node.fan_out is not None and node.fan_out.wave is not None:
        lines.append(f"at most {node.fan_out.wave} at a time")
    return lines


def _arrivals(node: GraphNode) -> list[str]:
    """Say what a node waits for that runs once for several values, as the workflow does: ``gather, at_most=3``."""
    if node.join is not None:
        join, number = node.join, len(node.join.sources)
        of_all = "any_of" if join.shape is JoinShape.ONE else "all_of" if join.need == number else f"{join.need} of"
        return [f"{of_all} {number} edges" + (", missing=skip" if join.missing == "skip" else "")]
    if not node.is_gather:
        return []
    if node.gathering.is_one:
        return ["first"]
    parts = ["reduce" if node.folds else "gather"]
    parts += [f"at_most={node.gathering.first}"] if node.gathering.first else []
    parts += ["errors=collect"] if node.gathering.collects else []
    return [", ".join(parts)]


class _Child(Protocol):
    """What is drawn of a `ChildWorkflow`, which knows workflows, which know this module."""

    waits: bool
    child_timeout: timedelta | None

    @property
    def graph(self) -> Graph: ...


def _is_child(node: GraphNode) -> bool:
    return node.node.signature().starts_run


def _limits(node: GraphNode) -> list[str]:
    lines: list[str] = []
    if (key := node.options.concurrency) is not None:
        lines.append(f"{key.limit} at a time {'of' if key.key is None else 'per'} {key.name}")
    if (rate := node.options.rate) is not None:
        within = rate.per if isinstance(rate.per, timedelta) else timedelta(seconds=rate.per)
        lines.append(f"{rate.limit} in {within} {'of' if rate.key is None else 'per'} {rate.name}")
    return lines


def _child(child: _Child) -> str:
    waits = "" if child.waits else ", not waited for"
    timeout = "" if child.child_timeout is None else f", timeout {child.child_timeout}"
    return f"run of {child.graph.workflow}{waits}{timeout}"


def _edge_label(edge: Edge) -> str:
    bound = "" if edge.repeat is None else f"repeat up to {edge.repeat.max_iterations}"
    return ", ".join(part for part in (edge.label, bound) if part)


def _dot_shape(node: GraphNode) -> str:
    if node.is_gather:
        return ", shape=invtrapezium, style=solid"
    if node.join is not None:
        return ", shape=invhouse, style=solid"
    if _is_child(node):
        return ", peripheries=2"
    return ", shape=house, style=solid" if node.fan_out is not None else ""


def _dot_attributes(edge: Edge) -> str:
    attributes: list[str] = []
    label = _edge_label(edge)
    if label:
        attributes.append(f"label={_quote(label)}")
    if isinstance(edge.condition, OnFailure):
        attributes += ("style=dashed", "color=red")
    elif edge.repeat is not None:
        attributes.append("style=dotted")
    return f" [{', '.join(attributes)}]" if attributes else ""


def _mermaid_shape(node: GraphNode) -> tuple[str, str]:
    if node.is_gather:
        return "[\\", "/]"
    if node.join is not None:
        return "{{", "}}"
    if _is_child(node):
        return "[[", "]]"
    return ("[/", "\\]") if node.fan_out is not None else ("(", ")")


def _quote(text: str) -> str:
    return f'"{_escape(text)}"'


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _mermaid_text(text: str, *, quoted: bool = True) -> str:
    """Return text with the characters Mermaid would read as its own written as entities."""
    entities = {"&": "&amp;", '"': "#quot;", "<": "&lt;", ">": "&gt;", "|": "#124;", "\n": " ", "#": "#35;"}
    escaped = "".join(entities.get(character, character) for character in text)
    return f'"{escaped}"' if quoted else escaped
