"""What a node with ``executor="process"`` must be: a function of its input, whose body needs nothing of the worker."""

from __future__ import annotations

from floxide_amqp.core.context import Context, NoContext
from floxide_amqp.core.graph import GraphNode
from floxide_amqp.core.type_names import describe_type
from floxide_amqp.exceptions import DefinitionError


def check_runs_in_process(node: GraphNode, *, where: str, is_undoing: bool = False) -> None:
    """Make sure that a node with ``executor="process"`` is one that a process can run.

    Raises:
        DefinitionError: It is not; names the cure.
    """
    if node.options.executor != "process":
        return
    signature = node.node.signature()
    who = f"{where}: node {node.name!r} has executor='process'"
    if signature.is_async:
        raise DefinitionError(
            f"{who} and is async def. A process is for def functions that keep a CPU busy: write def, or leave the "
            "executor out."
        )
    if signature.context not in (Context, NoContext):
        raise DefinitionError(
            f"{who} and reads the context {describe_type(signature.context)}, which stays in the worker. Pass it what "
            "it needs as its input, and let a node behind it change the context; its ctx is a WorkflowCtx without one."
        )
    if node.options.requires:
        names = ", ".join(kind.__name__ for kind in node.options.requires)
        raise DefinitionError(f"{who} and requires {names}: resources stay in the worker. Open what it needs in it.")
    if is_undoing or node.folds:
        what = "undoes what a step did" if is_undoing else "folds what it gathers"
        raise DefinitionError(f"{who} and {what}, which happens in the worker. Leave the executor out.")
