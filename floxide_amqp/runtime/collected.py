"""Failures that arrive at a gather which collects them."""

from __future__ import annotations

from floxide_amqp.core.failure import ErrorInfo, FailureInfo
from floxide_amqp.core.graph import GraphNode
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.stores.encoding import encode_payload


def collected_failure(admitted: Admitted, node: GraphNode, error: ErrorInfo) -> bytes:
    """Return what arrives at the gather around a node if that has failed for good; empty where it fails the run."""
    gather = None if node.collected_by is None else admitted.run.graph.nodes[node.collected_by]
    if gather is None or gather.element is None:
        return b""
    info = FailureInfo(
        node=node.name, error_type=error.error_type, message=error.message, attempts=admitted.item.attempt + 1
    )
    return encode_payload(gather.element, info)
