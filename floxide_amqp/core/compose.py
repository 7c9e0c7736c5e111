"""Nodes that stand for several: they are opened into plain nodes when a workflow is compiled.

`SplitNode` is a fan-out made of a function, `BatchNode` a fan-out and a gather around one node, `CompositeNode` a whole
workflow. Their inner nodes are steps of the same run, durable one by one, and called ``outer/inner``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, cast, get_args

from typing_extensions import TypeVar

from floxide_amqp.core.blueprint import AnyNode, Draft, DraftEdge, DraftNode
from floxide_amqp.core.conditions import ALWAYS, describe_function
from floxide_amqp.core.entering import gather
from floxide_amqp.core.node import Node
from floxide_amqp.core.node_names import check_name
from floxide_amqp.core.options import NodeOptions
from floxide_amqp.core.path import Path
from floxide_amqp.core.signature import EnclosingNames, NodeSignature, read_function
from floxide_amqp.core.transition import NextAll
from floxide_amqp.core.type_args import is_never, list_of, plain_type
from floxide_amqp.core.type_names import describe_type
from floxide_amqp.core.typing_rules import covers
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.core.workflow_ctx import WorkflowCtx
from floxide_amqp.exceptions import DefinitionError

T = TypeVar("T")
A_contra = TypeVar("A_contra", contravariant=True)
B_co = TypeVar("B_co", covariant=True)
A = TypeVar("A")
B = TypeVar("B")
WI = TypeVar("WI")
WO = TypeVar("WO")


class _Compound(Node[A_contra, B_co]):
    """What the nodes of this module share: they know their signature, and run nothing themselves."""

    _needs_arguments = False

    def __init__(self, name: str, signature: NodeSignature) -> None:
        self.name = check_name(name, where=type(self).__name__)
        self._known = signature

    def signature(self) -> NodeSignature:
        """Return what the node takes and returns."""
        return self._known


class _Several(_Compound[A_contra, B_co]):
    """A node that is opened: of its options only those can be set that its inner nodes may leave open."""

    def with_options(self, **options: Any) -> Self:
        """Return a copy with another queue, labels or retry policy for inner nodes without their own.

        Raises:
            DefinitionError: Another option is given.
        """
        for name in options:
            if name not in ("queue", "labels", "retry"):
                raise DefinitionError(
                    f"{self.name!r} stands for several nodes, so {name} cannot be set for it. Set it on those inside."
                )
        return super().with_options(**options)


class _PassOn(_Compound[T, T]):
    """Returns what it receives."""

    async def process(self, ctx: WorkflowCtx[Any], input: T, /) -> T:
        """Return the input."""
        del ctx
        return input


class _PassOnEach(_Compound[Sequence[T], T]):
    """Goes on with each element of a list."""

    async def process(self, ctx: WorkflowCtx[Any], input: Sequence[T], /) -> NextAll[T]:
        """Fan out."""
        del ctx
        return NextAll(input)


class SplitNode(_Compound[A_contra, B_co]):
    """A fan-out made of a function: what it returns is passed on element by element.

    Args:
        function: A plain function of the input, annotated; it returns a sequence.
        name: The node's name; the function's where none is given.

    Raises:
        DefinitionError: The function's annotations do not say what it takes, or it returns no sequence.
    """

    def __init__(self, function: Callable[[A_contra], Sequence[B_co]], *, name: str = "") -> None:
        shown = describe_function(function)
        where = f"SplitNode({shown})"
        if inspect.iscoroutinefunction(function):
            raise DefinitionError(f"{where}: the function is async. Write a node instead that returns NextAll([...]).")
        names = EnclosingNames(getattr(function, "__qualname__", ""), getattr(function, "__globals__", {}))()
        found = read_function(function, names, where=where)
        element = _element_of(found.output)
        if element is None or found.takes_ctx or found.may_fan_out:
            raise DefinitionError(
                f"{where} returns {describe_type(found.output)}; it must take the input alone and return a sequence, "
                "such as list[int]. What needs the WorkflowCtx is a node that returns NextAll([...])."
            )
        signature = NodeSignature(input=found.input, output=element, takes_ctx=False, is_async=False, may_fan_out=True)
        super().__init__(name or shown, signature)
        self._function = function

    def is_same(self, other: AnyNode) -> bool:
        """Say whether another node of the same name splits by the same function."""
        return isinstance(other, SplitNode) and cast(Any, other)._function is self._function

    def process(self, ctx: WorkflowCtx[Any], input: A_contra, /) -> NextAll[B_co]:
        """Call the function and fan out."""
        del ctx
        return NextAll(self._function(input))


class BatchNode(_Several[list[A], list[B]]):
    """Runs one node for each element of a list and gathers the results in order; each element is a durable step.

    Args:
        node: The node for one element; any node, a `CompositeNode` too.
        max_in_flight: At most so many elements at a time, 1 or more; None for all at once.
        name: The node's name; ``<node>_batch`` where none is given.

    Raises:
        DefinitionError: `node` is none, or the bound is not a positive number.
    """

    def __init__(self, node: Node[A, B], *, max_in_flight: int | None = None, name: str = "") -> None:
        given = cast(object, node)
        if not isinstance(given, Node):
            raise DefinitionError(
                f"BatchNode({given!r}): it takes one node. For several use a workflow: BatchNode(CompositeNode(W))."
            )
        bound = cast(object, max_in_flight)
        if bound is not None and (not isinstance(bound, int) or isinstance(bound, bool) or bound < 1):
            raise DefinitionError(
                f"BatchNode({node.name}, max_in_flight={bound!r}): it must be a whole number, 1 or more."
            )
        inner = node.signature()
        output = inner.output
        if is_never(output):
            raise DefinitionError(
                f"BatchNode({node.name}): {node.name!r} never returns a value, so nothing can be gathered."
            )
        signature = NodeSignature(input=list_of(inner.input), output=list_of(output), context=inner.context)
        super().__init__(name or f"{node.name}_batch", signature)
        self._inner = node
        self._max_in_flight = max_in_flight

    def is_same(self, other: AnyNode) -> bool:
        """Say whether another node of the same name runs the same node with the same bound."""
        if not isinstance(other, BatchNode):
            return False
        twin = cast(Any, other)
        is_equal = self._max_in_flight == twin._max_in_flight and self.options == twin.options
        return is_equal and self._inner.name == twin._inner.name and self._inner.is_same(twin._inner)

    def expand(self) -> Draft:
        """Return the fan-out, the node and the gather this node stands for."""
        listed, results = self._known.input, self._known.output
        split = NodeSignature(input=listed, output=self._inner.signature().input, may_fan_out=True)
        join = NodeSignature(input=results, output=results)
        draft = Draft(entry="split", exit="join")
        draft.add_node(_PassOnEach[Any]("split", split), wave=self._max_in_flight)
        draft.nodes["item"] = DraftNode(name="item", node=self._inner, options=self._inner.options)
        draft.add_node(_PassOn[Any]("join", join))
        draft.edges = [
            DraftEdge(source="split", target="item", condition=ALWAYS),
            DraftEdge(source="item", target="join", condition=ALWAYS, is_gather=True),
        ]
        return draft


class CompositeNode(_Several[WI, WO]):
    """A whole workflow as a node of another: its nodes become steps of the outer run and share its context.

    Args:
        workflow: A workflow with one output, and without a timeout or a limit of its runs.
        name: The node's name; the workflow's where none is given.

    Raises:
        DefinitionError: The workflow cannot be inlined; names why.
    """

    def __init__(self, workflow: type[WorkflowDefinition[WI, WO, Any]], *, name: str = "") -> None:
        graph = getattr(workflow, "graph", None)
        if graph is None:
            raise DefinitionError(f"CompositeNode({workflow!r}): it takes a workflow class that has a start.")
        if graph.many_outputs:
            raise DefinitionError(
                f"CompositeNode({graph.workflow}): it may end more than once, but a node passes on one value. "
                "Close its fan-out with gather(...)."
            )
        if graph.options.timeout is not None:
            raise DefinitionError(
                f"CompositeNode({graph.workflow}): its steps are part of the outer run, which its own timeout of "
                f"{graph.options.timeout.total_seconds():g} s cannot end. Set the timeout of the outer workflow."
            )
        if graph.options.concurrency is not None:
            raise DefinitionError(
                f"CompositeNode({graph.workflow}): its steps are part of the outer run, which its own limit "
                f"{graph.options.concurrency.name!r} cannot hold back. Limit the runs of the outer workflow, or let it "
                f"be a run of its own: ChildWorkflow({graph.workflow})."
            )
        signature = NodeSignature(input=graph.input.annotation, output=graph.output.annotation, context=graph.context)
        super().__init__(name or graph.workflow, signature)
        self._workflow = workflow

    def is_same(self, other: AnyNode) -> bool:
        """Say whether another node of the same name stands for the same workflow."""
        is_mine = isinstance(other, CompositeNode) and cast(Any, other)._workflow is self._workflow
        return is_mine and self.options == other.options

    def expand(self) -> Draft:
        """Return the workflow's nodes, with one node that all its outputs come from."""
        inner, defaults = self._workflow.draft(), self._workflow.defaults()
        draft = Draft(entry=inner.entry)
        for name, held in inner.nodes.items():
            draft.nodes[name] = _with_defaults(held, defaults)
        draft.edges, draft.endings = list(inner.edges), list(inner.endings)
        only = inner.outlets[0] if len(inner.outlets) == 1 else None
        if only is not None and only.condition is None and self._returns_the_same(only.node, inner):
            draft.exit = only.node
            return draft
        self._add_end(draft, inner)
        return draft

    def _returns_the_same(self, name: str, inner: Draft) -> bool:
        return bool(inner.nodes[name].node.signature().output == self._known.output)

    def _add_end(self, draft: Draft, inner: Draft) -> None:
        """Lead all outputs to one node that passes them on, so that the outer edges have one place to start from."""
        output = self._known.output
        end = "end" if "end" not in draft.nodes else "workflow end"
        signature = NodeSignature(input=output, output=output)
        draft.exit = draft.add_node(_PassOn[Any](end, signature))
        draft.endings = [ending for ending in inner.endings if ending not in inner.outlets]
        draft.edges += (
            DraftEdge(
                source=outlet.node, target=end, condition=ALWAYS if outlet.condition is None else outlet.condition
            )
            for outlet in inner.outlets
        )


def collect(element: type[T], *, name: str = "collect") -> Path[T, list[T]]:
    """Close a fan-out and go on with the list of what arrived, in fan-out order: a `gather` of nothing but the list.

    Args:
        element: The type of what arrives.
        name: The node's name, for a second one in the same graph.
    """
    listed = list_of(element)
    signature = NodeSignature(input=listed, output=listed)
    return gather(_PassOn[list[T]](name, signature))


def _with_defaults(held: DraftNode, defaults: NodeOptions) -> DraftNode:
    return DraftNode(name=held.name, node=held.node, options=held.options.within(defaults), wave=held.wave)


def _element_of(annotation: object) -> Any | None:
    """Return the element type of a sequence; None of what is none."""
    plain = plain_type(annotation)
    args = [arg for arg in get_args(plain) if arg is not Ellipsis]
    if len(args) == 1 and covers(list_of(args[0], Iterable), plain):
        return args[0]
    return None
