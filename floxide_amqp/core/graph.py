"""The compiled graph of a workflow: immutable, built once when the class is created, read by every step.

It holds nothing but plain nodes, edges and fan-outs: `BatchNode`, `SplitNode`, `CompositeNode` and ``collect`` are
turned into these before, so that whatever runs a graph needs no special case but `FanOut.wave`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from floxide_amqp.core.blueprint import AnyNode
from floxide_amqp.core.conditions import EdgeCondition
from floxide_amqp.core.edges import Edge, Repeat
from floxide_amqp.core.joins import ALL_THERE_ARE, EdgeJoin, Gathering
from floxide_amqp.core.options import NodeOptions, WorkflowOptions
from floxide_amqp.core.routing import FailureRouter, Router

if TYPE_CHECKING:  # these know the graph themselves, or are heavy to import
    from floxide_amqp.core.context import Context
    from floxide_amqp.core.payload import PayloadType
    from floxide_amqp.core.records import RunHeader
    from floxide_amqp.core.signals import Signal

__all__ = ["Edge", "FanOut", "Graph", "GraphNode", "NodeOptions", "Repeat", "WorkflowOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOut:
    """A node after which more than one item may be alive.

    Attributes:
        join: Name of the gather that closes it; None where nothing does.
        wave: At most so many of its elements in flight at a time; None for all. Only with `join`.
        first: So many arrivals at `join` close it; 0 where it ends when nothing in it is live.
    """

    join: str | None = None
    wave: int | None = None
    first: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNode:
    """One node of a graph.

    Attributes:
        name: Unique in the graph; nodes of an inlined workflow are called ``outer/inner``.
        node: The node object whose `invoke` runs.
        input: Type of its input; of a gather the list it receives.
        element: Type of what arrives at a gather; None for other nodes.
        output: Type of one value it passes on: of `NextAll`, one element.
        options: With queue and retry resolved against the workflow.
        is_gather: Whether it runs once for all that arrived.
        gathering: Of a gather, when it closes its fan-out.
        collected_by: The gather that a failure of this node arrives at; None where it fails the run.
        folds: Whether it is given what it gathers a page at a time.
        join: Set where it runs once for what came along several edges; else None.
        fan_out: Set where more than one item may follow; else None.
        success: Edges taken by values, in the order written.
        failure: Edges taken by errors, in the order written.
        endings: Conditions of values whose branch is declared to end here.
        router: Chooses among `success` and `endings`.
        failure_router: Chooses among `failure`.
    """

    name: str
    node: AnyNode
    input: PayloadType
    element: PayloadType | None = None
    output: PayloadType
    options: NodeOptions
    is_gather: bool = False
    gathering: Gathering = ALL_THERE_ARE
    collected_by: str | None = None
    folds: bool = False
    join: EdgeJoin | None = None
    fan_out: FanOut | None = None
    success: tuple[Edge, ...] = ()
    failure: tuple[Edge, ...] = ()
    endings: tuple[EdgeCondition, ...] = ()
    router: Router
    failure_router: FailureRouter


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A compiled workflow.

    Attributes:
        workflow: The workflow's name.
        version: The workflow's version.
        nodes: Every node by name, in the order met.
        edges: Every edge by id.
        start: Name of the node that receives the run's input.
        input: Type of the run's input.
        output: Type of the run's output; of one output where there may be many.
        many_outputs: Whether the result is the list of all outputs.
        context: The run's context class.
        options: What holds for whole runs and for nodes that say nothing themselves.
        signals: The signals that its runs take, by name; empty where that is not said.
        fingerprint: Digest of the graph's shape and types, the same in every process; 32 hexadecimal characters.
        has_compensations: Whether a node of it undoes another.
        has_children: Whether a node of it starts runs of other workflows.
        has_limits: Whether a node of it needs a concurrency key, or a run of it does.
        has_rates: Whether a node of it has a rate limit.
        on_cancel: Name of the node that runs first when a run is cancelled; None where there is none.
        has_joins: Whether there are joins of edges.
        closes_early: Whether a gather closes its fan-out while something in it may be live.
        joins_wait: Whether some of them need more than one arrival, so that some may wait when nothing else is live.
    """

    workflow: str
    version: str
    nodes: Mapping[str, GraphNode]
    edges: Mapping[str, Edge]
    start: str
    input: PayloadType
    output: PayloadType
    many_outputs: bool
    context: type[Context]
    options: WorkflowOptions
    fingerprint: str
    has_compensations: bool = False
    has_children: bool = False
    has_limits: bool = False
    has_rates: bool = False
    on_cancel: str | None = None
    has_joins: bool = False
    joins_wait: bool = False
    closes_early: bool = False
    signals: Mapping[str, Signal[Any]] = field(default_factory=dict[str, "Signal[Any]"])

    def queue_of(self, node: str, header: RunHeader) -> str:
        """Return the task queue for items of a node in a run, whose level counts only where all levels are served."""
        queue = self.nodes[node].options.queue
        return header.queue_for(queue) if self.options.priorities else queue

    def route(self, node: str, value: object) -> tuple[Edge, ...]:
        """Return the edges a value takes out of a node; none where its branch ends there.

        Args:
            node: Name of the node that returned the value.
            value: One value: of `NextAll`, one element.

        Raises:
            UnroutedValueError: The node has edges and none takes the value: it is not of the declared type.
            Exception: Whatever a guard or predicate of the workflow raises.
        """
        return self.nodes[node].router.route(value)

    def route_failure(self, node: str, kinds: tuple[str, ...]) -> tuple[Edge, ...]:
        """Return the edges an error takes out of a node; none where nothing handles it.

        Args:
            node: Name of the node that failed.
            kinds: ``module.Class`` of the error's class and its bases.
        """
        return self.nodes[node].failure_router.route(kinds)

    def edge(self, edge_id: str) -> Edge:
        """Return the edge with this id.

        Raises:
            KeyError: The graph has no such edge.
        """
        return self.edges[edge_id]

    def is_terminal(self, node: str) -> bool:
        """Say whether no success edge leaves a node, so that what it returns is an output or ends its branch."""
        return not self.nodes[node].success
