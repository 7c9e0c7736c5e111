"""From what a workflow class says to the immutable graph its runs follow."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from floxide_amqp.core import checks
from floxide_amqp.core.blueprint import Draft, DraftNode
from floxide_amqp.core.conditions import OnFailure, ValueCondition, identify_condition
from floxide_amqp.core.graph import Edge, FanOut, Graph, GraphNode, Repeat
from floxide_amqp.core.join_checks import make_joins
from floxide_amqp.core.joins import ALL_THERE_ARE, EdgeJoin
from floxide_amqp.core.layout import Declared, Layout
from floxide_amqp.core.payload import PayloadType
from floxide_amqp.core.process_checks import check_runs_in_process
from floxide_amqp.core.reduce_node import ReduceNode
from floxide_amqp.core.routing import Router, failure_router, make_way
from floxide_amqp.core.run_outputs import Outputs, outputs_of
from floxide_amqp.core.scopes import Scopes
from floxide_amqp.core.type_args import is_never, list_of
from floxide_amqp.core.undoing_nodes import undoing_nodes
from floxide_amqp.exceptions import DefinitionError


def compile_graph(declared: Declared, draft: Draft) -> Graph:
    """Check a draft and return its graph.

    The draft's `outlets` are filled in, so that the workflow can be inlined into another.

    Args:
        declared: What the workflow says about itself.
        draft: Its nodes and edges, compound nodes opened.

    Raises:
        DefinitionError: The first thing that is wrong; names the nodes, the types and the cure.
    """
    layout = Layout(declared, draft)
    for name in layout.gathers:
        layout.element(name)
    checks.check_start(layout)
    checks.check_contexts(layout)
    checks.check_conditions(layout)
    checks.check_edges(layout)
    checks.check_reachable(layout)
    checks.check_cycles(layout)
    nested = checks.nested_loops(layout)
    scopes = Scopes(layout)
    edges = _make_edges(layout, nested)
    sources = _Sources(edges)
    joins = make_joins(layout, scopes, [edge.id for edge in edges])
    outputs = outputs_of(layout, scopes)
    draft.outlets = outputs.outlets
    nodes = {name: _make_node(layout, scopes, held, sources, joins.get(name)) for name, held in draft.nodes.items()}
    undoing = undoing_nodes(layout, nodes.values(), declared.on_cancel)
    for node in (*nodes.values(), *undoing):
        check_runs_in_process(node, where=f"Workflow {declared.name!r}", is_undoing=node.name not in nodes)
    nodes |= {node.name: node for node in undoing}
    return Graph(
        workflow=declared.name,
        version=declared.version,
        nodes=MappingProxyType(nodes),
        edges=MappingProxyType({edge.id: edge for edge in edges}),
        start=draft.entry,
        input=PayloadType.of(declared.input, where=f"the input of workflow {declared.name!r}"),
        output=_output_type(declared, outputs),
        many_outputs=outputs.are_many,
        context=declared.context,
        options=declared.options,
        fingerprint=_fingerprint(declared, nodes, edges),
        has_children=any(node.node.signature().starts_run for node in nodes.values()),
        has_limits=_has_limits(declared, nodes),
        has_rates=any(node.options.rate is not None for node in nodes.values()),
        has_compensations=any(node.options.compensation is not None for node in nodes.values()),
        on_cancel=None if declared.on_cancel is None else undoing[-1].name,
        has_joins=bool(joins),
        closes_early=any(gathering.first for gathering in layout.gathers.values()),
        joins_wait=any(join.waits for join in joins.values()),
        signals=MappingProxyType(dict(declared.signals)),
    )


def _has_limits(declared: Declared, nodes: Mapping[str, GraphNode]) -> bool:
    """Whether steps or runs need concurrency keys; a step may not wait for what its own run holds."""
    whole = declared.options.concurrency
    limits = {name: node.options.concurrency for name, node in nodes.items() if node.options.concurrency is not None}
    for name, limit in limits.items():
        if whole is not None and limit.name == whole.name:
            raise DefinitionError(
                f"Workflow {declared.name!r} and its node {name!r} have the same limit {whole.name!r}: the step would "
                "wait for a key that its own run holds. Give one of the two limits another name."
            )
    return whole is not None or bool(limits)


def _output_type(declared: Declared, outputs: Outputs) -> PayloadType:
    annotation = None if is_never(outputs.annotation) else outputs.annotation
    return PayloadType.of(annotation, where=f"the output of workflow {declared.name!r}")


def _make_edges(layout: Layout, nested: Mapping[int, tuple[int, ...]]) -> list[Edge]:
    """Return the edges in the order written, each with its id and its bound."""
    counts: Counter[str] = Counter()
    ids: list[str] = []
    for edge in layout.draft.edges:
        pair = f"{edge.source}>{edge.target}"
        counts[pair] += 1
        ids.append(pair if counts[pair] == 1 else f"{pair}#{counts[pair]}")
    made: list[Edge] = []
    numbers: Counter[tuple[str, bool]] = Counter()
    for position, edge in enumerate(layout.draft.edges):
        way = (edge.source, isinstance(edge.condition, OnFailure))
        numbers[way] += 1
        repeat = None
        if edge.max_iterations is not None:
            resets = tuple(ids[inner] for inner in nested[position])
            repeat = Repeat(max_iterations=edge.max_iterations, resets=resets)
        made.append(
            Edge(
                id=ids[position],
                source=edge.source,
                target=edge.target,
                condition=edge.condition,
                repeat=repeat,
                position=edge.position,
                number=numbers[way] - 1,
            )
        )
    return made


class _Sources:
    """The edges by the node they leave."""

    def __init__(self, edges: list[Edge]) -> None:
        self.success: dict[str, list[Edge]] = {}
        self.failure: dict[str, list[Edge]] = {}
        for edge in edges:
            table = self.failure if isinstance(edge.condition, OnFailure) else self.success
            table.setdefault(edge.source, []).append(edge)


def _make_node(layout: Layout, scopes: Scopes, held: DraftNode, sources: _Sources, join: EdgeJoin | None) -> GraphNode:
    name = held.name
    signature = layout.signatures[name]
    where = f"node {name!r}"
    is_gather = name in layout.gathers
    element: Any = layout.element(name) if is_gather else None
    gathering = layout.gathers.get(name, ALL_THERE_ARE)
    wanted: Any = list_of(element) if is_gather and not gathering.is_one else signature.input
    output = PayloadType.of(None if is_never(signature.output) else signature.output, where=f"the output of {where}")
    success, failure = tuple(sources.success.get(name, ())), tuple(sources.failure.get(name, ()))
    return GraphNode(
        name=name,
        node=held.node,
        input=PayloadType.of(wanted, where=f"the input of {where}"),
        element=PayloadType.of(element, where=f"what {where} gathers") if is_gather else None,
        output=output,
        options=held.options.within(layout.declared.options),
        is_gather=is_gather,
        gathering=gathering,
        collected_by=scopes.collected_by(name),
        folds=is_gather and isinstance(held.node, ReduceNode),
        join=join,
        fan_out=_fan_out(layout, scopes, held),
        success=success,
        failure=failure,
        endings=tuple(layout.endings[name]),
        router=_make_router(name, success, layout.endings[name], output),
        failure_router=failure_router(failure),
    )


def _make_router(name: str, success: tuple[Edge, ...], endings: list[ValueCondition], output: PayloadType) -> Router:
    ways = [make_way(edge.condition, edge, output) for edge in success if not isinstance(edge.condition, OnFailure)]
    ways += (make_way(condition, None, output) for condition in endings)
    return Router(name, tuple(ways))


def _fan_out(layout: Layout, scopes: Scopes, held: DraftNode) -> FanOut | None:
    if layout.numbers[held.name] not in scopes.fan_outs:
        return None
    join = scopes.join_name(held.name)
    first = 0 if join is None else layout.gathers[join].first
    return FanOut(join=join, wave=held.wave if join is not None else None, first=first)


def _fingerprint(declared: Declared, nodes: Mapping[str, GraphNode], edges: list[Edge]) -> str:
    """Digest what a run in progress depends on: names, types, edges and their conditions, not options."""
    lines = [declared.name, declared.version]
    for node in nodes.values():
        lines.append(f"{node.name}\x1f{node.input.description}\x1f{node.output.description}\x1f{node.is_gather}")
        if node.gathering != ALL_THERE_ARE:
            lines.append(f"{node.name}\x1fgathers\x1f{node.gathering}")
        if node.join is not None:
            lines.append(f"{node.name}\x1fjoins\x1f{node.join.shape.value}\x1f{node.join.need}\x1f{node.join.missing}")
        lines += (f"{node.name}\x1fends\x1f{identify_condition(condition)}" for condition in node.endings)
    for edge in edges:
        bound = edge.repeat.max_iterations if edge.repeat else 0
        lines.append(f"{edge.id}\x1f{identify_condition(edge.condition)}\x1f{bound}")
        if edge.position:
            lines.append(f"{edge.id}\x1fat\x1f{edge.position}")
    return hashlib.blake2b("\x1e".join(lines).encode(), digest_size=16).hexdigest()
