"""Nodes whose bodies run in processes of their own: how such a process finds them again.

A process imports the workflow's class by its name and takes the node out of its graph; nothing of the user's objects
is sent but the input, encoded as it is stored. So a node may be whatever its workflow can hold, as long as the class
can be imported.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Any

from floxide_amqp.core.graph import GraphNode
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.exceptions import ConfigurationError

_MAIN = "__main__"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReference:
    """Where a process finds a node.

    Attributes:
        module, qualname: Of the workflow's class.
        version: Of the workflow, which another process must agree with.
        node: The node's name in its graph.
    """

    module: str
    qualname: str
    version: str
    node: str


def reference_to(workflow: type[WorkflowDefinition[Any, Any, Any]], node: str) -> NodeReference:
    """Return where a process finds a node of a workflow.

    Raises:
        ConfigurationError: It would not find the class, because it is no name of a module that can be imported.
    """
    where = f"Node {node!r} of workflow {workflow.__name__!r} has executor='process'"
    if workflow.__module__ == _MAIN:
        raise ConfigurationError(
            f"{where}, and the workflow is defined in the program that was started ({_MAIN}), which no other process "
            "can import. Move the workflow and its nodes into a module of their own, and import that."
        )
    found: object = sys.modules.get(workflow.__module__)
    for name in workflow.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is not workflow:
        raise ConfigurationError(
            f"{where}, but {workflow.__module__}:{workflow.__qualname__} is not that class. Define it at the top of a "
            "module: a process imports it by that name."
        )
    return NodeReference(
        module=workflow.__module__, qualname=workflow.__qualname__, version=workflow.graph.version, node=node
    )


def find_node(reference: NodeReference) -> GraphNode:
    """Import the workflow's class and return the node: the other end of `reference_to`.

    Raises:
        ConfigurationError: What is imported has another version, or lacks the node.
        Exception: Whatever the module raises.
    """
    found: Any = importlib.import_module(reference.module)
    for name in reference.qualname.split("."):
        found = getattr(found, name)
    if found.graph.version != reference.version or reference.node not in found.graph.nodes:
        raise ConfigurationError(
            f"{reference.module}:{reference.qualname} has no node {reference.node!r} of version {reference.version!r} "
            "any more: its file was changed under a worker that runs. Restart the worker."
        )
    node: GraphNode = found.graph.nodes[reference.node]
    return node
