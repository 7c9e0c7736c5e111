"""What a version of a workflow is, written down: its graph, its payload types, its context. Kept in the store, once.

By it another version, which no longer has the code of this one, can tell whether it may go on with its runs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from floxide_amqp.core.child_workflow import is_child
from floxide_amqp.core.compensation import undone_by
from floxide_amqp.core.conditions import describe_condition
from floxide_amqp.core.context import Context, NestedField
from floxide_amqp.core.context_fields import FixedField, ValueField
from floxide_amqp.core.graph import Graph, GraphNode
from floxide_amqp.core.growing_fields import LogField
from floxide_amqp.core.shape_tables import ShapeTable
from floxide_amqp.core.shapes import Shape
from floxide_amqp.exceptions import CodecError

DESCRIPTION_FORMAT: Final = 1
"""Number of the form in which descriptions are stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDescription:
    """One node.

    Attributes:
        input, output, element: Types by number; of what is no gather `element` is -1.
        form: What it is apart from its types, as text: how it gathers, joins, fans out and ends.
        edges: The edges that leave it, as text, in their order.
        leads_to: The nodes that what it comes to may reach next, and those it belongs together with.
        targets: The nodes that its edges lead to.
        gathers: Whether it closes a fan-out.
        opens: The gather that closes the fan-out which it opens; empty where it opens none.
        calls: In words, the workflow whose runs it starts; empty where it starts none.
    """

    input: int
    output: int
    element: int
    form: str
    edges: tuple[str, ...]
    leads_to: tuple[str, ...]
    targets: tuple[str, ...] = ()
    gathers: bool = False
    opens: str = ""
    calls: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextDescription:
    """One field of a context.

    Attributes:
        kind: What it is, and how it is merged, as text.
        type: Its type by number; -1 of a nested context.
        has_default: Whether it may be absent.
        fields: Those of a nested context.
    """

    kind: str
    type: int
    has_default: bool
    fields: Mapping[str, ContextDescription] = field(default_factory=dict[str, "ContextDescription"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """One version of a workflow.

    Attributes:
        fingerprint: Of its graph.
        nodes: By name.
        context: The fields of its context.
        output: Type of the run's output by number.
        shapes: All types, by number.
        many_outputs: Whether its runs may have several.
        flags: What of the graph its runs' records depend on: children, limits, compensations, joins.
        signals: The types by number of the values of the signals that it declares.
    """

    workflow: str
    version: str
    fingerprint: str
    nodes: Mapping[str, NodeDescription]
    context: Mapping[str, ContextDescription]
    output: int
    many_outputs: bool
    flags: tuple[str, ...]
    signals: Mapping[str, int] = field(default_factory=dict[str, int])
    shapes: ShapeTable = field(compare=False)


FLAGS: Final = ("has_children", "has_limits", "has_compensations", "has_joins", "joins_wait", "closes_early")
"""What a graph has that the records of its runs depend on."""


def describe_graph(graph: Graph) -> Description:
    """Return what is written down of a workflow's version."""
    shapes = ShapeTable()
    together = _together(graph)
    return Description(
        workflow=graph.workflow,
        version=graph.version,
        fingerprint=graph.fingerprint,
        nodes={name: _node(node, shapes, together[name]) for name, node in graph.nodes.items()},
        context=_context(graph.context, shapes),
        output=shapes.add(graph.output.shape),
        many_outputs=graph.many_outputs,
        flags=tuple(flag for flag in FLAGS if getattr(graph, flag)),
        signals={name: shapes.add(signal.payload.shape) for name, signal in graph.signals.items()},
        shapes=shapes,
    )


def _together(graph: Graph) -> dict[str, list[str]]:
    """Return by node what values of it may reach next, and what belongs together with it.

    A gather and what opens its fan-out do, a join of edges and its sources, a node and what undoes it.
    """
    found: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for edge in graph.edges.values():
        found[edge.source].append(edge.target)
        if graph.nodes[edge.target].join is not None:
            found[edge.target].append(edge.source)
    for name, node in graph.nodes.items():
        gather = None if node.fan_out is None else node.fan_out.join
        if gather is not None:
            found[name].append(gather)
            found[gather].append(name)
        if node.collected_by is not None:
            found[name].append(node.collected_by)
        undone = undone_by(name)
        if undone in found and undone != name:
            found[undone].append(name)
            found[name].append(undone)
    return found


def _node(node: GraphNode, shapes: ShapeTable, together: list[str]) -> NodeDescription:
    edges = (*node.success, *node.failure)
    join = node.join
    form = [f"gather {node.gathering}" if node.is_gather else "", "folds" if node.folds else ""]
    form += [f"{node.fan_out}" if node.fan_out is not None else "", f"collected by {node.collected_by}"]
    if join is not None:
        form.append(f"joins {join.shape.value} {join.need} {join.missing} {join.sources} {join.loops}")
    form += [f"ends {describe_condition(ending)}" for ending in node.endings]
    compensation = node.options.compensation
    form.append("" if compensation is None else f"undone by {compensation.name}")
    return NodeDescription(
        input=shapes.add(node.input.shape),
        output=shapes.add(node.output.shape),
        element=-1 if node.element is None else shapes.add(node.element.shape),
        form="; ".join(part for part in form if part),
        edges=tuple(
            f"{edge.id} {describe_condition(edge.condition)} {edge.repeat} {edge.position} {edge.number}"
            for edge in edges
        ),
        leads_to=tuple(dict.fromkeys(together)),
        targets=tuple(dict.fromkeys(edge.target for edge in edges)),
        gathers=node.is_gather,
        opens="" if node.fan_out is None else node.fan_out.join or "",
        calls=_calls(node),
    )


def _calls(node: GraphNode) -> str:
    caller = node.node
    if not is_child(caller):
        return ""
    return f"runs of {caller.graph.workflow!r}{', waiting for them' if caller.waits else ''}"


def _context(context: type[Context], shapes: ShapeTable) -> dict[str, ContextDescription]:
    return {name: _field(each, shapes) for name, each in context.__context_fields__.items()}


def _field(given: Any, shapes: ShapeTable) -> ContextDescription:
    if isinstance(given, NestedField):
        return ContextDescription(
            kind="nested", type=-1, has_default=given.has_default, fields=_context(given.context, shapes)
        )
    kind = type(given).__name__
    if isinstance(given, ValueField) and not isinstance(given, FixedField):
        kind = f"{kind} {type(given.reducer).__name__}"
    shape: Shape = cast("LogField | ValueField", given).payload.shape
    return ContextDescription(kind=kind, type=shapes.add(shape), has_default=given.has_default)


# --- as bytes


def encode_description(description: Description) -> bytes:
    """Return a description as it is stored."""
    plain = {
        "format": DESCRIPTION_FORMAT,
        "workflow": description.workflow,
        "version": description.version,
        "fingerprint": description.fingerprint,
        "nodes": {name: dataclasses.asdict(node) for name, node in description.nodes.items()},
        "context": {name: dataclasses.asdict(each) for name, each in description.context.items()},
        "output": description.output,
        "many_outputs": description.many_outputs,
        "flags": description.flags,
        "signals": dict(description.signals),
        "shapes": description.shapes.to_plain(),
    }
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False).encode()


def decode_description(data: bytes) -> Description:
    """Return the description that bytes stand for.

    Raises:
        CodecError: They are none, or of a newer release.
    """
    try:
        plain: dict[str, Any] = json.loads(data)
        if plain["format"] != DESCRIPTION_FORMAT:
            raise CodecError(f"A description of a workflow has format {plain['format']!r}, which is not known here.")
        return Description(
            workflow=plain["workflow"], version=plain["version"], fingerprint=plain["fingerprint"],
            nodes={
                name: NodeDescription(
                    input=node["input"], output=node["output"], element=node["element"], form=node["form"],
                    edges=tuple(node["edges"]), leads_to=tuple(node["leads_to"]), targets=tuple(node["targets"]),
                    gathers=node["gathers"], opens=node["opens"], calls=node.get("calls", ""),
                )
                for name, node in plain["nodes"].items()
            },
            context={name: _field_from(each) for name, each in plain["context"].items()},
            output=plain["output"], many_outputs=plain["many_outputs"], flags=tuple(plain["flags"]),
            signals=dict(plain.get("signals", {})),
            shapes=ShapeTable.from_plain(plain["shapes"]),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CodecError(f"This is no description of a workflow: {type(error).__name__}: {error}") from error


def _field_from(plain: Mapping[str, Any]) -> ContextDescription:
    fields = {name: _field_from(each) for name, each in plain["fields"].items()}
    return ContextDescription(kind=plain["kind"], type=plain["type"], has_default=plain["has_default"], fields=fields)
