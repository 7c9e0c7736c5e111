"""The graph of a workflow before it is compiled, as tables of nodes and edges, and what it must know of a node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from floxide_amqp.core.conditions import EdgeCondition, ValueCondition
from floxide_amqp.core.joins import ALL_THERE_ARE, Gathering, JoinGroup
from floxide_amqp.core.options import NodeOptions
from floxide_amqp.core.signature import NodeSignature
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import DefinitionError


class AnyNode(Protocol):
    """What a graph knows of a node, whatever its types; `floxide_amqp.core.node.Node` is the only one there is."""

    name: str

    @property
    def options(self) -> NodeOptions:
        """How it wants to be run."""
        ...

    @property
    def is_async(self) -> bool:
        """Whether `invoke` gives an awaitable."""
        ...

    @property
    def may_fan_out(self) -> bool:
        """Whether it may return `NextAll`."""
        ...

    @property
    def may_hold(self) -> bool:
        """Whether it may return `Hold`."""
        ...

    def signature(self) -> NodeSignature:
        """Return what it takes and returns."""
        ...

    def expand(self) -> Draft | None:
        """Return the plain nodes it stands for; None where it is one."""
        ...

    def is_same(self, other: AnyNode) -> bool:
        """Say whether another node of the same name is this one, written twice."""
        ...

    def invoke(self, ctx: WorkflowCtx[Any], value: Any) -> Any:
        """Call the user's code with an input; an awaitable where `is_async`."""
        ...


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
    node: AnyNode
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
        group: The join of edges that the target is; None where each value enters it alone.
        position: The edge's place among the sources of that join.
        gathering: Of an edge to a gather, when that closes its fan-out.
    """

    source: str
    target: str
    condition: EdgeCondition
    is_gather: bool = False
    max_iterations: int | None = None
    group: JoinGroup | None = None
    position: int = 0
    gathering: Gathering = ALL_THERE_ARE


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

    def add_node(self, node: AnyNode, *, wave: int | None = None) -> str:
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


def _origin(node: AnyNode) -> str:
    function = getattr(node, "__wrapped__", None)
    if function is not None:
        return f"the function {function.__module__}.{function.__qualname__}"
    return f"a {type(node).__name__} of {type(node).__module__}"
