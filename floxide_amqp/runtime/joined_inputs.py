"""The input of a node behind a join of edges: what arrived, or the error that says what did not."""

from __future__ import annotations

from typing import Any, get_args

from floxide_amqp.core.graph import GraphNode
from floxide_amqp.core.ids import WorkItemId
from floxide_amqp.core.joins import EdgeJoin, JoinShape
from floxide_amqp.core.type_args import plain_type
from floxide_amqp.core.typing_rules import assignable
from floxide_amqp.exceptions import JoinIncompleteError, UnreadableRecordError
from floxide_amqp.runtime.admission import Admitted
from floxide_amqp.runtime.decoding import decode_stored
from floxide_amqp.runtime.services import Services


async def joined_input(services: Services, admitted: Admitted, node: GraphNode) -> Any:
    """Return what a node behind a join takes, or its fallback.

    Raises:
        JoinIncompleteError: Something did not arrive that the node needs.
    """
    run, input_ = admitted.run, admitted.item.input
    name, join = await _join_of(services, admitted, node)
    arrived = await services.joins.arrivals(run.header.run_id, input_.opener, limit=input_.number)
    values: dict[int, Any] = {}
    for position, payload in arrived:
        values.setdefault(position, decode_stored(join.part(position), payload, f"What arrived at node {name!r}"))
    absent = [source for position, source in enumerate(join.sources) if position not in values]
    if join.shape is JoinShape.TUPLE:
        if absent and not _may_lack(node, join, values):
            raise JoinIncompleteError(node=name, needed=join.need, arrived=len(values), missing=tuple(absent))
        return tuple(values.get(position) for position in range(len(join.sources)))
    if len(values) < join.need and join.missing == "fail" and node.join is not None:
        raise JoinIncompleteError(node=name, needed=join.need, arrived=len(values), missing=tuple(absent))
    return [values[position] for position in sorted(values)]


async def _join_of(services: Services, admitted: Admitted, node: GraphNode) -> tuple[str, EdgeJoin]:
    """Return the join whose arrivals an item takes: its node's own, or that of the node whose fallback it is."""
    if node.join is not None:
        return node.name, node.join
    run_id, join_id = admitted.run.header.run_id, admitted.item.input.opener
    found = (await services.items.find(run_id, (WorkItemId(join_id),)))[0]
    known = None if found is None else admitted.run.graph.nodes.get(found.item.node)
    if known is None or known.join is None:
        raise UnreadableRecordError(place=f"{run_id}/i:{join_id}", problem="It joined edges, and is not what it was.")
    return known.name, known.join


def _may_lack(node: GraphNode, join: EdgeJoin, values: dict[int, Any]) -> bool:
    """Whether a node goes on without what did not arrive: its join says so, or it is a fallback that takes None."""
    if node.join is not None:
        return join.missing == "skip"
    parts = get_args(plain_type(node.input.annotation))
    return len(parts) == len(join.sources) and all(
        position in values or assignable(None, part) for position, part in enumerate(parts)
    )
