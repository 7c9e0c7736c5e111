"""`ChildWorkflow`: a node that starts a run of another workflow, and waits for it or not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, Self, cast, overload

from typing_extensions import TypeIs, TypeVar

from floxide_amqp.core.blueprint import AnyNode
from floxide_amqp.core.context import Context
from floxide_amqp.core.graph import Graph
from floxide_amqp.core.kin import OnClose
from floxide_amqp.core.node import Node
from floxide_amqp.core.node_names import check_name
from floxide_amqp.core.options import check_timeout
from floxide_amqp.core.signature import NodeSignature
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.exceptions import DefinitionError

I_contra = TypeVar("I_contra", contravariant=True)
O_co = TypeVar("O_co", covariant=True)
WI = TypeVar("WI")
WO = TypeVar("WO")

_MAY_SET = ("queue", "retry")


class ChildWorkflow(Node[I_contra, O_co]):
    """A run of another workflow as a node: it has its own status, context, history and retention.

    The node's item waits in the store until the child has ended, and takes no worker meanwhile. It then succeeds with
    the child's output, or fails with `ChildRunFailedError`: ``on_failure`` edges and the retry policy work as for any
    node, and each retry starts a new child. With ``wait=False`` it goes on at once with the child's run id.

    Whoever runs the outer workflow can run the inner one as well: it need not be registered.

    Args:
        workflow: The child's workflow, with one output.
        wait: Whether the node waits for the child's end.
        on_close: What becomes of a child that still goes on when its parent ends, in whatever way; by default it is
            cancelled if the node waits for it, and else it goes on.
        timeout: The longest time of the child's run, `timedelta` or seconds, in place of its workflow's own.
        context: Makes the child's initial state from the node's input; may be left out where every field of it has a
            default.
        name: The node's name; the workflow's where none is given.

    Raises:
        DefinitionError: The workflow cannot be a child, or an argument is wrong.
    """

    _needs_arguments = False

    @overload
    def __init__(
        self: ChildWorkflow[WI, WO],
        workflow: type[WorkflowDefinition[WI, WO, Any]],
        *,
        wait: Literal[True] = True,
        on_close: OnClose | None = None,
        timeout: timedelta | float | None = None,
        context: Callable[[WI], Context] | None = None,
        name: str = "",
    ) -> None: ...
    @overload
    def __init__(
        self: ChildWorkflow[WI, str],
        workflow: type[WorkflowDefinition[WI, Any, Any]],
        *,
        wait: Literal[False],
        on_close: OnClose | None = None,
        timeout: timedelta | float | None = None,
        context: Callable[[WI], Context] | None = None,
        name: str = "",
    ) -> None: ...
    def __init__(
        self,
        workflow: type[WorkflowDefinition[Any, Any, Any]],
        *,
        wait: bool = True,
        on_close: OnClose | None = None,
        timeout: timedelta | float | None = None,
        context: Callable[[Any], Context] | None = None,
        name: str = "",
    ) -> None:
        graph = _graph_of(workflow)
        where = f"ChildWorkflow({graph.workflow})"
        given = cast(object, on_close)
        if given is not None and not isinstance(given, OnClose):
            raise DefinitionError(f"{where}: on_close={given!r} must be OnClose.CANCEL or OnClose.ABANDON.")
        self.name = check_name(name or graph.workflow, where=where)
        self._workflow = workflow
        self._signature_known = NodeSignature(
            input=graph.input.annotation, output=graph.output.annotation if wait else str, takes_ctx=False,
            starts_run=True,
        )  # fmt: skip
        self._context_of = context
        self.waits = wait
        self.on_close = on_close or (OnClose.CANCEL if wait else OnClose.ABANDON)
        self.child_timeout = check_timeout(timeout, where=where)

    @property
    def workflow(self) -> type[WorkflowDefinition[Any, Any, Any]]:
        """The child's workflow."""
        return self._workflow

    @property
    def graph(self) -> Graph:
        """The child's workflow, compiled."""
        return self._workflow.graph

    def signature(self) -> NodeSignature:
        """Return what the node takes and returns."""
        return self._signature_known

    def context_for(self, value: Any) -> Context | None:
        """Return the child's initial state; None for the defaults."""
        return None if self._context_of is None else self._context_of(value)

    def with_options(self, **options: Any) -> Self:
        """Return a copy with another queue or retry policy.

        Raises:
            DefinitionError: Another option is given.
        """
        for name in options:
            if name not in _MAY_SET:
                raise DefinitionError(
                    f"{self.name!r} runs in a run of its own, so {name} cannot be set for it. A timeout is given as "
                    "ChildWorkflow(..., timeout=...); all else is set on the nodes of the workflow itself."
                )
        return super().with_options(**options)

    def is_same(self, other: AnyNode) -> bool:
        """Say whether another node of the same name starts the same workflow in the same way."""
        if not isinstance(other, ChildWorkflow):
            return False
        mine, its = cast(Any, self), cast(Any, other)
        return all(
            getattr(mine, part) == getattr(its, part)
            for part in ("_workflow", "waits", "on_close", "child_timeout", "_context_of", "options")
        )

    def process(self, ctx: Any, input: I_contra, /) -> O_co:
        """Never called: the engine starts the child and waits for it."""
        del ctx, input
        raise NotImplementedError(f"{self.name!r} is run by the engine, as a run of its own.")


def _graph_of(workflow: type[WorkflowDefinition[Any, Any, Any]]) -> Graph:
    graph = cast("Graph | None", getattr(workflow, "graph", None))
    if graph is None:
        raise DefinitionError(f"ChildWorkflow({workflow!r}): it takes a workflow class that has a start.")
    if graph.many_outputs:
        raise DefinitionError(
            f"ChildWorkflow({graph.workflow}): it may end more than once, but a node passes on one value. "
            "Close its fan-out with gather(...)."
        )
    return graph


def is_child(node: object) -> TypeIs[ChildWorkflow[Any, Any]]:
    """Say whether a node starts a run of another workflow."""
    return isinstance(node, ChildWorkflow)


def children_of(graph: Graph) -> list[ChildWorkflow[Any, Any]]:
    """Return the nodes of a graph that start runs of other workflows."""
    return [node.node for node in graph.nodes.values() if is_child(node.node)]
